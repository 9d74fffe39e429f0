"""Following a policies folder while it is edited: what changed, when it has come to rest, and which set is in force.

A folder is looked at by polling: a handful of `stat` calls see editors that write by rename, Kubernetes' swaps of
`..data`, releases behind a symbolic link and network file systems alike. A set is put in force as a whole or not at
all; what does not load, or what the running guard cannot take, is reported and the last good set stays.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf, nan
from pathlib import Path
from stat import S_ISLNK
from typing import NamedTuple, Self

from policyguard.errors import ConfigError, Diagnostic, PolicyError
from policyguard.logs import say
from policyguard.policy.load import Stamp, Stamps, load, stamp, stamps_of
from policyguard.policy.model import PolicySet
from policyguard.settings import SETTINGS, setting

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR

REST_S = 0.2  # between two looks that have to be the same, so that nothing half-written is read
UNREADABLE = "PG101"
_TRIES = 10
_SHARE = 20  # looking takes at most one part in so many of the time, however large the folder is
_FIRST_S = 10.0  # a file system that does not answer delays the first request, and no other
_STOP_S = 10.0


# ---- looking ----------------------------------------------------------------------------------------------


class Fingerprint(NamedTuple):
    """What tells one version of a folder from another. `files` None: it cannot be read."""

    links: Stamps  # what deployments swap
    files: Stamps | None

    @property
    def all(self) -> Stamps:
        return {**self.links, **(self.files or {})}


NOTHING = Fingerprint({}, None)


def fingerprint(folder: Path) -> Fingerprint:
    """Nothing is opened for it."""
    links = {link.name: _target(link) for link in (folder, folder / "..data")}
    try:
        files = stamps_of(folder)
    except OSError:
        files = None
    return Fingerprint({name: target for name, target in links.items() if target is not None}, files)


def _target(link: Path) -> Stamp | None:
    """What a symbolic link is; None where it is none."""
    try:
        found = link.lstat()
    except OSError:
        return None
    return stamp(found) if S_ISLNK(found.st_mode) else None


def changed(before: Fingerprint, after: Fingerprint) -> list[str]:
    """The names that came, went or are other files now."""
    old, new = before.all, after.all
    return sorted(name for name in {*old, *new} if old.get(name, ()) != new.get(name, ()))


class Looks:
    """Looks at a folder, one after the other. `cost_s` is how long the last one took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cost_s = 0.0
        self._last = self._told = self._see()

    def look(self) -> list[str] | None:
        """The names of what changed, told once when two looks saw the same; None while it still moves."""
        before, self._last = self._last, self._see()
        if self._last == self._told:
            return []
        if self._last != before:
            return None
        before, self._told = self._told, self._last
        return changed(before, self._last)

    def skip(self) -> None:
        """What the folder is now need not be told."""
        self._last = self._told = self._see()

    def again(self) -> None:
        """What was told is told once more."""
        self._told = NOTHING

    def _see(self) -> Fingerprint:
        started = time.monotonic()
        seen = fingerprint(self.folder)
        self.cost_s = time.monotonic() - started
        return seen


def read(folder: Path, now: datetime, previous: PolicySet | None = None) -> PolicySet:
    """One version of the folder: what changes while it is read is read again. Raises `PolicyError`.

    Files that are still the same as in `previous` are not read.
    """
    for _ in range(_TRIES):
        before = fingerprint(folder)
        try:
            policies = load(folder, now=now, previous=previous, stamps=before.files)
        except PolicyError:
            if fingerprint(folder) == before:
                raise
        else:
            if fingerprint(folder) == before:
                return policies
    raise PolicyError([_unreadable(folder, "the files change all the time while they are read")])


def _unreadable(folder: Path, message: str) -> Diagnostic:
    return Diagnostic(file=str(folder), line=1, column=1, code=UNREADABLE, message=message)


# ---- the set in force -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReloadState:
    """Which set is in force. `stale_since`: the folder holds another since then, which has `problems`."""

    digest: str
    loaded_at: datetime | None
    stale_since: datetime | None = None
    problems: tuple[Diagnostic, ...] = ()


@dataclass(slots=True)
class _WatchState:
    """What one process has of a watch: threads and locks do not survive a fork."""

    starting: threading.Lock = field(default_factory=threading.Lock)
    loading: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    ready: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


def every_s(watch: bool | float | None = None) -> float | None:
    """Seconds between looks, None for never: as given, else as the setting says."""
    if watch is False:
        return None
    default = SETTINGS["reload"].default
    given = setting("reload") if watch is None else default if watch is True else str(watch)
    if given == "off":
        return None
    try:
        seconds = float(given or "")
    except ValueError:
        seconds = nan
    if not 0 < seconds < inf:
        raise ConfigError(f"`POLICYGUARD_RELOAD` is a number of seconds or `off`, not `{given}`")
    return seconds


