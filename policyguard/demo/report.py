"""What the demo reports, read from the record and the sandbox's counters, not from what was sent.

`Summary` is the data; the command line prints it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from policyguard.flow.events import Event
from policyguard.store import Store, StoredEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts are requests; money is micro-dollars. `reserved_micros` is the ceilings of everything admitted.

    `released` are requests that got an answer which was held; nothing was made or paid again. `disguised` are those
    whose prompt hides its letters. `inspected` are answers whose pictures were looked at, some `withheld` or held.
    `upstream_generations` is how many generations and edits reached the upstream: the sandbox's count, else None.
    `unaccounted` is requests without exactly one decision row and legs without exactly one end; it should be 0.
    """

    requests: int
    admitted: int
    adjusted: int
    denied: int
    held: int
    approved: int
    resumed: int
    released: int
    over_budget: int
    disguised: int
    inspected: int
    withheld: int
    held_answers: int
    upstream_generations: int | None
    upstream_images: int | None
    reserved_micros: int
    spent_micros: int
    presumed_micros: int
    unaccounted: int
    by_surface: dict[str, dict[str, Any]]
    by_tenant: dict[str, dict[str, Any]]
    by_reason: dict[str, int]
    by_door: dict[str, int]
    seconds: float = 0.0
    record: str = ""
    samples: dict[str, str] = field(default_factory=dict)


def summarise(store: Store, sent: int, counts: dict[str, int] | None, *, seconds: float, record: str) -> Summary:
    """Everything from the rows of one record that this run alone wrote."""
    rows = list(_all(store))
    decisions = [row.event for row in rows if row.event.type == "request.decided"]
    outcomes = Counter(event.outcome for event in decisions)
    admitted = outcomes["allow"] + outcomes["flag"] + outcomes["resume"]
    total = store.spend()[0] if decisions else None
    answers = [row.event for row in rows if row.event.type == "output.inspected"]
    seen = Counter(event.outcome for event in answers)
    reasons = Counter(reason for event in (*decisions, *answers) for reason in _against(event))
    return Summary(
        requests=len(decisions),
        admitted=admitted,
        adjusted=sum(bool(event.body.get("adjusted")) for event in decisions if event.outcome != "deny"),
        denied=outcomes["deny"],
        held=outcomes["hold"],
        approved=sum(row.event.type == "review.approved" for row in rows),
        resumed=outcomes["resume"],
        released=outcomes["release"],
        disguised=reasons["no-obfuscation"],
        inspected=len(answers),
        withheld=seen["withhold"],
        held_answers=seen["hold"],
        over_budget=sum(count for reason, count in reasons.items() if reason.startswith("budget.")),
        upstream_generations=counts["generations"] if counts else None,
        upstream_images=counts["images"] if counts else None,
        reserved_micros=total.estimated_micros if total else 0,
        spent_micros=total.spent_micros if total else 0,
        presumed_micros=total.presumed_micros if total else 0,
        unaccounted=abs(sent - len(decisions)) + _open_legs(rows),
        by_surface=_groups(store, "surface"),
        by_tenant=_groups(store, "tenant"),
        by_reason=dict(reasons.most_common()),
        by_door=dict(Counter(event.body.get("door", "-") for event in decisions)),
        seconds=round(seconds, 1),
        record=record,
        samples=_samples(decisions),
    )


def _against(event: Event) -> set[str]:
    """Why it was refused or held, each reason once: one score may be beyond two thresholds."""
    if event.outcome not in ("deny", "hold", "withhold"):
        return set()
    counting = (r for r in event.body["reasons"] if r["mode"] == "enforce" and r["effect"] in ("deny", "review"))
    return {reason["id"] for reason in counting}


def _all(store: Store) -> Iterable[StoredEvent]:
    after = 0
    while rows := store.events(after=after, limit=1000):
        yield from rows
        after = rows[-1].seq


def _open_legs(rows: list[StoredEvent]) -> int:
    """Legs of admitted requests that have not exactly one row in which they end."""
    started = {r.event.leg_id for r in rows if r.event.type == "request.decided" and r.event.leg_id}
    ends = Counter(r.event.leg_id for r in rows if r.event.type in ("leg.settled", "leg.released", "leg.presumed"))
    return sum(ends[leg] != 1 for leg in started)


def _groups(store: Store, name: str) -> dict[str, dict[str, Any]]:
    groups = {}
    for row in store.spend((name,)):
        values = asdict(row)
        del values["by"]
        groups[row.by[name] or "-"] = {**values, "spent_micros": row.spent_micros}
    return groups


def _samples(decisions: list[Any]) -> dict[str, str]:
    """One decision id for each outcome, to look at."""
    return {event.outcome or "-": event.decision_id or "" for event in decisions}
