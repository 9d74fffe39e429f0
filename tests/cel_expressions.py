"""Generated conditions that the checker accepts.

Every operator and function of `operations` has its production here, taken from that very table, so that a new one is
generated, too; macros, fields and guards are added by hand. A `Dialect` leaves out what another engine gets wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

from policyguard.policy.expr import written
from policyguard.policy.expr.operations import ARITHMETIC, FUNCTIONS, NEGATIONS, Operator
from policyguard.policy.expr.types import LIST

SINGLES = ("bool", "int", "double", "string", "timestamp", "duration")
LISTS = tuple(f"list {kind}" for kind in SINGLES)
NESTED = "list list int"
WHOLE = ["0", "1", "-1", "2", "-2", "7", "-7", "10", "0x1F", "9007199254740993", "4611686018427387904"]
EDGES = ["9223372036854775807", "-9223372036854775808"]
DOUBLES = ["0.0", "-0.0", "0.5", "1.5", "-2.5", "0.1", "1e300", "-1e300", "5e-324", "9007199254740993.0", "9.3e18"]
TEXTS = ["''", "'a'", "'A'", "'12'", "'-7'", "'1.5'", "'é'", "'e\\u0301'", "'狐'", "'🦊'", "'🦊🦊狐'", r"'\x00'"]
TEXTS += [r"'\n'", r'"\"\'"', r"r'\d'", "'\\uffff'", r"'\U0001F98A'", "'''a'b'''", "'9223372036854775808'"]
PATTERNS = [
    "''",
    "'^a'",
    "'(?i)A+$'",
    "'[é狐🦊]'",
    r"r'\d+'",
    "'.'",
    r"r'\pL'",
    "'^.{2}$'",
    "'(?s)^.*$'",
    r"r'\bfox\b'",
]
TIMES = ["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z", "2026-10-25T02:30:00+02:00", "2024-02-29T23:59:59.5Z"]
TIMES += ["1970-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z", "2026-11-24T03:30:00-05:00"]
ENDS = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
SPANS = ["0s", "1s", "-1s", "90m", "1h30m", "1.5h", "24h", "-8760h", "1us", "999ms"]
LONG = ["300000000000s", "-315576000000s"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "+01:00", "-05:30"]
POOLS = {
    written.pattern: PATTERNS,
    written.timestamp: [f"'{time}'" for time in TIMES],
    written.duration: [f"'{span}'" for span in SPANS + LONG],
    written.zone: [f"'{zone}'" for zone in ZONES],
}


@dataclass(frozen=True)
class Dialect:
    """`sound_items`: what runs once for each item of map, filter and exists_one cannot err.

    `empty_loops`: loops run over empty lists, too, whose items have no type. `leave_out` names productions and
    literals.
    """

    three_argument_map: bool = True
    sound_items: bool = False
    empty_loops: bool = True
    leave_out: frozenset[str] = frozenset()


EVERYTHING = Dialect()


@dataclass(frozen=True)
class Scope:
    """`variables` are pairs of name and kind; `loops` is how many may still stand around what comes."""

    draw: st.DrawFn
    dialect: Dialect
    depth: int = 3
    variables: tuple[tuple[str, str], ...] = ()
    loops: int = 2

    def pick(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def deeper(self) -> Scope:
        return replace(self, depth=self.depth - 1)

    def named(self, kind: str) -> list[str]:
        return [name for name, other in self.variables if other == kind]

    def allowed(self, options: list[str]) -> list[str]:
        return [option for option in options if option not in self.dialect.leave_out]


Make = Callable[[Scope], str]


class Production(NamedTuple):
    kind: str
    name: str
    make: Make


def expression(scope: Scope, kind: str) -> str:
    """One of this kind, in brackets where it needs them."""
    if scope.depth <= 0 or kind == "moment" or scope.pick(range(6)) == 0:
        return leaf(scope, kind)
    return str(scope.pick(_productions(scope.dialect)[kind])(scope.deeper()))


def leaf(scope: Scope, kind: str) -> str:
    if kind.startswith("list "):
        return "[" + ", ".join(leaf(scope, kind[5:]) for _ in range(scope.pick([0, 1, 1, 2, 3]))) + "]"
    options = [*scope.allowed(_LEAVES[kind]), *scope.named(kind) * 4]
    return str(scope.pick(options))


_SCORES = ["(scores.hate + 0.0)", "(scores['sexual/minors'] * 1.0)", "(scores.violence - 0.25)"]
_STRINGS = ["request.prompt", "request.model", "caller.user", "surface", "(request.quality + '')", "(caller.tier + '')"]
_GUARDED = ["(has(caller.team) ? caller.team : '-')", "(!has(caller.cohort) ? '-' : caller.cohort + '')"]
_LEAVES: Mapping[str, list[str]] = {
    "bool": [
        *(
            "true",
            "false",
            "request.has_mask",
            "request.obfuscated",
            "has(caller.team)",
            "(request.n > 1)",
            "(request.size == 'auto')",
        ),
        *("(request.quality in ['low', 'high'])", "(caller.tier == 'free')", "('auto' != request.background)"),
        *("(has(caller.team) && caller.team == 'x')", "(!has(caller.cohort) || caller.cohort == 'a')"),
        *("(scores.hate > 0.5)", "(scores['sexual'] <= 0.25)", "(request.operation == 'edit')"),
    ],
    "int": [*WHOLE, *EDGES, "request.n", "request.pixels", "request.width", "request.input_images"],
    "double": [*DOUBLES, *_SCORES],
    "string": [*TEXTS, *_STRINGS, *_GUARDED],
    "moment": ["now", *(f"timestamp('{time}')" for time in TIMES)],
    "timestamp": ["now", *(f"timestamp('{time}')" for time in TIMES + ENDS)],
    "duration": [f"duration('{span}')" for span in SPANS + LONG],
}

# ---- productions ------------------------------------------------------------------------------------------


def _call(name: str, form: Operator, element: str) -> Make:
    kinds = [f"list {element}" if type_ == LIST else type_.name for type_ in form.takes]
    if form.prepare is written.zone:
        kinds[0] = "moment"

    def make(scope: Scope) -> str:
        parts = [expression(scope, kind) for kind in (kinds[:-1] if form.prepare else kinds)]
        if form.prepare:
            parts.append(scope.pick(scope.allowed(POOLS[form.prepare])))
        if name.startswith("."):
            return f"({parts[0]}){name}({', '.join(parts[1:])})"
        return f"{name}({', '.join(parts)})"

    return make


def _infix(sign: str, left: str, right: str) -> Make:
    return lambda scope: f"({expression(scope, left)} {sign} {expression(scope, right)})"


def _conditional(kind: str) -> Make:
    return lambda s: f"({expression(s, 'bool')} ? {expression(s, kind)} : {expression(s, kind)})"


def _negated(kind: str) -> Make:
    return lambda scope: f"(-({expression(scope, kind)}))"


def _chain(scope: Scope) -> str:
    parts = [expression(scope, "bool") for _ in range(scope.pick([2, 2, 3, 4]))]
    return "(" + f" {scope.pick(['&&', '||'])} ".join(parts) + ")"


def _inside(scope: Scope, kind: str) -> tuple[str, Scope]:
    """A loop's variable, and the scope of its body."""
    name = f"v{len(scope.variables)}"
    return name, replace(scope, variables=(*scope.variables, (name, kind)), loops=scope.loops - 1)


