"""`Store` performs the steps of the flow and answers what the command line asks.

What an operation does stands in a function beside this module; which one a step is performed by, in `operations`; how
it is run, with whom and on which connection, in `db.group` and `db.database`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, tzinfo
from typing import Any

from sqlalchemy import Connection

from policyguard.errors import ConfigError, PolicyguardError
from policyguard.flow.events import Event, event_id
from policyguard.flow.steps import (
    Pause,
    Release,
    Reserve,
    ReviewItem,
    Settled,
    Step,
)
from policyguard.request import Usage
from policyguard.store import (
    address,
    due,
    durability,
    gauges,
    held_answers,
    leases,
    ledger,
    operations,
    pauses,
    reconcile,
    record,
    reports,
    review,
    schema,
    spike,
    subjects,
    upkeep,
    votes,
)
from policyguard.store.cipher import Cipher, Sealed
from policyguard.store.clock import Clock, host_now
from policyguard.store.db.database import Backend, Database
from policyguard.store.db.group import GroupWork
from policyguard.store.db.patience import off_loop
from policyguard.store.db.sql import Together
from policyguard.store.exports import Exports
from policyguard.store.gauges import Gauges
from policyguard.store.leases import Leases
from policyguard.store.notes import Note, read_note, write_note
from policyguard.store.operations import READS, TOGETHER, sent
from policyguard.store.proxy_keys import ProxyKey, ProxyKeys
from policyguard.store.reconcile import PresumedLeg
from policyguard.store.record import StoredEvent
from policyguard.store.reports import BudgetWindow, SpendRow
from policyguard.store.schema import SchemaStatus
from policyguard.store.seals import Seals
from policyguard.store.spike import Spike
from policyguard.store.subjects import Envelope, Erased
from policyguard.store.upkeep import Swept
from policyguard.store.votes import Ballot
from policyguard.text.identity import identity

ACCESS_KEEP_DAYS = 400  # how long it stays known who read private data


def open_store(url: str, *, vault: Cipher, synchronous: str | None = None) -> Store:
    """A store at `sqlite:///path` or `postgresql+psycopg://user@host/name`, opened at first use. Raises `ConfigError`.

    `synchronous` is SQLite's `FULL` (survives power loss) or `NORMAL`.
    """
    return Store(address.backend(url, synchronous), cipher=vault)


class Store:
    """Thread-safe; survives a fork; close it when done. Any method may raise `StoreUnavailable`."""

    def __init__(self, backend: Backend, *, cipher: Cipher, host: Callable[[], datetime] = host_now) -> None:
        self._cipher = cipher
        self._database = Database(backend, opened=self._opened)
        self.clock = Clock(self._database.now if backend.clock_sql else None, host=host)
        self.on_cut = self._database.on_cut
        self._write = self._database.write
        self._read = self._database.read

    def check(self) -> SchemaStatus:
        """Open the database now. Raises `ConfigError` where the key belongs to another one."""
        return SchemaStatus(self._read(schema.version))

    def probe(self, now: datetime) -> None:
        """Write something on the way that requests take. Raises as they would."""
        self._write(lambda c: leases.probe(c, now))

    def durability(self) -> str | None:
        """What an outage of the database could take back of what it acknowledged; None: nothing that we see."""
        return self._read(durability.window)

    def close(self) -> None:
        self._database.close()

    def _opened(self, database: Database) -> None:
        schema.ensure(database)
        schema.check_key(database, self._cipher.key_id)
        self.clock.set()

    # ---- the flow ---------------------------------------------------------------------------------------------

    def perform(self, step: Step, now: datetime) -> Any:
        """Do what the flow asks; the step says what the answer is. What a refusal would have changed is undone."""
        kind = type(step)
        if kind in READS:
            return self._read(lambda c: READS[kind](c, step, now))
        if isinstance(step, Release):
            return self._write(lambda c: held_answers.release(c, step, now, self._cipher))
        answer = self._write(self._work(step, now))
        return self._reserve_swept(step, now) if isinstance(step, Reserve) and answer is ledger.DUE else answer

    async def aperform(self, step: Step, now: datetime) -> Any:
        """`perform` for async code: it waits for its group without a thread of its own."""
        kind, call = type(step), None
        if kind in READS:
            call = self._database.submit(lambda c: READS[kind](c, step, now), reads=True)
        elif kind in TOGETHER:
            call = self._database.submit(self._work(step, now))
        if call is None:
            return await off_loop(self.perform, step, now)
        answer = await call.awaited()
        if isinstance(step, Reserve) and answer is ledger.DUE:
            return await off_loop(self._reserve_swept, step, now)
        return answer

    def mark_sent(self, leg_id: str, expires_at: datetime, now: datetime) -> bool:
        """Before the request goes upstream. False: the leg ran out or has ended, do not send."""
        return self._write(sent(leg_id, expires_at, now))

    async def amark_sent(self, leg_id: str, expires_at: datetime, now: datetime) -> bool:
        """`mark_sent` for async code."""
        call = self._database.submit(sent(leg_id, expires_at, now))
        return bool(await call.awaited()) if call else await off_loop(self.mark_sent, leg_id, expires_at, now)

    def renew(self, leg_id: str, expires_at: datetime) -> bool:
        """More time for a leg that is still upstream. False: it has ended."""
        return self._write(Together(lambda: ledger.renew(leg_id, expires_at)))

    def _work(self, step: Step, now: datetime) -> GroupWork:
        return operations.work(step, now, self._sealed(step))

    def _reserve_swept(self, step: Reserve, now: datetime) -> Any:
        self._sweep_legs(now)
        return self._write(operations.reserve_swept(step, now, self._sealed(step)))

    def give_back(self, leg_id: str, now: datetime) -> bool:
        """Release a leg of which nobody was told, so that nothing was sent on it. False: there is none."""
        return self._write(lambda c: due.give_back(c, leg_id, now))

    # ---- the stop button --------------------------------------------------------------------------------------

    def pause(self, scope: str, value: str, *, why: str, by: str, now: datetime) -> None:
        """Refuse from the next request on, in every process. A user is given by name or by pseudonym."""
        note, target = self._note(by, why), self._target(scope, value)

        def work(connection: Connection) -> None:
            pauses.pause(connection, scope, target, note, now)
            record.write_private(connection, [(note.envelope, None)], now)

        self._write(work)

    def unpause(self, scope: str, value: str, *, why: str, by: str, now: datetime) -> bool:
        """False: it was not paused."""
        note, target = self._note(by, why), self._target(scope, value)

        def work(connection: Connection) -> bool:
            lifted = pauses.unpause(connection, scope, target, note, now)
            if lifted:
                record.write_private(connection, [(note.envelope, None)], now)
            return lifted

        return self._write(work)

    def pauses(self) -> list[Pause]:
        """What is paused now, with who and why."""
        return self._read(lambda c: pauses.pauses(c, self._open_note))

    def _target(self, scope: str, value: str) -> str:
        """The value as rows have it, however it was typed."""
        value = identity(value)
        pauses.check_scope(scope, value)
        return self._pseudonym(value) if scope == "user" and not re.fullmatch("user_[0-9a-f]{32}", value) else value

    # ---- reviews ----------------------------------------------------------------------------------------------

    def reviews(
        self, states: Iterable[str] = ("held",), limit: int = 100, *, now: datetime | None = None
    ) -> list[ReviewItem]:
        """Items in these states, the most urgent first, with their votes; with `now` only what has not run out."""
        return self._read(lambda c: review.items(c, states, limit, self._open_note, now))

    def review(self, review_id: str) -> ReviewItem | None:
        return self._read(lambda c: review.item(c, review_id, self._open_note))

    def vote(
        self,
        review_id: str,
        reviewer: str,
        verdict: Ballot,
        reason: str,
        now: datetime,
        *,
        policy_digest: str | None = None,
    ) -> ReviewItem:
        """Count a named person's vote, and decide the item where it is enough. Raises `ReviewConflict`.

        `policy_digest` is the item's as the reviewer saw it: a vote on an older one does not count.
        """
        note = self._note(reviewer, reason)

        def work(connection: Connection) -> ReviewItem | None:
            keep_days = votes.vote(connection, review_id, reviewer, verdict, note, policy_digest, now, self._cipher)
            record.write_private(connection, [(note.envelope, keep_days)], now)
            return review.item(connection, review_id, self._open_note)

        item = self._write(work)
        if item is None:  # the vote has just locked it
            raise PolicyguardError("a review vanished under its vote")
        return item

    # ---- the record -------------------------------------------------------------------------------------------

    def events(
        self,
        *,
        after: int | None = None,
        limit: int = 100,
        since: datetime | None = None,
        until: datetime | None = None,
        **equal: str | None,
    ) -> list[StoredEvent]:
        """Rows of the record in their order: those after the number `after`, else the last `limit`.

        `equal` filters by `id`, `type`, `decision_id`, `leg_id`, `review_id`, `outcome`, or one of `DIMENSIONS`.
        """
        return self._read(
            lambda c: record.read_events(c, after=after, limit=limit, since=since, until=until, equal=equal)
        )

    def private(self, id_: str, *, by: str, now: datetime) -> bytes | None:
        """Decrypt one private row, recorded before it is handed out; None where it is not there (any more)."""
        found = self._read(lambda c: record.read_private(c, id_, self._cipher))
        if found is None:
            return None
        sealed, plaintext = found
        read = Event(
            id=event_id("access.read", f"{id_}:{os.urandom(8).hex()}"),
            type="access.read",
            at=now,
            body={"private_id": id_, "kind": sealed.kind, "subject": sealed.subject, "by": self._pseudonym(by)},
            keep_days=ACCESS_KEEP_DAYS,
        )
        self._write(lambda c: record.write_events(c, (read,)))
        return plaintext

    def spend(
        self,
        by: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        zone: tzinfo = UTC,
    ) -> list[SpendRow]:
        """What was asked for in this time, by one or more of `reports.SPEND_BY`; without any the total."""
        return self._read(lambda c: reports.spend(c, by, since, until, zone))

    def explain_spend(self, day: date, zone: tzinfo = UTC) -> Spike:
        """Why a day cost what it cost, against the mean of the week before."""
        return self._read(lambda c: spike.explain(c, day, zone))

    def budget_windows(self, at: datetime | None = None) -> list[BudgetWindow]:
        """Balances of the windows that are open at `at`; without it of all there ever were."""
        return self._read(lambda c: reports.budget_windows(c, at))

    def gauges(self, now: datetime) -> Gauges:
        """How the ledger stands, for telemetry."""
        return self._read(lambda c: gauges.gauges(c, now))

    # ---- reconciliation ---------------------------------------------------------------------------------------

    def presumed(self, limit: int = 1_000) -> list[PresumedLeg]:
        """Legs that were charged at their ceiling without an outcome, the oldest first."""
        return self._read(lambda c: reconcile.presumed(c, limit))

    def reconcile(
        self,
        leg_id: str,
        charge_micros: int | None,
        *,
        by: str,
        why: str,
        now: datetime,
        usage: Usage | None = None,
    ) -> Settled:
        """Settle a presumed leg at what it cost, or give it back where that is None. A person answers for it."""
        return self.reconcile_all({leg_id: (charge_micros, usage)}, by=by, why=why, now=now)[leg_id]

    def reconcile_all(
        self, costs: Mapping[str, tuple[int | None, Usage | None]], *, by: str, why: str, now: datetime
    ) -> dict[str, Settled]:
        """Put presumed legs right, by their ids, each by its cost: all of them, or none where one cannot be."""
        if not by.strip():
            raise ConfigError("a presumed leg is put right by somebody with a name")
        note = self._note(by, why)

        def work(connection: Connection) -> dict[str, Settled]:
            settled = {
                leg_id: reconcile.resolve(connection, leg_id, cost, usage, note, now)
                for leg_id, (cost, usage) in costs.items()
            }
            if any(one.changed for one in settled.values()):
                record.write_private(connection, [(note.envelope, None)], now)
            return settled

        return self._write(work)

    # ---- upkeep -----------------------------------------------------------------------------------------------

    def sweep(self, now: datetime) -> Swept:
        """Let time do its work: legs and reviews that ran out, escalations, retention. Twice is once."""
        work = self._read(lambda c: upkeep.work(c, now))
        released, presumed = self._sweep_legs(now) if work.legs else (0, 0)
        return Swept(
            released=released,
            presumed=presumed,
            expired=self._all(review.expire, now) if work.reviews else 0,
            escalated=self._all(review.escalate, now) if work.levels else 0,
            deleted=self._all(upkeep.delete_past, now) if work.retention else 0,
        )

    def _sweep_legs(self, now: datetime) -> tuple[int, int]:
        released, presumed, more = 0, 0, True
        while more:
            counts = self._write(lambda c: due.sweep_legs(c, now))
            released, presumed, more = released + counts[0], presumed + counts[1], counts[2]
        return released, presumed

    def _all(self, batch: Callable[[Connection, datetime], tuple[int, bool]], now: datetime) -> int:
        """Batch after batch, each its own short transaction."""
        total, more = 0, True
        while more:
            count, more = self._write(lambda c: batch(c, now))
            total += count
        return total

    # ---- the sealed record ------------------------------------------------------------------------------------

    @property
    def seals(self) -> Seals:
        """Leaves and checkpoints, for the audit layer."""
        return Seals(self._read, self._write)

    @property
    def exports(self) -> Exports:
        """Cursors of exports."""
        return Exports(self._read, self._write)

    @property
    def proxy_keys(self) -> ProxyKeys:
        """Callers' keys of the proxy."""
        return ProxyKeys(self._read, self._write, self._cipher)

    async def aproxy_key(self, secret_digest: str) -> ProxyKey | None:
        """`proxy_keys.find` for async code."""
        keys = self.proxy_keys
        call = self._database.submit(keys.finding(secret_digest), reads=True)
        found: ProxyKey | None = await (call.awaited() if call else off_loop(keys.find, secret_digest))
        return found

    @property
    def leases(self) -> Leases:
        """Who does a job of upkeep now."""
        return Leases(self._write)

    def erase(self, user: str, *, why: str, by: str, now: datetime) -> Erased:
        """Destroy everything private of a user, given by name or by pseudonym, and what others wrote about the user.

        The record itself stays: it knows the user by a pseudonym alone. What an earlier version kept under another
        spelling of the name goes, too.
        """
        note, subject = self._note(by, why), self._target("user", user)
        every = {subject} if subject == user else self._cipher.pseudonyms("user", user)

        def work(connection: Connection) -> Erased:
            erased = subjects.erase(connection, sorted(every))
            record.write_private(connection, [(note.envelope, None)], now)
            event = subjects.erased_event(subject, erased, note.pseudonym, note.id, now)
            record.write_events(connection, (event,))
            return erased

        return replace(self._write(work), scrubbed=self._database.scrub())

    def rewrap(self, *, why: str, by: str, now: datetime) -> int:
        """Wrap every subject's key with the newest key of the vault: how many. Their rows stay as they are."""
        note, count, more = self._note(by, why), 0, True
        while more:
            done, more = self._write(lambda c: subjects.rewrap(c, self._cipher))
            count += done

        def work(connection: Connection) -> None:
            event = subjects.key_added_event(self._cipher.newest_id, count, note.pseudonym, note.id, now)
            record.write_private(connection, [(note.envelope, None)], now)
            record.write_events(connection, (event,))

        self._write(work)
        return count

    # ---- private data -----------------------------------------------------------------------------------------

    def _sealed(self, step: Step) -> operations.Sealing:
        return [(Envelope(self._cipher, private), private.keep_days) for private in getattr(step, "private", ())]

    def _pseudonym(self, name: str) -> str:
        return self._cipher.pseudonym("user", name)

    def _note(self, name: str, words: str) -> Note:
        return write_note(self._cipher, name, words)

    def _open_note(self, connection: Connection, sealed: Sealed) -> tuple[str, str]:
        return read_note(connection, self._cipher, sealed)
