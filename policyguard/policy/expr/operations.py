"""Functions and operators as a table: what they take, what they give, and how they compute, in two forms.

`compute` is the exact form. `python` is the same as Python source over `{0}`, `{1}`, ..., for the fast form, which may
raise anything where the exact form raises or gives what Python does not (division of doubles by zero).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from policyguard.policy.expr import runtime, written
from policyguard.policy.expr.types import BOOL, DOUBLE, DURATION, INT, LIST, STRING, TIMESTAMP, Type

LOOPS = ("exists", "all", "exists_one", "filter", "map")
REFUSED = frozenset({"dyn", "type", "reduce", "min", "bytes", "uint", "optional", "google"})
# What the source of the fast form can call, beside its own parameters.
_RUNTIME = (
    *("drawn", "categories", "pictured", "score_of", "moment", "whole", "divide", "modulo", "same", "among"),
    *("int_of_double", "int_of_text", "double_of_text", "later", "earlier", "units"),
)
_BUILTINS = {"len": len, "any": any, "all": all, "sum": sum, "str": str, "float": float}
_UNITS = {"hour": timedelta(hours=1), "minute": timedelta(minutes=1), "second": timedelta(seconds=1)}
HELPERS: Mapping[str, Any] = {name: getattr(runtime, name) for name in _RUNTIME} | _BUILTINS | _UNITS


@dataclass(frozen=True, slots=True)
class Operator:
    """`prepare` reads the last argument, a text that must be written out, once; it raises ValueError with the reason.

    With one argument, what `prepare` gives is the value.
    """

    takes: tuple[Type, ...]
    gives: Type
    compute: Callable[..., Any]
    python: str
    prepare: Callable[[str], Any] | None = None


def _itself(value: Any) -> Any:
    return value


def _part(read: Callable[[datetime], int], python: str) -> tuple[Operator, ...]:
    """CEL's time parts: in UTC, or in a zone that is written out. Times are in UTC already."""
    zoned = python.replace("{0}", "{0}.astimezone({1})")
    return (
        Operator((TIMESTAMP,), INT, read, python),
        Operator((TIMESTAMP, STRING), INT, lambda t, zone: read(runtime.local(t, zone)), zoned, written.zone),
    )


def _length(unit: str) -> Operator:
    """A duration in whole units."""
    return Operator((DURATION,), INT, lambda value: runtime.units(value, _UNITS[unit]), f"units({{0}}, {unit})")


def _matches(text: str, pattern: Any) -> bool:
    return pattern.search(text) is not None


_SIZES = (Operator((STRING,), INT, len, "len({0})"), Operator((LIST,), INT, len, "len({0})"))
_MATCHES = (Operator((STRING, STRING), BOOL, _matches, "({1}.search({0}) is not None)", written.pattern),)

