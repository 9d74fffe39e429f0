"""Checked documents to compiled policies: names resolved, rules compiled, tables built.

Everything that is wrong goes to the problems of the file that says it; nothing here raises for a policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from policyguard import zones
from policyguard.decision import Effect, Place
from policyguard.policy import limits as limiting
from policyguard.policy import units
from policyguard.policy.broken import COMMENT_HINT
from policyguard.policy.document import MAX_ITEMS
from policyguard.policy.expr import Compiled, Environment, ExpressionErrors, compile_expression
from policyguard.policy.limits import Effective, WrittenValue, WrittenValues, thresholds
from policyguard.policy.meaning import digest
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
from policyguard.policy.moderators import DEFAULT_MODEL
from policyguard.policy.parameters import request_rules
from policyguard.policy.questions import Questions, questions
from policyguard.policy.source import Source, TooManyProblems, YAMLPath, dotted
from policyguard.policy.world import environment_of
from policyguard.pricing import PriceBook
from policyguard.text.identity import identity, likeness
from policyguard.text.suggest import known_names

_EFFECTS: Mapping[str, Any] = {"deny": Effect.DENY, "review": Effect.REVIEW, "flag": Effect.FLAG}
MODERATION_TIMEOUT = "10s"
MAX_CHARACTERS = 60_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """The organisation's limits for one kind of stakes: as they are written, and as the engine reads them."""

    leaves: WrittenValues
    request: RequestRules
    moderation: ModerationRules
    digest: str  # over all that the organisation decides for these surfaces, and over who callers can be


@dataclass(frozen=True, slots=True)
class Shared:
    """What the organisation gives to every surface.

    `rule_ids` and `budget_ids` say where each of its ids stands.
    """

    environment: Environment
    questions: Questions
    caller: tuple[CallerField, ...]
    groups: Mapping[str, tuple[str, ...]]
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    rules: tuple[Rule, ...]
    budgets: tuple[Budget, ...]
    rule_ids: Mapping[str, str]
    budget_ids: Mapping[str, str]
    defaults: WrittenValues
    prices: PriceBook
    bounds: Mapping[str, Bounds]  # by stakes


# ---- who asks ---------------------------------------------------------------------------------------------


def shared(source: Source, prices: PriceBook) -> Shared:
    callers = tuple(_callers(source))
    asked = questions(source, {})
    environment, proxies = environment_of(callers, asked), _trusted_proxies(source)
    return Shared(
        environment=environment,
        questions=asked,
        caller=callers,
        groups={name: tuple(people) for name, people in (source.data.get("groups") or {}).items()},
        trusted_proxies=proxies,
        rules=rules(source, environment, organisation=True),
        budgets=budgets(source, callers, "org"),
        rule_ids=unique_ids(source, "rules", {}),
        budget_ids=unique_ids(source, "budgets", {}),
        defaults=limiting.defaults(source),
        prices=prices,
        bounds={
            "low": _bounds(source, callers, proxies, prices, "limits"),
            "high": _bounds(source, callers, proxies, prices, "limits", "high_stakes"),
        },
    )


def _bounds(source: Source, callers: Any, proxies: Any, prices: PriceBook, *parts: str) -> Bounds:
    leaves = limiting.limits(source, *parts)
    request, moderation = request_rules(leaves, prices, limits=True), _limit_moderation(source, leaves)
    meaning = {"callers": callers, "proxies": proxies, "request": request, "moderation": moderation}
    return Bounds(leaves, request, moderation, digest(meaning))


def unique_ids(source: Source, section: str, taken: Mapping[str, str]) -> dict[str, str]:
    """Where each id stands. Ids are names in refusals and reports: each is there once, the organisation's included."""
    seen = dict(taken)
    for index, row in enumerate(source.data.get(section) or []):
        path = (section, index, "id")
        if row["id"] in seen:
            source.problem(path, "PG207", f"`{row['id']}` is an id already ({seen[row['id']]})")
        seen.setdefault(row["id"], str(source.place(path)))
    return seen


def _callers(source: Source) -> Iterator[CallerField]:
    declared = source.data.get("caller") or {}
    for name, spec in declared.items():
        path: YAMLPath = ("caller", name)
        header = spec.get("from")
        if header and not source.data.get("trusted_proxies"):
            hint = "without a trusted proxy anybody could say who they are"
            source.problem((*path, "from"), "PG209", "a header needs `trusted_proxies`", hint)
        if spec.get("required") and spec.get("default") is not None:
            hint = "leave one of them out"
            source.problem((*path, "required"), "PG208", "a value with a default is never missing", hint, key=True)
        values = tuple(map(identity, spec.get("values") or ()))
        default = identity(spec["default"]) if spec.get("default") is not None else None
        if default is not None and values and default not in values:
            hint = known_names(default, values)
            source.problem((*path, "default"), "PG303", f"`{default}` is not one of the values", hint)
        yield CallerField(
            name=name,
            place=source.place(path),
            header=header[len('http.headers["') : -2] if header else None,
            required=bool(spec.get("required")),
            default=default,
            values=values,
        )


