"""The key file: read it, make it where that is wanted, add a key. A line for each key, for its owner's eyes only.

The first line stays for ever: pseudonyms come from it. The last is the one in use; those between open what was
wrapped and signed before.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from policyguard.audit.private import KEY_BYTES, Vault
from policyguard.errors import ConfigError

_PREFIX = "policyguard-key-1:"
_MOST_BYTES = 100_000


def load_key(path: str | Path, *, create: bool) -> tuple[bytes, ...]:
    """The keys in the file at `path`, oldest first; with `create` one is made, mode 0600, where there is no file.

    Processes that start together get the same key. Raises `ConfigError` for a file that is missing, that others may
    read, or that holds something else.
    """
    file = Path(path)
    try:
        if create and not file.exists():
            with suppress(FileExistsError):  # another process was faster: its key counts
                _place(file, _line(), os.link)
        return _read(file)
    except FileNotFoundError:
        raise ConfigError(f"there is no key file `{file}`") from None
    except OSError as error:
        raise ConfigError(f"the key file `{file}` cannot be used: {error.strerror}") from error


def open_vault(path: str | Path, *, create: bool) -> Vault:
    """The vault of a key file, which follows the file where a key is added."""
    return Vault(load_key(path, create=create), again=lambda: load_key(path, create=False))


def add_key(path: str | Path) -> tuple[bytes, ...]:
    """Put a new key at the end of the file, from now on the one in use. Answers all of them."""
    file = Path(path)
    before = load_key(file, create=False)
    try:
        _place(file, "".join(map(_line, before)) + _line(), os.replace)
    except OSError as error:
        raise ConfigError(f"the key file `{file}` cannot be changed: {error.strerror}") from error
    return load_key(file, create=False)


def _line(key: bytes | None = None) -> str:
    return _PREFIX + base64.b64encode(key or os.urandom(KEY_BYTES)).decode() + "\n"


def _place(file: Path, text: str, into_place: Callable[[Path, Path], None]) -> None:
    """Write a whole file beside it, then put it into place: nobody ever sees half of a key."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        into_place(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def _read(file: Path) -> tuple[bytes, ...]:
    with file.open("rb") as stream:
        mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise ConfigError(f"the key file `{file}` is open to others (mode {mode:04o}); run `chmod 600 {file}`")
        lines = stream.read(_MOST_BYTES).decode("ascii", "replace").strip().split("\n")
    return tuple(_key(line, file) for line in lines)


def _key(line: str, file: Path) -> bytes:
    with suppress(ValueError):
        key = base64.b64decode(line.removeprefix(_PREFIX), validate=True)
        if line.startswith(_PREFIX) and len(key) == KEY_BYTES:
            return key
    raise ConfigError(f"`{file}` is no key file; a key file has lines that start with `{_PREFIX}`")
