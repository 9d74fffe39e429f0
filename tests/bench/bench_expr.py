"""What conditions cost: microseconds for an evaluation against hand-written Python, and for compiling one.

Other engines are asked in the same run, on the same request, already in the form that each takes. Run it:
`python tests/bench/bench_expr.py`. Exits 1 where a figure is beyond what is never acceptable.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from timeit import repeat
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from cel_engines import activation, cel_expr_data, checked, interpreted

from policyguard.policy.expr import CallerType, Environment, compile_expression, forget
from policyguard.request import CATEGORIES, ImageRequest, parse_size

ROUNDS = 50_000
WORST_RATIO = 5.0
ENVIRONMENT = Environment(
    {"tier": CallerType(False, ("free", "pro")), "cohort": CallerType(True), "tenant": CallerType(False)}
)
INPUTS: Mapping[str, Any] = {
    "request": ImageRequest(
        prompt="a watercolour of a lighthouse at dusk, soft light, no people",
        model="gpt-image-2",
        size="1024x1536",
        quality="high",
        n=2,
    ),
    "caller": {"tier": "free", "tenant": "acme"},
    "scores": dict.fromkeys(CATEGORIES, 0.01),
    "surface": "avatars",
    "now": datetime(2026, 11, 24, 12, tzinfo=UTC),
}


def by_tier(inputs: Mapping[str, Any]) -> bool:
    return inputs["caller"]["tier"] == "free" and inputs["request"].quality == "high"


def four_clauses(inputs: Mapping[str, Any]) -> bool:
    request, scores = inputs["request"], inputs["scores"]
    width, height = parse_size(request.size)
    large = request.n > 4 or width * height > 4_000_000
    return (large and request.quality in ("high", "max")) or scores["sexual"] > 0.5


def any_score(inputs: Mapping[str, Any]) -> bool:
    scores = inputs["scores"]
    return any(scores[c] > 0.5 for c in CATEGORIES)


RULES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
    "two clauses": ('caller.tier == "free" && request.quality == "high"', by_tier),
    "four clauses": (
        '(request.n > 4 || request.pixels > 4000000) && request.quality in ["high", "max"] || scores.sexual > 0.5',
        four_clauses,
    ),
    "any of 13 scores": ("scores.exists(c, scores[c] > 0.5)", any_score),
}


def microseconds(function: Callable[[Mapping[str, Any]], object]) -> float:
    return min(repeat(lambda: function(INPUTS), number=ROUNDS, repeat=7)) / ROUNDS * 1e6


def evaluation() -> bool:
    fine = True
    print(f"{'evaluation, us':<24}{'by hand':>10}{'compiled':>10}{'ratio':>8}{'run':>8}{'down':>10}")
    down = {**INPUTS, "scores": None}
    for name, (source, by_hand) in RULES.items():
        condition = compile_expression(source, ENVIRONMENT)
        assert condition(INPUTS) is by_hand(INPUTS)
        floor, ours, plain = (microseconds(f) for f in (by_hand, condition, condition.run))
        figures = f"{floor:>10.3f}{ours:>10.3f}{ours / floor:>8.2f}{plain / floor:>8.2f}"
        print(f"{name:<24}{figures}{_down(condition, down):>10}")
        fine = fine and ours / floor <= WORST_RATIO
    return fine


def _down(condition: Callable[[Mapping[str, Any]], bool], inputs: Mapping[str, Any]) -> str:
    """The same with moderation down, which takes the exact form."""

    def ask() -> None:
        try:
            condition(inputs)
        except Exception:
            return

    return f"{min(repeat(ask, number=2000, repeat=5)) / 2000 * 1e6:.2f}"


def engines() -> None:
    """The same conditions elsewhere, in multiples of hand-written Python."""
    print(f"\n{'times hand-written':<24}{'compiled':>10}{'cel-expr-python':>18}{'cel-python':>12}")
    for name, (source, by_hand) in RULES.items():
        google, python = checked(source), interpreted(source, False)
        data, known = cel_expr_data(INPUTS), activation(INPUTS)
        assert google.eval(data=data).value() is bool(python.evaluate(known)) is by_hand(INPUTS)
        floor = microseconds(by_hand)
        ours = microseconds(compile_expression(source, ENVIRONMENT)) / floor
        theirs = _each(lambda run=google, data=data: run.eval(data=data)) / floor
        slowest = _each(lambda run=python, known=known: run.evaluate(known)) / floor
        print(f"{name:<24}{ours:>10.1f}{theirs:>18.0f}{slowest:>12,.0f}")


def _each(run: Callable[[], object], rounds: int = 300) -> float:
    return min(repeat(run, number=rounds, repeat=5)) / rounds * 1e6


def compiling() -> None:
    """Cold: parsed, checked, compiled. Shared: another condition of the same shape is known."""
    start = perf_counter()
    compile_expression("true", ENVIRONMENT)
    print(f"\nthe first condition of a process, with its parser: {(perf_counter() - start) * 1e3:.0f} ms")
    print(f"{'compiling, us':<24}{'cold':>10}{'shared':>10}")
    for name, (source, _) in RULES.items():
        cold = [_timed(source, anew=True) for _ in range(50)]
        shared = [_timed(source.replace("0.5", f"0.{1000 + n}"), anew=False) for n in range(2000)]
        print(f"{name:<24}{median(cold):>10.0f}{median(shared):>10.1f}")


def _timed(source: str, *, anew: bool) -> float:
    if anew:
        forget()
    start = perf_counter()
    compile_expression(source, ENVIRONMENT)
    return (perf_counter() - start) * 1e6


def main() -> int:
    compiling()
    gc.collect()
    fine = evaluation()
    engines()
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
