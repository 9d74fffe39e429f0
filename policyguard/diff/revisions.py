"""Policies of a git revision, written into a folder of their own. Git is called without a shell.

Files are read as git keeps them, one by one: an archive could leave out what `.gitattributes` says, and so hide a
surface. Nothing of the working tree is touched.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from policyguard.errors import ConfigError

_TIMEOUT_S = 60
_LINK = "120000"


def extract(revision: str, folder: Path, target: Path) -> Path:
    """The policies of `folder` (in a git work tree) as they are at `revision`, written to `target`.

    Raises `ConfigError` where there is no such revision, no such folder in it, or no git.
    """
    if revision.startswith("-"):
        raise ConfigError(f"`{revision}` is no git revision")
    where = _existing(folder)
    top = Path(os.fsdecode(_git(where, "rev-parse", "--show-toplevel").removesuffix(b"\n")))
    commit = _commit(where, revision)
    inside = _below(folder.resolve(), top.resolve())
    listed = _git(where, "ls-tree", "-z", "--full-tree", f"{commit}:{inside}", fails=True)
    if not listed:
        raise ConfigError(f"`{revision}` has no folder `{inside or folder}`")
    blobs = list(_policies(listed, revision))
    target.mkdir(parents=True, exist_ok=True)
    for name, content in zip(dict(blobs), _contents(where, [blob for _, blob in blobs]), strict=True):
        (target / name).write_bytes(content)
    return target


def _policies(listed: bytes, revision: str) -> Iterator[tuple[str, str]]:
    """The names and ids of the YAML files. A link is no file here, and skipping it would hide a surface."""
    for entry in listed.decode(errors="surrogateescape").split("\0"):
        head, _, name = entry.partition("\t")
        if not name.lower().endswith((".yaml", ".yml")):
            continue
        mode, kind, blob = head.split()
        if mode == _LINK:
            raise ConfigError(f"`{name}` of `{revision}` is a link; policies are compared from plain files")
        if kind == "blob":
            yield name, blob


def _contents(where: Path, blobs: list[str]) -> Iterator[bytes]:
    """What git keeps under these ids, in order: a line with the size, then as many bytes and a line end."""
    answer = _git(where, "cat-file", "--batch", said="\n".join(blobs)) if blobs else b""
    for _ in blobs:
        head, _, answer = answer.partition(b"\n")
        size = int(head.split()[2])
        yield answer[:size]
        answer = answer[size + 1 :]


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


def _git(where: Path, *arguments: str, fails: bool = False, said: str = "") -> bytes:
    """What git prints when it is `said` something; with `fails`, nothing where it fails."""
    command = ["git", "-C", str(where), *arguments]
    try:
        done = subprocess.run(command, input=said.encode(), capture_output=True, timeout=_TIMEOUT_S)  # noqa: S603
    except FileNotFoundError:
        raise ConfigError("git is not installed, and a revision needs it; compare two folders") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"git did not answer within {_TIMEOUT_S} seconds") from None
    if done.returncode and not fails:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(f"git: {lines[0] if lines else 'it failed'}")
    return b"" if done.returncode else done.stdout