class Watch:
    """The policies in force, and the folder that they follow. Thread-safe; survives a fork.

    `every_s` is the time between looks; None: only `reload` changes the set. `fits` raises `PolicyError` for a set
    that cannot be put in force.
    """

    def __init__(self, policies: PolicySet, *, clock: Callable[[], datetime], every_s: float | None = None) -> None:
        self.policies = policies
        self.state = ReloadState(policies.digest, policies.loaded_at)
        self.every_s = every_s
        self.fits: Callable[[PolicySet], None] = lambda policies: None
        self._clock = clock
        self._looks = Looks(Path(policies.folder))
        self._processes: dict[int, _WatchState] = {}
        self._closed = False

    @classmethod
    def open(cls, folder: str | Path, *, clock: Callable[[], datetime], every_s: float | None) -> Self:
        """Load the folder. Raises `PolicyError` with every problem."""
        looks = Looks(Path(folder))  # before it is read, so that a change meanwhile is seen
        watch = cls(read(looks.folder, clock()), clock=clock, every_s=every_s)
        watch._looks = looks
        return watch

    # ---- following --------------------------------------------------------------------------------------------

    @property
    def following(self) -> bool:
        """Whether `follow` has nothing to do in this process."""
        if self.every_s is None or self._closed:
            return True
        process = self._processes.get(os.getpid())
        return process is not None and process.ready.is_set()

    def follow(self) -> None:
        """Follow the folder from a thread of this process. Back when it has been looked at once."""
        if self.following:
            return
        process = self._process()
        with process.starting:
            if process.thread is None:
                process.thread = threading.Thread(
                    target=self._run, args=(process,), name="policyguard-policies", daemon=True
                )
                process.thread.start()
        if not process.ready.wait(_FIRST_S):
            words = "looking at the policies takes long; the set %s stays in force meanwhile"
            say(WARNING, "policies.slow", words, self.state.digest, digest=self.state.digest)
            process.ready.set()

    def close(self) -> None:
        """Stop following. The set in force stays."""
        self._closed = True
        process = self._processes.pop(os.getpid(), None)
        if process is not None and process.thread is not None:
            process.stop.set()
            process.thread.join(_STOP_S)

    def _process(self) -> _WatchState:
        return self._processes.setdefault(os.getpid(), _WatchState())

    def _run(self, process: _WatchState) -> None:
        while not process.stop.is_set():
            try:
                self._look(process)
            except Exception as error:  # whatever it is, the next look comes
                raised = type(error).__name__
                say(ERROR, "policies.unseen", "the policies could not be looked at (%s)", raised, raised=raised)
            process.ready.set()
            process.stop.wait(max(self.every_s or 0.0, self._looks.cost_s * _SHARE))

    def _look(self, process: _WatchState) -> None:
        names = self._looks.look()
        while names is None and not process.stop.wait(REST_S):
            names = self._looks.look()
        if names:
            with process.loading, suppress(PolicyError):  # reported already
                self._load(self.policies)

    # ---- loading ----------------------------------------------------------------------------------------------

    def reload(self) -> PolicySet:
        """Load the whole folder now. Raises `PolicyError` and keeps the set in force where it does not load."""
        with self._process().loading:
            self._looks.skip()
            return self._load()

    def _load(self, previous: PolicySet | None = None) -> PolicySet:
        try:
            policies = read(self._looks.folder, self._clock(), previous)
            self.fits(policies)
        except PolicyError as error:
            self._refuse(error.diagnostics)
            raise
        except Exception as error:  # a fault of ours must not end the following
            problem = _unreadable(self._looks.folder, f"the policies cannot be read ({type(error).__name__})")
            self._refuse((problem,))
            raise PolicyError([problem]) from error
        self._put(policies)
        return policies

    def _put(self, policies: PolicySet) -> None:
        before, self.policies = self.state, policies
        self.state = ReloadState(policies.digest, policies.loaded_at)
        if before.digest != policies.digest:
            words, digests = "new policies in force: %s -> %s", (before.digest, policies.digest)
            say(INFO, "policies.loaded", words, *digests, digest=policies.digest, before=before.digest)
        elif before.stale_since is not None:
            say(INFO, "policies.loaded", "the policies load again: %s", policies.digest, digest=policies.digest)

    def _refuse(self, problems: tuple[Diagnostic, ...]) -> None:
        if any(problem.code == UNREADABLE for problem in problems):  # it may be readable next time, unchanged
            self._looks.again()
        if problems == self.state.problems:
            return
        since = self.state.stale_since or self._clock()
        self.state = replace(self.state, stale_since=since, problems=problems)
        errors = [problem for problem in problems if problem.severity == "error"]
        first = errors[0]
        place = f"{first.file}:{first.line}:{first.column}"
        say(
            WARNING,
            "policies.stale",
            "the policies do not load (%d problem%s, first %s at %s); in force since %s stays %s",
            len(errors),
            "s" if len(errors) > 1 else "",
            first.code,
            place,
            self.state.loaded_at,
            self.state.digest,
            problems=len(errors),
            code=first.code,
            place=place,
            digest=self.state.digest,
            stale_since=since.isoformat(),
        )