# Names with a dot are called on a value.
FUNCTIONS: Mapping[str, tuple[Operator, ...]] = {
    "size": _SIZES,
    ".size": _SIZES,
    ".contains": (Operator((STRING, STRING), BOOL, lambda text, part: part in text, "({1} in {0})"),),
    ".startsWith": (Operator((STRING, STRING), BOOL, str.startswith, "{0}.startswith({1})"),),
    ".endsWith": (Operator((STRING, STRING), BOOL, str.endswith, "{0}.endswith({1})"),),
    "matches": _MATCHES,
    ".matches": _MATCHES,
    "int": (
        Operator((INT,), INT, _itself, "{0}"),
        Operator((DOUBLE,), INT, runtime.int_of_double, "int_of_double({0})"),
        Operator((STRING,), INT, runtime.int_of_text, "int_of_text({0})"),
    ),
    "double": (
        Operator((DOUBLE,), DOUBLE, _itself, "{0}"),
        Operator((INT,), DOUBLE, float, "float({0})"),
        Operator((STRING,), DOUBLE, runtime.double_of_text, "double_of_text({0})"),
    ),
    "string": (
        Operator((STRING,), STRING, _itself, "{0}"),
        Operator((INT,), STRING, str, "str({0})"),
        Operator((BOOL,), STRING, lambda value: "true" if value else "false", "('true' if {0} else 'false')"),
    ),
    "timestamp": (Operator((STRING,), TIMESTAMP, _itself, "{0}", written.timestamp),),
    "duration": (Operator((STRING,), DURATION, _itself, "{0}", written.duration),),
    ".getFullYear": _part(lambda t: t.year, "{0}.year"),
    ".getMonth": _part(lambda t: t.month - 1, "({0}.month - 1)"),
    ".getDate": _part(lambda t: t.day, "{0}.day"),
    ".getDayOfMonth": _part(lambda t: t.day - 1, "({0}.day - 1)"),
    ".getDayOfWeek": _part(lambda t: t.isoweekday() % 7, "({0}.isoweekday() % 7)"),
    ".getDayOfYear": _part(lambda t: t.timetuple().tm_yday - 1, "({0}.timetuple().tm_yday - 1)"),
    ".getHours": (*_part(lambda t: t.hour, "{0}.hour"), _length("hour")),
    ".getMinutes": (*_part(lambda t: t.minute, "{0}.minute"), _length("minute")),
    ".getSeconds": (*_part(lambda t: t.second, "{0}.second"), _length("second")),
    ".getMilliseconds": _part(lambda t: t.microsecond // 1000, "({0}.microsecond // 1000)"),
}

NOT = Operator((BOOL,), BOOL, operator.not_, "(not {0})")
NEGATIONS = (
    Operator((INT,), INT, lambda value: runtime.whole(-value), "whole(-{0})"),
    Operator((DOUBLE,), DOUBLE, operator.neg, "(-{0})"),
)
CATEGORY_SCORE = Operator((STRING,), DOUBLE, runtime.score_of, "{0}[{1}]")
CATEGORY_KNOWN = Operator(
    (STRING,), BOOL, lambda scores, name: runtime.score_of(scores, name) is not None, "(score_of({0}, {1}) is not None)"
)
MEMBER = Operator((LIST,), BOOL, lambda value, items: value in items, "({0} in {1})")
MEMBER_OF_DOUBLES = Operator((LIST,), BOOL, runtime.among, "among({0}, {1})")

_PYTHON = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARE = {sign: Operator((), BOOL, compute, f"({{0}} {sign} {{1}})") for sign, compute in _PYTHON.items()}
_COMPARE_LISTS = {
    "==": Operator((), BOOL, runtime.same, "same({0}, {1})"),
    "!=": Operator((), BOOL, lambda left, right: not runtime.same(left, right), "(not same({0}, {1}))"),
}


def comparison(sign: str, type_: Type) -> Operator:
    return _COMPARE_LISTS[sign] if type_.item else _COMPARE[sign]


def _whole(compute: Callable[[int, int], int]) -> Callable[[int, int], int]:
    return lambda left, right: runtime.whole(compute(left, right))


def _concatenated(left: Any, right: Any) -> list[Any]:
    return [*left, *right]


ARITHMETIC: Mapping[str, tuple[Operator, ...]] = {
    "+": (
        Operator((INT, INT), INT, _whole(operator.add), "whole({0} + {1})"),
        Operator((DOUBLE, DOUBLE), DOUBLE, operator.add, "({0} + {1})"),
        Operator((STRING, STRING), STRING, operator.add, "({0} + {1})"),
        Operator((LIST, LIST), LIST, _concatenated, "[*{0}, *{1}]"),
        Operator((TIMESTAMP, DURATION), TIMESTAMP, runtime.later, "later({0}, {1})"),
        Operator((DURATION, TIMESTAMP), TIMESTAMP, runtime.later, "later({0}, {1})"),
        Operator((DURATION, DURATION), DURATION, runtime.later, "later({0}, {1})"),
    ),
    "-": (
        Operator((INT, INT), INT, _whole(operator.sub), "whole({0} - {1})"),
        Operator((DOUBLE, DOUBLE), DOUBLE, operator.sub, "({0} - {1})"),
        Operator((TIMESTAMP, TIMESTAMP), DURATION, runtime.earlier, "earlier({0}, {1})"),
        Operator((TIMESTAMP, DURATION), TIMESTAMP, runtime.earlier, "earlier({0}, {1})"),
        Operator((DURATION, DURATION), DURATION, runtime.earlier, "earlier({0}, {1})"),
    ),
    "*": (
        Operator((INT, INT), INT, _whole(operator.mul), "whole({0} * {1})"),
        Operator((DOUBLE, DOUBLE), DOUBLE, operator.mul, "({0} * {1})"),
    ),
    "/": (
        Operator((INT, INT), INT, runtime.divide, "divide({0}, {1})"),
        Operator((DOUBLE, DOUBLE), DOUBLE, runtime.ratio, "({0} / {1})"),
    ),
    "%": (Operator((INT, INT), INT, runtime.modulo, "modulo({0}, {1})"),),
}


def form(operations: tuple[Operator, ...], types: list[Type]) -> Operator | None:
    """The form that takes these types."""
    names = [type_.name for type_ in types]
    return next((o for o in operations if [t.name for t in o.takes] == names), None)
