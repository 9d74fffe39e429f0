"""The types of the language, the environment that conditions are checked against, and the problems they can have.

Values only; the checks that use them are in the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policyguard.errors import PolicyguardError
from policyguard.request import AUTO, CATEGORIES, IMAGE_CATEGORIES, parse_size

# Every problem of an expression, by code.
CODES: Mapping[str, str] = {
    "PG401": "the expression cannot be parsed",
    "PG402": "a variable that does not exist",
    "PG403": "a field that does not exist",
    "PG404": "a function that does not exist, or that takes other arguments",
    "PG405": "types that do not go together",
    "PG406": "a value that this field can never have",
    "PG407": "a value that may be absent is read without a `has()` guard",
    "PG408": "a pattern, time or zone that is not valid",
    "PG409": "the expression is too long, too deep or has too many parts",
    "PG410": "a name that policyguard does not enforce yet",
    "PG411": "`has()` on something that it cannot guard",
    "PG412": "a comparison that is always true or always false",
    "PG413": "the condition is not true or false",
    "PG414": "a part of CEL that policies do not use",
    "PG415": "a sign that cannot be seen, or a letter that is taken for another",
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Line and column count from 1, inside the expression."""

    line: int
    column: int
    code: str
    message: str
    hint: str = ""


class ExpressionErrors(PolicyguardError):
    """All problems of one expression."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("; ".join(p.message for p in self.problems))


@dataclass(frozen=True, slots=True)
class CallerType:
    """A declared caller value. `optional`: it may be absent. `values`: the only ones it can have; empty is any."""

    optional: bool
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Environment:
    """What conditions may read beyond the request, the scores, the surface and the time."""

    caller: Mapping[str, CallerType] = field(compare=False)
    answers: frozenset[str] = frozenset()  # the names of the questions
    key: frozenset[tuple[str, CallerType]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", frozenset(self.caller.items()))


@dataclass(frozen=True, slots=True)
class Type:
    """`name` is bool, int, double, string, timestamp, duration, list, scores, output, or an object's root name.

    `values` are all values of an enumeration, `size` and `score` restrict literals, `item` is the type in a list.
    """

    name: str
    values: tuple[str, ...] = field(default=(), compare=False)
    size: bool = field(default=False, compare=False)
    score: bool = field(default=False, compare=False)
    item: Type | None = None

    def __str__(self) -> str:
        return f"list of {self.item}" if self.item else self.name


BOOL, INT, DOUBLE, STRING = Type("bool"), Type("int"), Type("double"), Type("string")
TIMESTAMP, DURATION = Type("timestamp"), Type("duration")
LIST = Type("list")  # of whatever
SCORES, OUTPUT, SCORE = Type("scores"), Type("output"), Type("double", score=True)
ANYTHING = Type("anything")  # the type of what is already wrong, so that one mistake is one problem

REQUEST: Mapping[str, Type] = {
    "operation": Type("string", values=("generate", "edit")),
    "prompt": STRING,
    "model": STRING,
    "size": Type("string", size=True),
    "width": INT,
    "height": INT,
    "pixels": INT,
    "quality": Type("string", values=("low", "medium", "high", "xhigh", "max", AUTO)),
    "n": INT,
    "background": Type("string", values=("transparent", "opaque", AUTO)),
    "output_format": Type("string", values=("png", "webp", "jpeg", "gif", "svg")),
    "partial_images": INT,
    "input_images": INT,
    "obfuscated": BOOL,
    "has_mask": BOOL,
}
ROOTS: Mapping[str, Type] = {
    "request": Type("request"),
    "caller": Type("caller"),
    "scores": SCORES,
    "output": OUTPUT,
    "answers": Type("answers"),
    "surface": STRING,
    "now": TIMESTAMP,
}
# What is looked up by a category, and the categories that are assessed there.
SCORED: Mapping[str, tuple[str, ...]] = {"scores": CATEGORIES, "output": IMAGE_CATEGORIES}
# What a loop over it runs over, by the name of its own node.
LOOPED: Mapping[str, str] = {"scores": "categories", "output": "pictured"}
_OBJECTS = (SCORES, OUTPUT, ROOTS["request"], ROOTS["caller"], ROOTS["answers"])
# Known from the design, and refused until they are enforced.
NOT_YET_ROOTS = frozenset({"images"})


def common(left: Type, right: Type) -> Type | None:
    """What holds for values of both, None where they do not go together. A list without items goes with every list."""
    if ANYTHING in (left, right):
        return right if left == ANYTHING else left
    if left.item and right.item:
        item = common(left.item, right.item)
        return item and Type("list", item=item)
    if left != right:
        return None
    same = (left.values, left.size, left.score) == (right.values, right.size, right.score)
    return left if same else Type(left.name)


def is_single(type_: Type) -> bool:
    """Whether it is a value that can be compared and kept in a list, or a list of such values."""
    return is_single(type_.item) if type_.item else type_ not in _OBJECTS


def possible(type_: Type, text: str) -> bool:
    """Whether a value of this type can be `text`."""
    if type_.values:
        return text in type_.values
    return not type_.size or text == AUTO or parse_size(text) is not None


def varies(sign: str, bound: float) -> bool:
    """Whether `score sign bound` is true for some scores from 0 to 1, and false for others."""
    if sign in ("==", "!="):
        return 0 <= bound <= 1
    return 0 < bound <= 1 if sign in ("<", ">=") else 0 <= bound < 1
