"""Checked documents to compiled policies: names resolved, rules compiled, tables built, the meaning digested.

Everything that is wrong goes to the problems of the file that says it; nothing here raises for a policy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from zoneinfo import ZoneInfo

from policyguard import pricing
from policyguard.decision import Effect, Place
from policyguard.policy import units
from policyguard.policy.expr import CallerType, Compiled, Environment, ExpressionErrors, compile_expression
from policyguard.policy.limits import Leaves
from policyguard.policy.model import (
    AuditRules,
    Budget,
    CallerField,
    Escalation,
    Exemption,
    ModerationRules,
    RequestRules,
    ReviewRules,
    Rule,
    Threshold,
)
from policyguard.policy.source import Path, Source, did_you_mean
from policyguard.request import AUTO, ImageRequest, parse_size

_EFFECTS: Mapping[str, Any] = {"deny": Effect.DENY, "review": Effect.REVIEW, "flag": Effect.FLAG}
DENY_AT = 0.50  # where neither the surface nor the organisation says a threshold
MODERATION_TIMEOUT = timedelta(seconds=10)
REVIEW_EXPIRES = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the organisation gives to every surface."""

    environment: Environment
    caller: tuple[CallerField, ...]
    groups: Mapping[str, tuple[str, ...]]


def place(source: Source, path: Path) -> Place:
    mark = source.mark(path)
    return Place(source.file, mark.line, mark.column)


# ---- who asks ---------------------------------------------------------------------------------------------


def shared(source: Source) -> Shared:
    callers = tuple(_callers(source))
    types = {f.name: CallerType(optional=not f.required and f.default is None, values=f.values) for f in callers}
    groups = {name: tuple(people) for name, people in (source.data.get("groups") or {}).items()}
    return Shared(Environment(types), callers, groups)


def _callers(source: Source) -> Iterator[CallerField]:
    declared = source.data.get("caller") or {}
    for name, spec in declared.items():
        path: Path = ("caller", name)
        header = spec.get("from")
        if header and not source.data.get("trusted_proxies"):
            hint = "without a trusted proxy anybody could say who they are"
            source.problem((*path, "from"), "PG209", "a header needs `trusted_proxies`", hint)
        values = tuple(spec.get("values") or ())
        default = spec.get("default")
        if default is not None and values and default not in values:
            source.problem((*path, "default"), "PG303", f"`{default}` is not one of the values")
        yield CallerField(
            name=name,
            place=place(source, path),
            header=header[len('http.headers["') : -2] if header else None,
            required=bool(spec.get("required")),
            default=default,
            values=values,
        )


def trusted_proxies(source: Source) -> tuple[IPv4Network | IPv6Network, ...]:
    found = []
    for index, text in enumerate(source.data.get("trusted_proxies") or []):
        try:
            found.append(ip_network(text))
        except ValueError:
            source.problem(("trusted_proxies", index), "PG205", "a network is written like `10.0.0.0/8`")
    return tuple(found)


# ---- request ----------------------------------------------------------------------------------------------


def request_rules(values: Leaves, *, limits: bool = False) -> RequestRules:
    """The table of what may be asked for. For limits alone, what is not said is not restricted."""

    def get(*path: str) -> Any:
        leaf = values.get(("request", *path))
        return leaf.value if leaf else None

    def listed(*path: str) -> tuple[str, ...] | None:
        found = get(*path)
        return None if found is None else tuple(found)

    max_bytes = get("input_images", "max_bytes")
    partial = get("partial_images", "max")
    return RequestRules(
        models=listed("models", "allow"),
        default_model=get("models", "default"),
        sizes=listed("sizes", "allow"),
        max_pixels=get("sizes", "max_pixels"),
        max_edge=get("sizes", "max_edge"),
        default_size=get("sizes", "default"),
        qualities=listed("quality", "allow"),
        default_quality=get("quality", "default"),
        max_n=get("n", "max") or (None if limits else 1),
        formats=listed("formats", "allow"),
        max_prompt_chars=get("prompt", "max_chars"),
        max_input_images=get("input_images", "max"),
        max_input_bytes=None if max_bytes is None else units.size_in_bytes(max_bytes),
        max_partial_images=partial if partial is not None else 3 if limits else 0,
        unknown_parameters=get("unknown_parameters") or ("pass" if limits else "deny"),
        on_excess=get("on_excess") or "deny",
        places=_places(values),
    )


_PLACES = {
    "model": ("models",),
    "size": ("sizes",),
    "quality": ("quality",),
    "n": ("n",),
    "output_format": ("formats",),
    "prompt": ("prompt",),
    "input_images": ("input_images",),
    "partial_images": ("partial_images",),
    "extra": ("unknown_parameters",),
}