def _over(scope: Scope, element: str) -> str:
    """A list to run over; no loop made it, so that loops only stand in one another."""
    count = scope.pick([0, 1, 2, 3] if scope.dialect.empty_loops else [1, 2, 3])
    return f"[{', '.join(leaf(scope, element) for _ in range(count))}]"


def _test(scope: Scope, name: str, element: str, macro: str) -> str:
    if not (scope.dialect.sound_items and macro in ("exists_one", "filter", "map")):
        return expression(replace(scope, depth=min(scope.depth, 2)), "bool")
    return f"{name} {scope.pick(['==', '!='])} {scope.pick(_SOUND[element])}"


def _gives(scope: Scope, name: str, kind: str, element: str) -> str:
    if not scope.dialect.sound_items:
        return expression(replace(scope, depth=min(scope.depth, 1)), kind)
    return name if kind == element else str(scope.pick(_SOUND[kind]))


_SOUND = {
    "int": ["0", "2", "request.n"],
    "double": ["0.5", "2.5"],
    "string": ["'a'", "caller.user", "request.prompt"],
    "bool": ["true", "request.has_mask"],
    "timestamp": ["now"],
    "duration": ["duration('1s')"],
}


def _loop(macro: str) -> Make:
    def make(scope: Scope) -> str:
        if scope.loops <= 0:
            return leaf(scope, "bool")
        if scope.pick(range(3)) == 0:
            return _scores_loop(scope, macro)
        element = scope.pick(SINGLES)
        name, body = _inside(scope, element)
        return f"{_over(scope, element)}.{macro}({name}, {_test(body, name, element, macro)})"

    return make


