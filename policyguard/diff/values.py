"""Changes that no single request shows: budgets, reviews, routes, where callers come from, and what is only said.

Each names both places. Where values have an order, the direction is that of what may happen: more money, fewer
approvals, more time or another counter is looser. What decides nothing is neutral.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Literal

from policyguard.decision import Place
from policyguard.diff.witness import Pair, Side
from policyguard.policy.model import Budget, CallerField, Policy, RequestRules, Route
from policyguard.pricing import ModelPrice, PriceBook
from policyguard.pricing.book import meaning

Direction = Literal["loosened", "tightened", "neutral"]
_Sides = tuple[Place | None, Place | None]


@dataclass(frozen=True, slots=True)
class Change:
    """One value that is another. `what` says which and how."""

    direction: Direction
    what: str
    old_place: Place | None
    new_place: Place | None


def added(policy: Policy, new: Side, old: Side) -> tuple[Change, ...]:
    """A surface that came: what it lets through was refused before, but for an app's own routes that nobody claimed."""
    what, place = f"the surface `{policy.surface}` is new: its requests were refused", new.shown(policy.place)
    routes = (_new_route(route, new, old) for route in policy.routes if _is_open(route, old))
    return (Change("loosened", what, None, place), *routes)


def removed(policy: Policy, old: Side, new: Side) -> tuple[Change, ...]:
    """A surface that went."""
    what, place = f"the surface `{policy.surface}` is gone: its requests are refused", old.shown(policy.place)
    routes = (_gone_route(route, old, new) for route in policy.routes if _is_open(route, new))
    return (Change("tightened", what, place, None), *routes)


def surface(pair: Pair, old: Side, new: Side, shown: Set[str]) -> tuple[Change, ...]:
    """What changed on one surface beside single decisions. Rules in `shown` are known from those already."""
    places = (old.shown(pair.old.place), new.shown(pair.new.place))
    return (
        *_ordered(pair, places),
        *_budgets(_own(pair.old), _own(pair.new), old, new),
        *_review(pair, old, new),
        *_moderation(pair, old, new),
        *_questions(pair, old, new),
        *_routes(pair, old, new),
        *_rules(pair, old, new, shown),
        *_said(pair, places),
    )


def organisation(old: Side, new: Side) -> tuple[Change, ...]:
    """What changed in org.yaml for all surfaces together."""
    return (
        *_budgets(_shared(old), _shared(new), old, new),
        *_prices(old, new),
        *_callers(old, new),
        *_proxies(old, new),
        *_groups(old, new),
    )


def _by_order(what: str, old: Any, new: Any, places: _Sides, *, looser: bool) -> Iterator[Change]:
    """`looser` says whether the new value allows more."""
    if old != new:
        yield Change("loosened" if looser else "tightened", f"{what}: {old} -> {new}", *places)


def _ordered(pair: Pair, places: _Sides) -> Iterator[Change]:
    yield from _by_order("mode", pair.old.mode, pair.new.mode, places, looser=pair.new.mode == "shadow")
    yield from _by_order("stakes", pair.old.stakes, pair.new.stakes, places, looser=pair.new.stakes == "low")
    yield from _main_models(pair.old.request, pair.new.request, places)


def _main_models(old: RequestRules, new: RequestRules, places: _Sides) -> Iterator[Change]:
    """Who may ask for images by the tool of the Responses API, and how much it may write."""
    before, after = set(old.main_models or ()), set(new.main_models or ())
    for name in sorted(before ^ after):
        says = "may ask for images" if name in after else "may not ask for images any more"
        yield Change("loosened" if name in after else "tightened", f"the main model `{name}` {says}", *places)
    a, b = old.max_output_tokens, new.max_output_tokens
    if before & after:
        what = "output tokens of the main model"
        yield from _by_order(what, a or "any", b or "any", places, looser=b is None or (a is not None and b > a))


# ---- prices -----------------------------------------------------------------------------------------------


def _prices(old: Side, new: Side) -> Iterator[Change]:
    """Models whose price the organisation says otherwise: a dearer one uses budgets up sooner, which is no verdict."""
    before, after = old.policies.prices, new.policies.prices
    for name in sorted({*before.own, *after.own}):
        a, b = _row(before, name), _row(after, name)
        if _price(a, before) != _price(b, after):
            yield Change("neutral", f"the price of `{name}`: {_rates(a)} -> {_rates(b)}", None, None)


def _row(book: PriceBook, name: str) -> ModelPrice | None:
    return book.models.get(name) or book.main_models.get(name)


def _price(row: ModelPrice | None, book: PriceBook) -> Any:
    return row and meaning(row, book.tables.get(row.family or ""))[1:]


