"""What the store's tests start from: steps with a frozen time, and the check that the books balance."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from databases import connect

from policyguard.audit.private import Vault
from policyguard.decision import Mode
from policyguard.flow.events import DIMENSIONS, Event, EventType, event_id
from policyguard.flow.states import LegState
from policyguard.flow.steps import Charge, Hold, Private, Record, RefusedLeg, Reserve, Resume, Settle
from policyguard.policy.model import Unit
from policyguard.store import Store, open_store
from policyguard.store.address import sqlite_path

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = datetime(2026, 11, 24, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
CENTS = 10_000  # micro-dollars
VAULT = Vault(bytes(32))
USER = VAULT.pseudonym("user", "u1")
WHO: Mapping[str, str | None] = {
    **dict.fromkeys(DIMENSIONS),
    "surface": "avatars",
    "tenant": "acme",
    "user": USER,
}


ENGINES = ("sqlite", "postgres")


def open_at(url: str | Path, vault: Vault = VAULT) -> Store:
    return open_store(_address(url), vault=vault, synchronous="NORMAL")


def event(type_: EventType, subject: str, **changes: Any) -> Event:
    values: dict[str, Any] = {"at": NOW, "dimensions": WHO, "body": {"mode": "enforce"}, "keep_days": 400, **changes}
    return Event(id=event_id(type_, subject), type=type_, **values)


def charge(
    amount: int = 10 * CENTS,
    limit: int = 100 * CENTS,
    *,
    key: str = "day",
    unit: Unit = "usd",
    starts: datetime = DAY,
    mode: Mode = "enforce",
    alert_at: tuple[int, ...] = (),
) -> Charge:
    return Charge(
        budget_id=key,
        key=key,
        unit=unit,
        amount=amount,
        limit=limit,
        starts=starts,
        ends=starts + timedelta(days=1),
        local=starts,
        mode=mode,
        alert_at=alert_at,
    )


def reserve(
    leg: str,
    *charges: Charge,
    ceiling: int = 10 * CENTS,
    review: Resume | None = None,
    upstream: str | None = None,
    **facts: Any,
) -> Reserve:
    decided = event(
        "request.decided",
        f"dec_{leg}",
        decision_id=f"dec_{leg}",
        leg_id=leg,
        outcome="allow",
        dimensions={**WHO, **{k: v for k, v in facts.items() if k in DIMENSIONS}},
        body={"mode": "enforce", "policy_digest": "sha256:p", "asked": {"n": 1}},
    )
    return Reserve(
        leg_id=leg,
        charges=charges or (charge(),),
        ceiling_micros=ceiling,
        expires_at=facts.pop("expires_at", NOW + MINUTE),
        event=decided,
        facts={**WHO, "model": "m", "size": "1024x1024", "quality": "low", "n": 1, "keep_days": 400, **facts},
        review=review,
        upstream=upstream,
    )


def settle(
    leg: str,
    state: Literal[LegState.SETTLED, LegState.RELEASED, LegState.PRESUMED] = LegState.SETTLED,
    cost: int | None = 4 * CENTS,
    *,
    review: str | None = None,
    answered: bool | None = None,
) -> Settle:
    types: dict[LegState, EventType] = {
        LegState.SETTLED: "leg.settled",
        LegState.RELEASED: "leg.released",
        LegState.PRESUMED: "leg.presumed",
    }
    ended: EventType = "review.resume_failed" if state is LegState.RELEASED else "review.released"
    return Settle(
        leg_id=leg,
        state=state,
        charge_micros=None if state is LegState.PRESUMED else 0 if state is LegState.RELEASED else cost,
        event=event(types[state], leg, decision_id=f"dec_{leg}", leg_id=leg, outcome=state.value),
        review_event=event(ended, review, review_id=review) if review else None,
        answered=answered,
    )


def hold(review_id: str = "rev_1", **changes: Any) -> Hold:
    values: dict[str, Any] = {
        "review_id": review_id,
        "decision_id": f"dec_{review_id}",
        "surface": "avatars",
        "tenant": "acme",
        "user": USER,
        "subject": USER,
        "request_digest": "sha256:r",
        "policy_digest": "sha256:p",
        "reasons": ("moderation.violence",),
        "approvals": 1,
        "reviewers": ("ada", "grace", "u1"),
        "escalate": ((NOW + 30 * MINUTE, ("oncall",)), (NOW + 2 * HOUR, ("boss",))),
        "created_at": NOW,
        "due_at": NOW + 4 * HOUR,
        "ceiling_micros": 10 * CENTS,
        "events": (
            event("request.decided", f"dec_{review_id}", decision_id=f"dec_{review_id}", review_id=review_id),
            event("review.held", review_id, decision_id=f"dec_{review_id}", review_id=review_id),
        ),
        "private": (private(f"request:{review_id}", b"a secret prompt", kind="request"),),
        **changes,
    }
    return Hold(**values)


def resume(review_id: str = "rev_1", digest: str = "sha256:p", by: str = "dec_leg") -> Resume:
    return Resume(review_id, digest, event("review.resuming", f"{review_id}:{by}", review_id=review_id))


def private(id_: str, text: bytes, *, kind: str = "prompt", subject: str = USER, keep_days: int = 30) -> Private:
    return Private(id=id_, kind=kind, subject=subject, plaintext=text, keep_days=keep_days)


def refused(decision: str, ceiling: int | None = None, model: str | None = None, **changes: Any) -> Record:
    denied = event("request.decided", decision, decision_id=decision, outcome="deny", **changes)
    if ceiling is None:
        return Record((denied,))
    return Record((denied,), refusal=RefusedLeg({**denied.dimensions, "model": model}, ceiling))


def balance(store: Store, key: str = "day") -> tuple[int, int]:
    """Reserved and spent over all windows of a key."""
    windows = [w for w in store.budget_windows() if w.key == key]
    return sum(w.reserved for w in windows), sum(w.spent for w in windows)


def types(store: Store, **equal: str) -> list[str]:
    return [stored.event.type for stored in store.events(limit=10_000, **equal)]


def rows(url: str | Path, sql: str) -> list[tuple[Any, ...]]:
    """What stands in the database, read beside the store."""
    address = _address(url)
    if "postgresql" in address:
        with connect(address) as server:
            return server.execute(sql).fetchall()
    with closing(sqlite3.connect(f"{sqlite_path(address).as_uri()}?mode=rw", uri=True)) as file:
        return file.execute(sql).fetchall()


def _address(url: str | Path) -> str:
    """An object that is neither, like a store, would name a new and empty file."""
    if not isinstance(url, str | Path):
        raise TypeError(f"a URL or a path names a database, not {url!r}")
    return str(url)


def assert_books_balance(url: str | Path) -> None:
    """Reserved is the sum over live legs, spent the sum of what was charged, in every window; each end has one row."""
    sums = """
      SELECT w.key, w.starts_us, w.reserved, w.spent,
        COALESCE(SUM(CASE WHEN l.state IN ('held', 'sent') THEN c.amount ELSE 0 END), 0),
        COALESCE(SUM(CASE WHEN l.state NOT IN ('settled', 'presumed') THEN 0
          WHEN w.unit = 'usd' THEN l.charged_micros ELSE c.amount END), 0)
      FROM budget_windows w LEFT JOIN leg_charges c ON c.key = w.key AND c.starts_us = w.starts_us
      LEFT JOIN legs l ON l.leg_id = c.leg_id GROUP BY w.key, w.starts_us, w.reserved, w.spent
    """
    for key, starts, reserved, spent, live, charged in rows(url, sums):
        assert (key, starts, reserved, spent) == (key, starts, live, charged)
    assert rows(url, "SELECT leg_id FROM legs WHERE leg_id NOT IN (SELECT leg_id FROM events WHERE leg_id <> '')") == []
    ended = "SELECT leg_id FROM legs WHERE state NOT IN ('held', 'sent') AND 'leg.' || state || ':' || leg_id NOT IN"
    assert rows(url, f"{ended} (SELECT id FROM events)") == []
