"""Policies of a git revision, written into a folder of their own. Git is called without a shell.

The folder is read as git keeps it, so that nothing of the working tree is touched.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

from policyguard.errors import ConfigError

_TIMEOUT_S = 60
_MAX_BYTES = 256 * 1024 * 1024


def extract(revision: str, folder: Path, target: Path) -> Path:
    """The files of `folder` (in a git work tree) as they are at `revision`, below `target`.

    Raises `ConfigError` where there is no such revision, no such folder in it, or no git.
    """
    if revision.startswith("-"):
        raise ConfigError(f"`{revision}` is no git revision")
    where = _existing(folder)
    top = Path(_git(where, "rev-parse", "--show-toplevel").decode().strip())
    commit = _commit(where, revision)
    inside = _below(folder.resolve(), top.resolve())
    kind = _git(where, "rev-parse", "--verify", "--quiet", f"{commit}:{inside}", fails=True)
    if not kind:
        raise ConfigError(f"`{revision}` has no folder `{inside or folder}`")
    _unpack(_git(top, "archive", "--format=tar", f"{commit}:{inside}"), target)
    return target


def _existing(folder: Path) -> Path:
    """The nearest folder that is there: the revision may have one that the working tree has not."""
    resolved = folder.resolve()
    return next(path for path in (resolved, *resolved.parents) if path.is_dir())


def _below(folder: Path, top: Path) -> str:
    if not folder.is_relative_to(top):
        raise ConfigError(f"`{folder}` is not in the git work tree `{top}`")
    inside = folder.relative_to(top).as_posix()
    return "" if inside == "." else inside


def _commit(where: Path, revision: str) -> str:
    found = _git(where, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", fails=True)
    if not found:
        raise ConfigError(f"there is no folder and no git revision `{revision}`")
    return found.decode().strip()


def _git(where: Path, *arguments: str, fails: bool = False) -> bytes:
    """What git prints; with `fails` nothing where it fails."""
    command = ["git", "-C", str(where), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    except FileNotFoundError:
        raise ConfigError("git is not installed, and a revision needs it; compare two folders") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"git did not answer within {_TIMEOUT_S} seconds") from None
    if done.returncode and not fails:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(f"git: {said[0] if said else 'it failed'}")
    return b"" if done.returncode else done.stdout


def _unpack(archive: bytes, target: Path) -> None:
    """Plain files only: a link in a revision could point anywhere."""
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            name = PurePosixPath(member.name)
            content = files.extractfile(member) if member.isfile() else None
            if content is None or len(name.parts) != 1 or member.size > _MAX_BYTES:
                continue
            (target / name.parts[0]).write_bytes(content.read())
