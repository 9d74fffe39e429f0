"""Plans shared by shape: a second condition that differs in its literals alone is neither parsed nor checked again.

The shape is the text between the literals. Whatever is not plainly the same, a literal that is not possible in its
place included, goes the long way, so that every problem gets its own words and its own place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from policyguard.policy.expr import letters
from policyguard.policy.expr.checked import Plan
from policyguard.policy.expr.literals import value_of
from policyguard.policy.expr.parse import MAX_CHARS, ParsedCondition
from policyguard.policy.expr.scan import Unfinished, scan
from policyguard.policy.expr.syntax import TextSpan
from policyguard.policy.expr.types import CallerType, Environment

MAX_SHAPES = 2048
MAX_PLANS = 256  # of one shape, for the different values of literals that name what is read
ConditionShape = tuple[tuple[str, ...], tuple[str, ...], frozenset[tuple[str, CallerType]], frozenset[str]]


@dataclass(frozen=True, slots=True)
class ConditionText:
    """One condition as its shape and its literals."""

    source: str
    spans: tuple[TextSpan, ...]
    shape: ConditionShape


@dataclass(slots=True)
class _Plans:
    negative: tuple[bool, ...]
    fixed: tuple[int, ...]
    by_fixed: dict[tuple[Any, ...], Plan] = field(default_factory=dict)


_SHAPES: dict[ConditionShape, _Plans] = {}
_LOCK = Lock()


def text_of(source: str, environment: Environment) -> ConditionText | None:
    """None where the text is not so plain that its shape says all."""
    if len(source) > MAX_CHARS:
        return None
    try:
        scanned = scan(source)
    except Unfinished:
        return None
    if not scanned.plain or next(letters.odd(source, scanned.spans), None):
        return None
    ends = (0, *(span.end for span in scanned.spans))
    starts = (*(span.start for span in scanned.spans), len(source))
    between = tuple(source[end:start] for end, start in zip(ends, starts, strict=True))
    kinds = tuple(span.kind for span in scanned.spans)
    return ConditionText(source, scanned.spans, (between, kinds, environment.key, environment.answers))


def shared(text: ConditionText) -> tuple[Plan, tuple[Any, ...]] | None:
    """The plan and the parameters, where a condition of this shape is known."""
    plans = _SHAPES.get(text.shape)
    if plans is None:
        return None
    try:
        literals = [_literal(text.source, span, minus) for span, minus in zip(text.spans, plans.negative, strict=True)]
        plan = plans.by_fixed.get(tuple(literals[i] for i in plans.fixed))
        return None if plan is None else (plan, plan.bind(literals))
    except ValueError:
        return None


def _literal(source: str, span: TextSpan, negative: bool) -> Any:
    written = source[span.start : span.end]
    return value_of(span.kind, f"-{written}" if negative else written)


def remember(text: ConditionText, parsed: ParsedCondition, plan: Plan) -> None:
    """Keep a plan for its shape, if the scan saw the very literals that the grammar saw."""
    if tuple(slot.span for slot in parsed.slots) != text.spans:
        return
    fixed = tuple(index for index, demand in enumerate(plan.demands) if demand.fixed)
    key = tuple(parsed.slots[index].value for index in fixed)
    with _LOCK:
        if len(_SHAPES) >= MAX_SHAPES:
            _SHAPES.clear()
        plans = _SHAPES.setdefault(text.shape, _Plans(tuple(slot.negative for slot in parsed.slots), fixed))
        if len(plans.by_fixed) >= MAX_PLANS:
            plans.by_fixed.clear()
        plans.by_fixed[key] = plan


def forget() -> None:
    """As in a new process."""
    with _LOCK:
        _SHAPES.clear()
