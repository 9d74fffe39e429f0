"""Values worth trying for each subject of a world: those at which an atom of a condition can change its result.

`finite` subjects are tried whole; for the others the points around each literal are, so that between two neighbours no
direct atom changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import combinations, pairwise, permutations, product
from typing import Any

from policyguard.policy.expr import Environment
from policyguard.policy.expr.analysis import Atom
from policyguard.policy.expr.examples import matching
from policyguard.policy.expr.types import REQUEST
from policyguard.policy.world import NO_IMAGES, Images, World
from policyguard.pricing import price_book
from policyguard.request import (
    AUTO,
    CATEGORIES,
    IMAGE_CATEGORIES,
    MAX_EDGE,
    MAX_IMAGES,
    MAX_INPUT_IMAGES,
    MAX_PROMPT_CHARS,
    is_name,
    parse_size,
)

EPSILON = 1e-6
OTHER = "something-else"
_STEP, _LONGEST = 16, 3840  # the grid of sizes that models draw
_MAX_CALLER_CHARS = 256
_OBFUSCATED = "x\u200bx"
_MAX_JOINED = 6  # texts that are tried together in every combination
_COMMON_SIZES = ("1024x1024", "1024x1536", "1536x1024", "2048x1152", "2048x2048", "3840x2160", AUTO)


def finite(subject: str, environment: Environment) -> list[Any] | None:
    """Every value that there is; None where there are too many to try them all."""
    if subject in _WHOLE:
        return list(_WHOLE[subject])
    name = subject.removeprefix("caller.")
    if name != subject and environment.caller[name].values:
        declared = environment.caller[name]
        return [*declared.values, *([None] if declared.optional else [])]
    return None


def _images() -> list[Any]:
    edits = (Images("edit", count, mask) for count in range(1, MAX_INPUT_IMAGES + 1) for mask in (False, True))
    return [NO_IMAGES, *edits]


_WHOLE: Mapping[str, Sequence[Any]] = {
    "n": range(1, MAX_IMAGES + 1),
    "partial_images": range(4),
    "images": _images(),
    "quality": REQUEST["quality"].values,
    "background": REQUEST["background"].values,
    "output_format": REQUEST["output_format"].values,
}


def candidates(
    subject: str, atoms: Sequence[Atom], environment: Environment, base: World, bounds: Sequence[Any] = ()
) -> list[Any]:
    """Values of a subject that these atoms tell apart, the plain one first.

    `bounds` matter beside the literals: numbers of a score or of the length of a prompt, values of anything else.
    """
    whole = finite(subject, environment)
    if whole is not None:
        found: Iterable[Any] = whole
    elif subject.startswith(("scores.", "output.", "answers.")):
        found = (*_scores([*_literals(atoms, float), *bounds]), None)
    elif subject.startswith("caller."):
        optional = environment.caller[subject.removeprefix("caller.")].optional
        found = (*bounds, *([None] if optional else []), OTHER, *_texts(atoms, OTHER, _MAX_CALLER_CHARS, ()))
    elif subject == "prompt":
        found = _texts(atoms, "a cat", MAX_PROMPT_CHARS, bounds)
        if any("request.obfuscated" in atom.reads for atom in atoms):
            found = [*found, *_hidden(found, MAX_PROMPT_CHARS)]
    else:
        found = (*bounds, *_OTHERS[subject](atoms, base))
    return _unique([base[subject], *found] if subject in base else found)


def _unique(values: Iterable[Any]) -> list[Any]:
    """Each once, in order; mappings are values here, too."""
    found: dict[str, Any] = {}
    for value in values:
        found.setdefault(repr(value), value)
    return list(found.values())


def _literals(atoms: Iterable[Atom], kind: type) -> list[Any]:
    found = {literal for atom in atoms for literal in atom.literals if type(literal) is kind}
    return sorted(found)


# ---- numbers ----------------------------------------------------------------------------------------------


def _scores(literals: Iterable[float]) -> list[float]:
    """Each literal, and a point in every gap between two of them: close to the literal where there is room."""
    bounds = sorted({0.0, 1.0, *(v for v in literals if 0 <= v <= 1)})
    found = set(bounds)
    for low, high in pairwise(bounds):
        near = (low + EPSILON, high - EPSILON) if high - low > 2 * EPSILON else ((low + high) / 2,)
        found.update(round(value, 9) if high - low > 2 * EPSILON else value for value in near)
    return sorted(found)


def _overlays(atoms: Sequence[Atom], base: World) -> list[Any]:
    return _looped(atoms, CATEGORIES)


def _pictured(atoms: Sequence[Atom], base: World) -> list[Any]:
    return _looped(atoms, IMAGE_CATEGORIES)


def _looped(atoms: Sequence[Atom], assessed: tuple[str, ...]) -> list[Any]:
    """For a loop over scores: one category at a time, then all of them, around each literal; and none assessed."""
    if not atoms:
        return [{}, None]
    points = [p for p in _scores(_literals(atoms, float)) if p > 0]
    singly = [{category: point} for point in points for category in assessed]
    return [{}, *singly, *(dict.fromkeys(assessed, point) for point in points), None]


# ---- texts ------------------------------------------------------------------------------------------------


def _texts(atoms: Sequence[Atom], plain: str, longest: int, bounds: Sequence[int]) -> list[str]:
    """The literals, what matches the patterns, several of them in one text, and texts of every critical length."""
    written = _literals(atoms, str)
    patterns = [p for atom in atoms for p in atom.literals if hasattr(p, "pattern")]
    found = list(dict.fromkeys([*written, *(text for p in patterns for text in matching(p)[:2])]))
    ordered = [
        c + text for atom in atoms if not atom.direct for text in atom.literals if type(text) is str for c in "!~"
    ]
    several = [
        join.join(chosen)
        for count in range(2, len(found[:_MAX_JOINED]) + 1)
        for chosen in combinations(found[:_MAX_JOINED], count)
        for join in (" ", "")
    ]
    around = [text for one in found for text in (f"{one} {plain}", f"{plain} {one}")]
    texts = [plain, *found, *around, *several, *ordered]
    limits = [*bounds, *_literals([atom for atom in atoms if atom.length], int)]
    lengths = {limit + d for limit in limits for d in (-1, 0, 1)}
    ends = [(text, "") for text in [plain, *found]] + list(permutations(found[:_MAX_JOINED], 2))
    padded = [_padded(start, end, length) for length in sorted(lengths) for start, end in ends]
    return [text for text in (*texts, *padded) if text.strip() and len(text) <= longest]


def _hidden(texts: Sequence[str], longest: int) -> Iterator[str]:
    """Each text once more with letters that are hidden: behind it, and in the place of its end."""
    for text in texts:
        if len(text) + len(_OBFUSCATED) <= longest:
            yield text + _OBFUSCATED
        if len(text) >= len(_OBFUSCATED):
            yield text[: -len(_OBFUSCATED)] + _OBFUSCATED


def _padded(start: str, end: str, length: int) -> str:
    filler = max(0, length - len(start) - len(end))
    return (start + "x" * filler + end)[: max(0, length)]


def _models(atoms: Sequence[Atom], base: World) -> list[str]:
    usable = [name for name, row in price_book().models.items() if row.usable]
    return [*usable, *filter(is_name, _texts(atoms, OTHER, 100, ()))]


def _surfaces(atoms: Sequence[Atom], base: World) -> list[str]:
    return [OTHER, *_texts(atoms, OTHER, 100, ())]


# ---- sizes ------------------------------------------------------------------------------------------------


def _sizes(atoms: Sequence[Atom], base: World) -> list[str]:
    """Sizes on both sides of every bound: by width and height, and along the curve of every number of pixels."""
    bounds: dict[str, set[int]] = {"request.width": set(), "request.height": set(), "request.pixels": set()}
    for atom in atoms:
        for path in atom.reads & bounds.keys():
            bounds[path].update(v for v in atom.literals if type(v) is int)
    widths, heights = (_edges(bounds[path]) for path in ("request.width", "request.height"))
    pixels = bounds["request.pixels"]
    if pixels:
        widths = sorted({*widths, *range(_STEP, _LONGEST + 1, _STEP)})
    found = [
        f"{width}x{height}"
        for width in (widths if any(bounds.values()) else ())
        for height in sorted({*heights, *(edge for p in pixels for edge in _edges({p // width}))})
    ]
    texts = [text for text in _literals(atoms, str) if parse_size(text)]
    return [*_COMMON_SIZES, *texts, *found]


def _edges(bounds: set[int]) -> list[int]:
    """Around each bound, one pixel and one step of the grid away."""
    around = {bound + d for bound in bounds for d in (-1, 0, 1)}
    around |= {(bound // _STEP + d) * _STEP for bound in bounds for d in (-1, 0, 1, 2)}
    return sorted(edge for edge in {*around, 1024} if 1 <= edge <= MAX_EDGE)


# ---- time -------------------------------------------------------------------------------------------------


def _moments(atoms: Sequence[Atom], base: World) -> Iterator[datetime]:
    """Every value of each part that is looked at, in its zone, and both sides of each time that is written out."""
    now: datetime = base["now"]
    parts = {part for atom in atoms for part in atom.parts}
    numbers = [v for atom in atoms for v in atom.literals if type(v) is int]
    names = {name for name, _ in parts}
    for zone in sorted({zone for _, zone in parts}, key=str):
        local = now.astimezone(zone)
        for day, time in product(_days(local, names, numbers), _times(names)):
            yield day.replace(**time).astimezone(now.tzinfo)
    spans = [timedelta(0), *_literals(atoms, timedelta)]
    second = timedelta(seconds=1)
    for moment in _literals(atoms, datetime):
        yield from (moment + s * span + d * second for span in spans for s in (-1, 1) for d in (-1, 0, 1))


def _days(local: datetime, names: set[str], numbers: Sequence[int]) -> list[datetime]:
    days = [local]
    if names & {".getDayOfWeek", ".getHours", ".getMinutes"}:  # two weeks, for an hour that one day may not have
        days += [local + timedelta(days=d) for d in range(1, 14)]
    if names & {".getDate", ".getDayOfMonth"}:
        days += [local.replace(month=1, day=day) for day in range(1, 32)]
    if ".getMonth" in names:
        days += [day.replace(month=month, day=min(day.day, 28)) for day in list(days) for month in range(1, 13)]
    if ".getFullYear" in names:
        years = {v + d for v in numbers for d in (-1, 0, 1) if 2 <= v <= 9997}
        days += [day.replace(year=year, day=min(day.day, 28)) for day in list(days) for year in sorted(years)]
    if ".getDayOfYear" in names:
        first = local.replace(month=1, day=1)
        days += [first + timedelta(days=v + d) for v in numbers for d in (-1, 0, 1) if 0 <= v <= 365]
    return days


def _times(names: set[str]) -> list[dict[str, Any]]:
    ranges = {"hour": (".getHours", 24), "minute": (".getMinutes", 60), "second": (".getSeconds", 60)}
    chosen = {key: range(count) for key, (name, count) in ranges.items() if name in names}
    return [dict(zip(chosen, values, strict=True)) for values in product(*chosen.values())]


_OTHERS: Mapping[str, Callable[[Sequence[Atom], World], Iterable[Any]]] = {
    "model": _models,
    "size": _sizes,
    "surface": _surfaces,
    "scores": _overlays,
    "output": _pictured,
    "now": _moments,
}