def _trusted_proxies(source: Source) -> tuple[IPv4Network | IPv6Network, ...]:
    found = []
    for index, text in enumerate(source.data.get("trusted_proxies") or []):
        try:
            found.append(ip_network(text))
        except ValueError:
            message = "a network is written like `10.0.0.0/8`"
            source.problem(("trusted_proxies", index), "PG205", message, _network(text))
    return tuple(found)


def _network(text: str) -> str:
    """The network that an address with its mask is in."""
    with suppress(ValueError):
        return f"did you mean `{ip_network(text, strict=False)}`?"
    return ""


# ---- moderation, review, audit ----------------------------------------------------------------------------


def moderation_rules(found: Effective) -> ModerationRules:
    """What is scored and what follows; `deny_at` always has all thirteen categories."""
    check = found.get("moderation", "check")
    if check is not None and not check.value:
        found.problem(check, "PG208", "nothing is moderated, so no threshold can hold", "write `check: [prompt]`")
    return _moderation(
        found.values,
        Place(found.source.file, 1),
        _thresholds(thresholds(found.values, found.limit, "deny_at")),
        _thresholds(thresholds(found.values, found.limit, "review_at")),
    )


def limit_moderation(bounds: Bounds, effective: ModerationRules) -> ModerationRules:
    """The organisation's part alone, with the surface's model."""
    return replace(bounds.moderation, model=effective.model, timeout_s=effective.timeout_s)


def _limit_moderation(org: Source, limit: WrittenValues) -> ModerationRules:
    return _moderation(
        {("moderation", "check"): WrittenValue([], Place(org.file, 1)), **limit},
        Place(org.file, 1),
        _thresholds(thresholds({}, limit, "deny_at")),
        _thresholds(thresholds({}, limit, "review_at")),
    )


def _moderation(
    values: WrittenValues, otherwise: Place, deny_at: tuple[Threshold, ...], review_at: tuple[Threshold, ...]
) -> ModerationRules:
    def get(name: str, otherwise: Any) -> Any:
        leaf = values.get(("moderation", name))
        return leaf.value if leaf else otherwise

    where = [leaf.place for path, leaf in values.items() if path[0] == "moderation"]
    return ModerationRules(
        model=get("model", DEFAULT_MODEL),
        check=frozenset(get("check", [])),
        deny_at=deny_at,
        review_at=review_at,
        when_unavailable=_EFFECTS[get("when_unavailable", "deny")],
        timeout_s=units.duration(get("timeout", MODERATION_TIMEOUT)).total_seconds(),
        place=min(where, default=otherwise),
    )


def _thresholds(found: Mapping[str, tuple[float, Place]]) -> tuple[Threshold, ...]:
    return tuple(Threshold(category, at, where) for category, (at, where) in found.items())


def review_rules(found: Effective, groups: Mapping[str, tuple[str, ...]]) -> ReviewRules:
    reviewers, escalate = found.get("review", "reviewers"), found.get("review", "escalate")
    expires = found.values[("review", "expires")]
    runs_out = units.duration(expires.value)
    steps = []
    for index, step in enumerate(escalate.value if escalate else ()):
        after = units.duration(step["after"])
        if after >= runs_out and escalate is not None:
            blamed = expires if expires.named and not escalate.named else escalate._replace(path=_step(escalate, index))
            message = f"`after: {step['after']}` is not before the review runs out ({expires.value}, {expires.place})"
            found.problem(blamed, "PG208", message, "raise `expires`")
        steps.append(Escalation(after=after, to=_people(found, escalate, step["to"], groups, index, "to")))
    return ReviewRules(
        required=found.value("review", "required") or False,
        reviewers=_people(found, reviewers, reviewers.value if reviewers else (), groups),
        approvals=found.value("review", "approvals"),
        escalate=tuple(sorted(steps, key=lambda s: s.after)),
        expires=runs_out,
        place=found.source.place(("review",)),
        hold_output=found.value("review", "hold") == "output",
    )