def _rates(row: ModelPrice | None) -> str:
    """Dollars for a million tokens, by kind."""
    if row is None:
        return "none"
    rates = (f"{kind} ${rate / 1000:g}" for kind, rate in row.rates.items() if rate is not None)
    return ", ".join([*rates, row.status.replace("_", " ")])


# ---- budgets ----------------------------------------------------------------------------------------------


def _own(policy: Policy) -> Mapping[str, Budget]:
    return {b.id: b for b in policy.budgets if not b.identity.startswith("org|")}


def _shared(side: Side) -> Mapping[str, Budget]:
    policies = side.policies.surfaces.values()
    return {b.id: b for policy in policies for b in policy.budgets if b.identity.startswith("org|")}


def _budgets(before: Mapping[str, Budget], after: Mapping[str, Budget], old: Side, new: Side) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        a, b = before.get(name), after.get(name)
        places = (old.shown(a.place) if a else None, new.shown(b.place) if b else None)
        if a is None or b is None:
            yield _budget_alone(name, a, b, places)
        else:
            yield from _budget(name, a, b, places)


def _budget_alone(name: str, a: Budget | None, b: Budget | None, places: _Sides) -> Change:
    word, direction = ("is new", "tightened") if b else ("is gone", "loosened")
    one = a or b
    counts_only = one is not None and one.mode == "shadow"
    return Change("neutral" if counts_only else direction, f"the budget `{name}` {word}", *places)  # type: ignore[arg-type]


def _budget(name: str, a: Budget, b: Budget, places: _Sides) -> Iterator[Change]:
    is_shadow = a.mode == b.mode == "shadow"
    if a.identity != b.identity:
        what = f"the budget `{name}` is another one, {_limit(a)} -> {_limit(b)}: what was spent starts at zero"
        yield Change("neutral" if is_shadow else "loosened", what, *places)
    elif a.limit != b.limit:
        looser: Direction = "loosened" if b.limit > a.limit else "tightened"
        yield Change("neutral" if is_shadow else looser, f"the budget `{name}`: {_limit(a)} -> {_limit(b)}", *places)
    yield from _by_order(f"the mode of the budget `{name}`", a.mode, b.mode, places, looser=b.mode == "shadow")


def _limit(budget: Budget) -> str:
    amount = f"${budget.limit / 1_000_000:,.2f}" if budget.unit == "usd" else f"{budget.limit} {budget.unit}"
    per = f", per caller.{budget.per}" if budget.per else ""
    zone = f", {budget.time_zone}" if budget.time_zone != "UTC" else ""
    return f"{amount} / {budget.period}{per}{zone}"


# ---- reviews and moderation -------------------------------------------------------------------------------


def _review(pair: Pair, old: Side, new: Side) -> Iterator[Change]:
    a, b = pair.old.review, pair.new.review
    places = (old.shown(a.place), new.shown(b.place))
    yield from _by_order("approvals", a.approvals, b.approvals, places, looser=b.approvals < a.approvals)
    yield from _by_order("a review expires after", a.expires, b.expires, places, looser=b.expires > a.expires)
    if set(a.reviewers) != set(b.reviewers):
        yield Change("neutral", f"reviewers: {_people(a.reviewers, b.reviewers)}", *places)
    if a.escalate != b.escalate:
        yield Change("neutral", "escalation changed", *places)


def _people(old: Iterable[str], new: Iterable[str]) -> str:
    before, after = set(old), set(new)
    signs = [f"+{name}" for name in sorted(after - before)] + [f"-{name}" for name in sorted(before - after)]
    return ", ".join(signs)


def _moderation(pair: Pair, old: Side, new: Side) -> Iterator[Change]:
    a, b = pair.old.moderation, pair.new.moderation
    places = (old.shown(a.place), new.shown(b.place))
    if a.model != b.model:
        words: dict[bool, Direction] = {True: "loosened", False: "tightened"}
        direction = words[b.model == "keyword"] if "keyword" in (a.model, b.model) else "neutral"
        yield Change(direction, f"moderation by {a.model} -> {b.model}: its scores are others", *places)
    if a.timeout_s != b.timeout_s:
        yield Change("neutral", f"moderation may take {a.timeout_s:g} s -> {b.timeout_s:g} s", *places)


def _questions(pair: Pair, old: Side, new: Side) -> Iterator[Change]:
    """Another question has other answers: which requests that concerns, no example can show."""
    before, after = ({question.name: question for question in policy.questions} for policy in (pair.old, pair.new))
    for name in sorted(before.keys() & after.keys()):
        a, b = before[name], after[name]
        if a.ask != b.ask:
            what = f"the question `{name}` is asked otherwise: its answers are others"
            yield Change("neutral", what, old.shown(a.place), new.shown(b.place))