def _scores_loop(scope: Scope, macro: str) -> str:
    name, _ = _inside(scope, "category")
    sign, bound = scope.pick([">", ">=", "<"]), scope.pick(["0.25", "0.5", "0.75"])
    body = scope.pick([f"scores[{name}] {sign} {bound}", f"{name} == 'hate'", f"{name}.startsWith('se')"])
    if scope.dialect.sound_items and macro == "exists_one":
        body = f"{name} in ['hate', 'sexual']"
    return f"scores.{macro}({name}, {body})"


def _filtered(kind: str) -> Make:
    def make(scope: Scope) -> str:
        element = kind[5:]
        if scope.loops <= 0:
            return leaf(scope, kind)
        name, body = _inside(scope, element)
        return f"{_over(scope, element)}.filter({name}, {_test(body, name, element, 'filter')})"

    return make


def _mapped(kind: str) -> Make:
    def make(scope: Scope) -> str:
        if scope.loops <= 0:
            return leaf(scope, kind)
        element = scope.pick(SINGLES)
        name, body = _inside(scope, element)
        first = scope.dialect.three_argument_map and scope.pick([True, False])
        test = f"{_test(body, name, element, 'map')}, " if first else ""
        return f"{_over(scope, element)}.map({name}, {test}{_gives(body, name, kind[5:], element)})"

    return make


def _listed(kind: str) -> Make:
    return lambda s: "[" + ", ".join(expression(s, kind[5:]) for _ in range(s.pick([1, 2, 2, 3]))) + "]"


def _functions() -> Iterator[Production]:
    for name, forms in FUNCTIONS.items():
        for form in forms:
            elements = SINGLES if LIST in form.takes else ("",)
            yield from (Production(form.gives.name, name, _call(name, form, element)) for element in elements)


def _arithmetic() -> Iterator[Production]:
    for sign, forms in ARITHMETIC.items():
        for form in forms:
            left, right = (type_.name for type_ in form.takes)
            if form.gives == LIST:
                yield from (Production(kind, f"{sign} list", _infix(sign, kind, kind)) for kind in (*LISTS, NESTED))
            elif left == right == "timestamp":
                yield Production(form.gives.name, f"{sign} moment", _infix(sign, "moment", "moment"))
            else:
                yield Production(form.gives.name, f"{sign} {left}", _infix(sign, left, right))
    for form in NEGATIONS:
        yield Production(form.gives.name, f"-({form.gives})", _negated(form.gives.name))


def _comparisons() -> Iterator[Production]:
    for kind in (*SINGLES, *LISTS, NESTED):
        signs = ["==", "!=", "<", "<=", ">", ">="] if kind in SINGLES[1:] else ["==", "!="]
        yield from (Production("bool", f"{sign} {kind}", _infix(sign, kind, kind)) for sign in signs)
    for kind in (*SINGLES, "list int"):
        yield Production("bool", f"in {kind}", _infix("in", kind, f"list {kind}"))


def _rest() -> Iterator[Production]:
    for kind in (*SINGLES, *LISTS, NESTED):
        yield Production(kind, "?", _conditional(kind))
    for kind in LISTS:
        yield from (Production(kind, "filter", _filtered(kind)), Production(kind, "map", _mapped(kind)))
    for kind in (*LISTS, NESTED):
        yield Production(kind, "[]", _listed(kind))
    for macro in ("exists", "all", "exists_one"):
        yield from [Production("bool", macro, _loop(macro))] * 2
    yield from [Production("bool", "&& ||", _chain)] * 6
    yield from [Production("bool", "!", lambda scope: f"(!{expression(scope, 'bool')})")] * 2


PRODUCTIONS = (*_functions(), *_arithmetic(), *_comparisons(), *_rest())


@cache
def _productions(dialect: Dialect) -> Mapping[str, list[Make]]:
    kinds: dict[str, list[Make]] = {}
    for production in PRODUCTIONS:
        if production.name not in dialect.leave_out:
            kinds.setdefault(production.kind, []).append(production.make)
    return kinds


@st.composite
def conditions(draw: st.DrawFn, dialect: Dialect = EVERYTHING, depth: int = 3) -> str:
    return expression(Scope(draw, dialect, depth), "bool")


@st.composite
def evenly(draw: st.DrawFn) -> str:
    """Conditions with every production at the top equally often, of whatever kind."""
    production = draw(st.sampled_from(PRODUCTIONS))
    made = production.make(Scope(draw, EVERYTHING, 2))
    return made if production.kind == "bool" else f"[{made}].size() == 1"
