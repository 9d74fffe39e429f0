"""The key file: read it, and make it where that is wanted. One line of text, for its owner's eyes only."""

from __future__ import annotations

import base64
import os
import stat
from contextlib import suppress
from pathlib import Path

from policyguard.audit.private import KEY_BYTES
from policyguard.errors import ConfigError

_PREFIX = "policyguard-key-1:"


def load_key(path: str | Path, *, create: bool) -> bytes:
    """The key in the file at `path`; with `create` a new one is made, mode 0600, where there is none.

    Processes that start together get the same key. Raises `ConfigError` for a file that is missing, that others may
    read, or that holds something else.
    """
    file = Path(path)
    try:
        if create and not file.exists():
            _create(file)
        return _read(file)
    except FileNotFoundError:
        raise ConfigError(f"there is no key file `{file}`") from None
    except OSError as error:
        raise ConfigError(f"the key file `{file}` cannot be used: {error.strerror}") from error


def _create(file: Path) -> None:
    """Write a whole file beside it, then link it into place: nobody sees half of a key, and the first one stays."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(_PREFIX + base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):  # another process was faster: its key counts
            os.link(draft, file)
    finally:
        draft.unlink()


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise ConfigError(f"the key file `{file}` is open to others (mode {mode:04o}); run `chmod 600 {file}`")
        return _key(stream.read(200), file)


def _key(content: bytes, file: Path) -> bytes:
    text = content.decode("ascii", "replace").strip()
    with suppress(ValueError):
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        if text.startswith(_PREFIX) and len(key) == KEY_BYTES:
            return key
    raise ConfigError(f"`{file}` is no key file; a key file is one line that starts with `{_PREFIX}`")