def _places(values: Leaves) -> dict[str, Place]:
    found = {}
    for name, start in _PLACES.items():
        at = [leaf.place for path, leaf in values.items() if path[: 1 + len(start)] == ("request", *start)]
        if at:
            found[name] = min(at)
    return found


def check_request(source: Source, rules: RequestRules, values: Leaves) -> None:
    """Models that exist, sizes and qualities that an allowed model knows, defaults that are in their lists."""
    book = pricing.price_book().models
    for path, name in _items(values, ("request", "models", "allow")):
        if name not in book:
            source.problem(path, "PG206", f"the price book has no model `{name}`", did_you_mean(name, book))
        elif not book[name].usable:
            source.problem(path, "PG206", f"`{name}` is {book[name].status.replace('_', ' ')}")
    models = [m for m in rules.models or () if m in book and book[m].usable]
    for path, text in _items(values, ("request", "sizes", "allow")):
        if text != AUTO and parse_size(text) is None:
            source.problem(path, "PG205", "a size is written like `1024x1536`, or `auto`")
        elif models and (problem := _illegal_everywhere(models, text)):
            source.problem(path, "PG204", f"no allowed model draws `{text}`: {problem}")
    for path, text in _items(values, ("request", "quality", "allow")):
        if text != AUTO and models and not any(text in pricing.qualities(m) for m in models):
            source.problem(path, "PG204", f"no allowed model knows the quality `{text}`")
    for key, default, allowed in (
        ("models", rules.default_model, rules.models),
        ("sizes", rules.default_size, rules.sizes),
        ("quality", rules.default_quality, rules.qualities),
    ):
        if default is not None and allowed is not None and default not in allowed:
            where = values[("request", key, "default")]
            path = where.path if where.named else ("request", key)
            source.problem(path, "PG303", f"the default `{default}` is not in the list", did_you_mean(default, allowed))


def _items(values: Leaves, path: Path) -> Iterator[tuple[Path, Any]]:
    """The items of a list that this file itself says, with their places."""
    leaf = values.get(path)
    if leaf is not None and leaf.named:
        for index, item in enumerate(leaf.value):
            yield (*leaf.path, index), item


def _illegal_everywhere(models: list[str], size: str) -> str | None:
    problems = [pricing.size_problem(model, size) for model in models]
    return problems[0] if all(problems) else None


# ---- moderation, review, audit ----------------------------------------------------------------------------


def moderation_rules(
    source: Source,
    values: Leaves,
    deny_at: Mapping[str, tuple[float, Place]],
    review_at: Mapping[str, tuple[float, Place]],
) -> ModerationRules:
    def get(name: str, otherwise: Any) -> Any:
        leaf = values.get(("moderation", name))
        return leaf.value if leaf else otherwise

    timeout = units.duration(get("timeout", "10s"))
    where = [leaf.place for path, leaf in values.items() if path[0] == "moderation"]
    return ModerationRules(
        model=get("model", "omni-moderation-latest"),
        check=frozenset(get("check", ["prompt", "input_images"])),
        deny_at=_thresholds(deny_at),
        review_at=_thresholds(review_at),
        when_unavailable=_EFFECTS[get("when_unavailable", "deny")],
        timeout_s=timeout.total_seconds(),
        place=min(where, default=Place(source.file, 1)),
    )


def _thresholds(found: Mapping[str, tuple[float, Place]]) -> tuple[Threshold, ...]:
    return tuple(Threshold(category, at, where) for category, (at, where) in found.items())


def review_rules(source: Source, values: Leaves, groups: Mapping[str, tuple[str, ...]]) -> ReviewRules:
    def get(name: str, otherwise: Any) -> Any:
        leaf = values.get(("review", name))
        return leaf.value if leaf else otherwise

    def people(names: list[str], path: Path) -> tuple[str, ...]:
        return tuple(dict.fromkeys(p for i, n in enumerate(names) for p in _people(source, n, (*path, i), groups)))

    expires = units.duration(leaf.value) if (leaf := values.get(("review", "expires"))) else REVIEW_EXPIRES
    steps = []
    for index, step in enumerate(get("escalate", [])):
        path: Path = ("review", "escalate", index)
        after = units.duration(step["after"])
        if after >= expires:
            source.problem((*path, "after"), "PG208", "this is after the review has run out", "raise `expires`")
        steps.append(Escalation(after=after, to=people(step["to"], (*path, "to"))))
    return ReviewRules(
        required=get("required", False),
        reviewers=people(get("reviewers", []), ("review", "reviewers")),
        approvals=get("approvals", 1),
        escalate=tuple(sorted(steps, key=lambda s: s.after)),
        expires=expires,
        place=place(source, ("review",)),
    )


