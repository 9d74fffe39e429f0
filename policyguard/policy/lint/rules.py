"""Rules and exemptions that load and never decide anything, or always the same.

Warnings only: what must not load is found before, by the loader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from policyguard.policy import units
from policyguard.policy.lint.conditions import Bound, Trials, bounds_of
from policyguard.policy.meaning import canonical
from policyguard.policy.model import Policy, Rule
from policyguard.policy.source import Source, YAMLPath

_STRENGTH = {"flag": 0, "review": 1, "deny": 2}
_DOES = {"deny": "denies", "review": "reviews", "flag": "flags"}
_OUTCOMES = {"deny": "is denied", "review": "is held for review", "flag": "is flagged"}


def check_rules(source: Source, policy: Policy | None, trials: Trials) -> None:
    """Conditions that are always the same. `policy` is None for org.yaml, whose rules are for every surface."""
    own: Mapping[str, Rule] = {rule.id: rule for rule in policy.rules} if policy else {}
    for index, row in enumerate(source.data.get("rules") or []):
        reads = own[row["id"]].when.reads if policy else frozenset()
        bounds = bounds_of(policy, reads) if policy else []
        surface = policy.surface if policy else None
        _check_rule(source, ("rules", index, "when"), row, trials, bounds, surface)


def _check_rule(
    source: Source, path: YAMLPath, row: Mapping[str, Any], trials: Trials, bounds: Sequence[Bound], surface: str | None
) -> None:
    when = row["when"]
    results = trials.results(when, bounds, surface)
    if results == {"true"} and when.strip() != "true":
        who = "every request that gets here" if bounds else "every request"
        message = f"this is always true: {who} {_OUTCOMES[row['then']]}"
        source.warning(path, "PG702", message, "if that is meant, write `true`")
    elif results == {"false"}:
        _never(source, path, when, trials, bounds, surface)


def _never(
    source: Source, path: YAMLPath, when: str, trials: Trials, bounds: Sequence[Bound], surface: str | None
) -> None:
    """What of it the surface's tables decide, and what the condition itself."""
    if when.strip() == "false":
        return  # switched off by hand
    if not bounds or trials.results(when, (), surface) == {"false"}:
        hint = "two of its parts exclude each other; look at `&&`, `!` and at the texts"
        source.warning(path, "PG701", "this is never true", hint)
        return
    cause = next((b.where for b in bounds if trials.results(when, [b], surface) == {"false"}), "")
    message = f"no request that gets here meets this{': ' + cause if cause else ''}"
    source.warning(path, "PG703", message, "leave the rule out, or allow what it is about")


# ---- rules of one condition -------------------------------------------------------------------------------


def check_same(source: Source, shared: Sequence[Any]) -> None:
    """Rules whose condition another rule has, with at least their effect. `shared` are the organisation's."""
    exempt = {name for row in source.data.get("exempt") or [] for name in row["rules"]}
    rows = [*((-1, row) for row in shared), *enumerate(source.data.get("rules") or [])]
    alike: dict[str, list[tuple[int, Any]]] = {}
    for index, row in rows:
        alike.setdefault(canonical(row["when"]), []).append((index, row))
    for group in alike.values():
        free = [(index, row) for index, row in group if row["id"] not in exempt]
        for index, row in group if len(group) > 1 else ():
            others = (o for i, o in free if o is not row and _covers(o, row, i < index))
            other = next(others, None)
            if index >= 0 and other is not None:
                message = f"the rule `{other['id']}` has this very condition and {_DOES[other['then']]} already"
                source.warning(("rules", index, "when"), "PG704", message, "leave one of them out")


def _covers(other: Mapping[str, Any], row: Mapping[str, Any], earlier: bool) -> bool:
    """Whether `row` adds nothing to `other`; of two that are the same, the later one adds nothing."""
    modes = (other.get("mode", "enforce"), row.get("mode", "enforce"))
    stronger = _STRENGTH[other["then"]] - _STRENGTH[row["then"]]
    if modes[0] == modes[1] and stronger == 0:
        return earlier
    return modes[0] == "enforce" and stronger >= 0


# ---- exemptions -------------------------------------------------------------------------------------------


def check_exemptions(source: Source, policy: Policy, trials: Trials, today: date | None) -> None:
    rows = {row["id"]: row for row in source.data.get("rules") or []}
    for index, exemption in enumerate(source.data.get("exempt") or []):
        path: YAMLPath = ("exempt", index)
        until = units.day(exemption["until"])
        if today is not None and until < today:
            hint = "leave the exemption out, or give it a new end"
            source.warning((*path, "until"), "PG710", f"this ended on {until.isoformat()} and no longer applies", hint)
        elif trials.results(exemption["when"], (), policy.surface) == {"false"}:
            hint = "two of its parts exclude each other; look at `&&`, `!` and at the texts"
            source.warning((*path, "when"), "PG701", "this is never true", hint)
        else:
            _check_exempted(source, path, exemption, rows, policy.surface, trials)


def _check_exempted(
    source: Source,
    path: YAMLPath,
    exemption: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    surface: str,
    trials: Trials,
) -> None:
    """Rules that an exemption does not change."""
    for place, name in enumerate(exemption["rules"]):
        rule, where = rows[name], (*path, "rules", place)
        if rule.get("mode") == "shadow":
            hint = "a rule in shadow refuses nothing"
            source.warning(where, "PG711", f"the rule `{name}` is in shadow, so it needs no exemption", hint)
        elif _disjoint(rule["when"], exemption["when"], surface, trials):
            message = f"where the rule `{name}` fires this exemption never applies"
            source.warning(where, "PG711", message, "compare the two conditions")


def _disjoint(rule: str, exemption: str, surface: str, trials: Trials) -> bool:
    """Whether two conditions that can both be true are never true together."""
    if trials.results(f"({rule}\n) && ({exemption}\n)", (), surface) != {"false"}:
        return False
    return trials.results(rule, (), surface) != {"false"}