# ---- routes, rules, and what is only said -----------------------------------------------------------------


def _routes(pair: Pair, old: Side, new: Side) -> Iterator[Change]:
    """A route that reads another request is one route less and one more."""
    before, after = ({_route(r): r for r in policy.routes} for policy in (pair.old, pair.new))
    yield from (_gone_route(before[key], old, new) for key in sorted(before.keys() - after.keys()))
    yield from (_new_route(after[key], new, old) for key in sorted(after.keys() - before.keys()))


def _gone_route(route: Route, old: Side, new: Side) -> Change:
    what, place = f"the route `{_named(route)}` is gone", old.shown(route.place)
    if _is_open(route, new):
        return Change("loosened", f"{what}: its requests pass without a policy", place, None)
    return Change("tightened", what, place, None)


def _new_route(route: Route, new: Side, old: Side) -> Change:
    what, place = f"the route `{_named(route)}` is new", new.shown(route.place)
    if _is_open(route, old):
        return Change("tightened", f"{what}: its requests passed without a policy", None, place)
    return Change("loosened", what, None, place)


def _is_open(route: Route, side: Side) -> bool:
    """What no surface claims is refused where it looks like OpenAI's; an app's own route is let through as it is."""
    surfaces = side.policies.surfaces.values()
    return route.shape == "custom" and not any(_named(r) == _named(route) for p in surfaces for r in p.routes)


def _route(route: Route) -> str:
    return repr((_named(route), route.shape, sorted(route.fields.items()), sorted(route.constants.items())))


def _named(route: Route) -> str:
    return f"{route.method} {route.path}"


def _rules(pair: Pair, old: Side, new: Side, shown: Set[str]) -> Iterator[Change]:
    """Rules that came, went or speak otherwise; whether they decide otherwise shows in requests."""
    before, after = ({rule.id: rule for rule in policy.rules} for policy in (pair.old, pair.new))
    for name in sorted((before.keys() | after.keys()) - shown):
        a, b = before.get(name), after.get(name)
        places = (old.shown(a.place) if a else None, new.shown(b.place) if b else None)
        if a is None or b is None:
            yield Change("neutral", f"the rule `{name}` is {'new' if b else 'gone'}", *places)
        elif a.message != b.message:
            yield Change("neutral", f"the message of the rule `{name}`", *places)
        elif (a.when.source, a.then, a.mode) != (b.when.source, b.then, b.mode):
            yield Change("neutral", f"the rule `{name}` is written otherwise", *places)


def _said(pair: Pair, places: _Sides) -> Iterator[Change]:
    a, b = pair.old, pair.new
    if a.audit != b.audit:
        yield Change("neutral", "what the record keeps, or for how long", *places)
    if a.reasons_on_wire != b.reasons_on_wire:
        yield Change("neutral", f"reasons_on_wire: {a.reasons_on_wire} -> {b.reasons_on_wire}".lower(), *places)


# ---- the organisation -------------------------------------------------------------------------------------


def _callers(old: Side, new: Side) -> Iterator[Change]:
    """Another source is another claim to be believed; what values do to requests shows in requests."""
    before, after = ({f.name: f for f in side.policies.caller} for side in (old, new))
    for name in sorted(before.keys() & after.keys()):
        a, b = before[name], after[name]
        if a.header != b.header:
            what = f"`caller.{name}` comes from {_source(a)} -> {_source(b)}"
            yield Change("loosened", what, old.shown(a.place), new.shown(b.place))


def _source(field: CallerField) -> str:
    return f"the header {field.header}" if field.header else "code"


def _proxies(old: Side, new: Side) -> Iterator[Change]:
    before, after = (set(map(str, side.policies.trusted_proxies)) for side in (old, new))
    places = (_org(old), _org(new))
    for network in sorted(after - before):
        yield Change("loosened", f"headers count from {network}, too", *places)
    for network in sorted(before - after):
        yield Change("tightened", f"headers do not count from {network} any more", *places)


def _groups(old: Side, new: Side) -> Iterator[Change]:
    before, after = old.policies.groups, new.policies.groups
    for name in sorted(before.keys() | after.keys()):
        people = _people(before.get(name, ()), after.get(name, ()))
        if people:
            yield Change("neutral", f"the group `{name}`: {people}", _org(old), _org(new))


def _org(side: Side) -> Place | None:
    return side.shown(Place(f"{side.policies.folder}/org.yaml", 1))