def _step(escalate: WrittenValue, index: int) -> YAMLPath:
    return (*escalate.path, index, "after")


def _people(
    found: Effective,
    leaf: WrittenValue | None,
    names: Sequence[str],
    groups: Mapping[str, tuple[str, ...]],
    *below: str | int,
) -> tuple[str, ...]:
    """People by name, groups resolved; each once, however they are spelt: two spellings are not two approvals."""
    people: dict[str, str] = {}
    for index, name in enumerate(names):
        group = name.removeprefix("group:")
        if group == name or group in groups:
            for one in (name,) if group == name else groups[group]:
                people.setdefault(likeness(one), identity(one))
        elif leaf is not None:
            hint = known_names(group, groups)
            blamed = leaf._replace(path=(*leaf.path, *below, index))
            found.problem(blamed, "PG206", f"there is no group `{group}` in org.yaml", hint)
    return tuple(people.values())


def audit_rules(values: WrittenValues) -> AuditRules:
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
        path: YAMLPath = ("rules", index)
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
                place=source.place(path),
                organisation=organisation,
            )
        )
    return tuple(found)


def condition(source: Source, path: YAMLPath, text: str, environment: Environment) -> Compiled | None:
    """The compiled condition; None where it has problems, which then stand in `source`."""
    try:
        return compile_expression(text, environment)
    except ExpressionErrors as errors:
        for p in errors.problems:
            line, column = source.inside(path, p.line, p.column)
            hint = COMMENT_HINT if p.code == "PG401" and source.is_cut(path) else p.hint
            source.problem_at(line, column, path, p.code, p.message, hint)
        return None


def check_length(source: Source) -> None:
    """Conditions that are too long together, of a file whose form may be wrong: reading them would take too long."""
    read = 0
    for path, text in _written_conditions(source.data):
        read += len(text)
        if read > MAX_CHARACTERS:
            message = f"the conditions of this file have more than {MAX_CHARACTERS:,} characters together"
            source.problem(path, "PG106", message)
            raise TooManyProblems


def conditions(source: Source, environment: Environment) -> None:
    """Check the conditions of a file whose form is wrong elsewhere, so that one run shows both."""
    wrong = {problem.path for problem in source.problems}
    with suppress(TooManyProblems):
        for path, text in _written_conditions(source.formless or {}):
            if dotted(path) not in wrong:
                condition(source, path, text, environment)


def _written_conditions(data: Mapping[str, Any]) -> Iterator[tuple[YAMLPath, str]]:
    for section in ("rules", "exempt"):
        rows = data.get(section)
        for index, row in enumerate(rows[:MAX_ITEMS] if isinstance(rows, list) else ()):
            text = row.get("when") if isinstance(row, dict) else None
            if isinstance(text, str):
                yield (section, index, "when"), text


def exemptions(source: Source, environment: Environment) -> tuple[Exemption, ...]:
    own = [row["id"] for row in source.data.get("rules") or []]
    found = []
    for index, row in enumerate(source.data.get("exempt") or []):
        path: YAMLPath = ("exempt", index)
        for i, id_ in enumerate(row["rules"]):
            if id_ not in own:
                hint = known_names(id_, own) or "only rules of this file can be exempted"
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
                    place=source.place(path),
                )
            )
    return tuple(found)


def budgets(source: Source, callers: tuple[CallerField, ...], owner: str) -> tuple[Budget, ...]:
    """`owner` is the surface, or `org`: the organisation's budgets are shared by all surfaces."""
    names = [f.name for f in callers]
    found = []
    for index, row in enumerate(source.data.get("budgets") or []):
        path: YAMLPath = ("budgets", index)
        unit, amount, period = units.budget_limit(row["limit"])
        per = row["per"].removeprefix("caller.") if row.get("per") else None
        zone = row.get("time_zone", "UTC")
        if per is not None and per not in names:
            source.problem((*path, "per"), "PG206", f"org.yaml declares no `caller.{per}`", known_names(per, names))
        try:
            zones.zone(zone)
        except ValueError as error:
            hint = zones.near(zone) or "write it like `Europe/Berlin`"
            source.problem((*path, "time_zone"), "PG206", str(error), hint)
        found.append(
            Budget(
                id=row["id"],
                unit=unit,
                limit=amount,
                period=period,
                time_zone=zone,
                per=per,
                mode=row.get("mode", "enforce"),
                place=source.place(path),
                identity="|".join((owner, row["id"], unit, period, zone, per or "")),
                alert_at=tuple(sorted({units.per_cent(text) for text in row.get("alert_at") or ()})),
            )
        )
    return tuple(found)