def _people(source: Source, name: str, path: Path, groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if not name.startswith("group:"):
        return (name,)
    group = name.removeprefix("group:")
    if group not in groups:
        source.problem(path, "PG206", f"there is no group `{group}` in org.yaml", did_you_mean(group, groups))
    return groups.get(group, ())


def audit_rules(values: Leaves) -> AuditRules:
    def days(name: str) -> int | None:
        leaf = values.get(("audit", "retain", name))
        return units.days(leaf.value) if leaf else None

    prompt = values.get(("audit", "prompt"))
    return AuditRules(
        store_prompt=prompt is not None and prompt.value == "encrypted",
        events_days=days("events"),
        private_days=days("private"),
        artefacts_days=days("artefacts"),
    )


# ---- rules, exemptions, budgets ---------------------------------------------------------------------------


def rules(source: Source, environment: Environment, *, organisation: bool) -> tuple[Rule, ...]:
    found = []
    for index, row in enumerate(source.data.get("rules") or []):
        path: Path = ("rules", index)
        when = condition(source, (*path, "when"), row["when"], environment)
        if when is None:
            continue
        found.append(
            Rule(
                id=row["id"],
                when=when,
                then=_EFFECTS[row["then"]],
                message=row.get("message", ""),
                mode=row.get("mode", "enforce"),
                place=place(source, path),
                organisation=organisation,
                needs_scores=any(name.split(".", 1)[0] == "scores" for name in when.reads),
            )
        )
    return tuple(found)


def condition(source: Source, path: Path, text: str, environment: Environment) -> Compiled | None:
    """The compiled condition; None where it has problems, which then stand in `source`."""
    try:
        return compile_expression(text, environment)
    except ExpressionErrors as errors:
        for p in errors.problems:
            line, column = source.inside(path, p.line, p.column)
            source.problem_at(line, column, path, p.code, p.message, p.hint)
        return None


def exemptions(source: Source, environment: Environment) -> tuple[Exemption, ...]:
    own = [row["id"] for row in source.data.get("rules") or []]
    found = []
    for index, row in enumerate(source.data.get("exempt") or []):
        path: Path = ("exempt", index)
        for i, id_ in enumerate(row["rules"]):
            if id_ not in own:
                hint = did_you_mean(id_, own) or "only rules of this file can be exempted"
                source.problem((*path, "rules", i), "PG206", f"this file has no rule `{id_}`", hint)
        when = condition(source, (*path, "when"), row["when"], environment)
        if when is not None:
            found.append(
                Exemption(
                    rules=frozenset(row["rules"]),
                    when=when,
                    until=units.day(row["until"]),
                    by=row["by"],
                    why=row["why"],
                    place=place(source, path),
                )
            )
    return tuple(found)


def budgets(source: Source, callers: tuple[CallerField, ...], owner: str) -> tuple[Budget, ...]:
    """`owner` is the surface, or `org`: the organisation's budgets are shared by all surfaces."""
    names = [f.name for f in callers]
    found = []
    for index, row in enumerate(source.data.get("budgets") or []):
        path: Path = ("budgets", index)
        unit, amount, period = units.budget_limit(row["limit"])
        per = row["per"].removeprefix("caller.") if row.get("per") else None
        zone = row.get("time_zone", "UTC")
        if per is not None and per not in names:
            source.problem((*path, "per"), "PG206", f"org.yaml declares no `caller.{per}`", did_you_mean(per, names))
        if not _is_zone(zone):
            source.problem((*path, "time_zone"), "PG206", "there is no such time zone", "write it like `Europe/Berlin`")
        found.append(
            Budget(
                id=row["id"],
                unit=unit,
                limit=amount,
                period=period,
                time_zone=zone,
                per=per,
                mode=row.get("mode", "enforce"),
                place=place(source, path),
                identity="|".join((owner, row["id"], unit, period, zone, per or "")),
            )
        )
    return tuple(found)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


# ---- meaning ----------------------------------------------------------------------------------------------

_NO_MEANING = frozenset({"place", "places", "title", "owner", "digest", "file", "loaded_at", "folder", "by", "why"})


def digest(meaning: Any) -> str:
    """Over everything that changes a decision, and nothing else."""
    text = json.dumps(_plain(meaning), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Compiled):
        return " ".join(value.source.split())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in _NO_MEANING}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset | tuple | list):
        return sorted((_plain(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, date | IPv4Network | IPv6Network):
        return str(value)
    return value


def constant_problem(name: str, value: str | int) -> str | None:
    """Why `value` can be no constant for a parameter."""
    try:
        given: dict[str, Any] = {"prompt": "a prompt", name: value}
        ImageRequest(**given)
    except Exception as error:
        return getattr(error, "message", None) or f"there is no parameter `{name}`"
    return None
