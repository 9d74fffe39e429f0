"""Upkeep in the background: sealing, time running out, retention, exports. Any process may run it, as many as like.

Each job is taken by a lease, so that one process does it at a time, and one that was killed is replaced. A job that
fails is told and tried again later; it keeps no other from running.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event

import orjson

from policyguard.audit.export import export
from policyguard.audit.private import Vault
from policyguard.audit.proof import document
from policyguard.audit.seal import seal
from policyguard.audit.sinks import append, open_sink
from policyguard.errors import ConfigError, PolicyguardError
from policyguard.store import Store
from policyguard.store.clock import is_due
from policyguard.store.exports import Cursor

LOOK_EVERY_S = 2.0
SEAL_EVERY = timedelta(seconds=10)  # every time makes a checkpoint, and they are kept for ever
SWEEP_EVERY = timedelta(seconds=30)
LATER = timedelta(minutes=5)
SWEEP_LEASE = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class Did:
    """What one job has done, or why it could not."""

    job: str
    message: str
    failed: bool = False


class Jobs:
    """The jobs of one process. The file `checkpoints` gets every new checkpoint as a line, to be kept elsewhere."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        *,
        clock: Callable[[], datetime] | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        self._store, self._vault, self._clock = store, vault, clock or store.clock.now
        self._checkpoints = checkpoints
        self._published = 0
        self._holder = os.urandom(8).hex()
        self._swept_at: datetime | None = None
        self._sealed_at: datetime | None = None

    def once(self) -> list[Did]:
        """Do everything that is due. What was idle is not told."""
        return list(self._due())

    def run(self, stop: Event, tell: Callable[[Did], None]) -> None:
        """Go on until `stop` is set."""
        while not stop.is_set():
            for did in self._due():
                tell(did)
            stop.wait(LOOK_EVERY_S)

    def _due(self) -> Iterator[Did]:
        if is_due(self._swept_at, self._clock(), SWEEP_EVERY):
            self._swept_at = self._clock()
            yield from self._try("sweep", self._sweep)
        if is_due(self._sealed_at, self._clock(), SEAL_EVERY):
            self._sealed_at = self._clock()
            yield from self._try("seal", self._seal)
            yield from self._try("publish", self._publish)
        for cursor in self._waiting():
            yield from self._try(f"export {cursor.name}", partial(self._export, cursor))

    def _try(self, job: str, work: Callable[[], str]) -> Iterator[Did]:
        try:
            message = work()
        except PolicyguardError as error:
            yield Did(job, str(error), failed=True)
        else:
            if message:
                yield Did(job, message)

    # ---- the jobs: each says what it did, and nothing where there was nothing to do -------------------------------

    def _sweep(self) -> str:
        """Legs and reviews whose time has passed, levels of escalation, retention."""
        self._store.clock.set()
        if not self._store.leases.take("sweep", self._holder, self._clock(), SWEEP_LEASE):
            return ""
        try:
            swept = asdict(self._store.sweep(self._clock()))
        finally:
            self._store.leases.give_back("sweep", self._holder)
        return ", ".join(f"{count} {what}" for what, count in swept.items() if count)

    def _seal(self) -> str:
        count = seal(self._store, self._vault, self._clock())
        return _rows(count)

    def _publish(self) -> str:
        newest = self._store.seals.newest()
        if newest is None or newest.size == self._published or self._checkpoints is None:
            return ""
        try:
            append(self._checkpoints, orjson.dumps(document(newest, self._vault)) + b"\n")
        except OSError as error:
            raise PolicyguardError(f"the checkpoint cannot be written: {error.strerror}") from error
        self._published = newest.size
        return f"checkpoint over {newest.size} rows"

    def _waiting(self) -> list[Cursor]:
        now = self._clock()
        try:
            cursors = self._store.exports.all()
        except PolicyguardError:  # the jobs before have told it
            return []
        return [c for c in cursors if c.background and c.next_at is not None and c.next_at <= now]

    def _export(self, cursor: Cursor) -> str:
        try:
            with open_sink(cursor.target) as sink:
                count = export(self._store, self._vault, cursor, sink, self._clock(), holder=self._holder)
        except ConfigError as error:  # nothing was sent, and nothing will be until somebody acts
            self._store.exports.fail(cursor, str(error), self._clock() + LATER)
            raise
        return _rows(count)


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}" if count else ""
