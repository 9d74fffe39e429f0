"""One verdict out of the answers about the prompt and each image: the maximum by category, and what is missing.

A part without an answer makes its categories incomplete: the maximum of the others may be too low.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from policyguard.request import CATEGORIES, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialVerdict:
    """The answer about the prompt or about one image. `expected` is what it should have assessed."""

    expected: frozenset[str]
    scores: Mapping[str, float]
    model: str | None = None
    error: str | None = None
    calls: int = 1
    request_id: str | None = None


def merge(model: str, parts: Iterable[PartialVerdict], latency_ms: int) -> Verdict:
    """Every category that some part should have assessed and did not is incomplete: its score is a lower bound."""
    found = list(parts)
    scores: dict[str, float] = {}
    incomplete: set[str] = set()
    for part in found:
        for category, score in part.scores.items():
            scores[category] = max(score, scores.get(category, 0.0))
        incomplete |= part.expected - part.scores.keys()
    return Verdict(
        model=next((part.model for part in found if part.model), model),
        scores={category: scores[category] for category in CATEGORIES if category in scores},
        incomplete=frozenset(incomplete),
        error=next((part.error for part in found if part.error), None),
        calls=sum(part.calls for part in found),
        latency_ms=latency_ms,
        request_ids=tuple(part.request_id for part in found if part.request_id),
    )
