"""What the checker says of mistakes, row by row, where the limits are, and which foreign letters it lets through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from policyguard.policy.expr import CallerType, Environment, ExpressionErrors, compile_expression, forget

ENVIRONMENT = Environment(
    {"tier": CallerType(False, ("free", "pro")), "user": CallerType(False), "team": CallerType(True)}
)
TABLE = Path(__file__).parent / "conformance" / "checker.yaml"
ROWS = yaml.load(TABLE.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def problems(source: str) -> dict[str, str]:
    try:
        compile_expression(source, ENVIRONMENT)
    except ExpressionErrors as errors:
        return {f"{p.code} {p.line}:{p.column}": p.hint for p in errors.problems}
    return {}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["on"].encode("ascii", "backslashreplace").decode())
def test_each_mistake_has_its_code_place_and_hint(row: dict[str, Any]) -> None:
    assert problems(row["on"]) == row["says"]


def test_a_letter_that_is_taken_for_another_is_found_in_a_known_shape_too() -> None:
    forget()
    compile_expression("request.model == 'gpt-image-2'", ENVIRONMENT)
    assert list(problems("request.model == 'gpt-\u0456mage-2'")) == ["PG415 1:23"]


@pytest.mark.parametrize(
    "text",
    [
        *("狐の絵 AI画像", "лиса и fox", "USB-порт", "αλεπού", "10 μm", "Ünïcode", "👩\u200d🎨", "می\u200cخواهم"),
        *(r"\u0456mage", r"\nвот", r"\x41вот", "لوحة", "תמונה", "여우 그림", "Ꙁ", "ﬁx", r"gpt-\u202e"),
    ],
)
def test_letters_of_the_world_stay_as_they_are(text: str) -> None:
    assert problems(f"request.prompt.contains('{text}')") == {}


def brackets(depth: int) -> str:
    return "(" * (depth - 1) + "true" + ")" * (depth - 1)


def items(count: int) -> str:
    return f"[{', '.join(['1'] * (count - 2))}].size() == 1"


LIMITS = {
    "30 levels": (brackets(30), brackets(31)),
    "30 signs": ("!" * 29 + "true", "!" * 30 + "true"),
    "100 operands of or": (" || ".join(["true"] * 100), " || ".join(["true"] * 101)),
    "100 operands of and": (" && ".join(["true"] * 100), " && ".join(["true"] * 101)),
    "100 operands of plus": (" + ".join(["1"] * 100) + " > 1", " + ".join(["1"] * 101) + " > 1"),
    "100 operands of times": (" * ".join(["1"] * 100) + " > 0", " * ".join(["1"] * 101) + " > 0"),
    "500 parts": (items(498), items(499)),
    "10,000 characters": ("true" + " " * 9_996, "true" + " " * 9_997),
    "two loops": (
        "[1].exists(a, [1].exists(b, a == b))",
        "[1].exists(a, [1].exists(b, [1].exists(c, a == b)))",
    ),
    "two loops over one another": (
        "[1].filter(a, true).exists(b, true)",
        "[1].filter(a, true).filter(b, true).exists(c, true)",
    ),
    "a loop over a loop, and one inside": (
        "[1].exists(a, [1].filter(b, true).size() == a)",
        "[1].filter(a, true).exists(b, [1].exists(c, c == b))",
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_where_they_are_said_to_be(name: str) -> None:
    within, beyond = LIMITS[name]
    assert (set(problems(within)), {key[:5] for key in problems(beyond)}) == (set(), {"PG409"})


def test_loops_beside_one_another_are_not_counted_together() -> None:
    beside = " && ".join(["[1].exists(a, [1].exists(b, a == b))"] * 5)
    assert problems(beside) == {}


def test_a_chain_of_loops_cannot_grow_a_list_beyond_what_is_written() -> None:
    """Each step would double it: thirty steps, a thousand million values."""
    source = "[[1]]" + ".map(y, y + y)" * 20 + ".size() == 1"
    assert list(problems(source)) == ["PG409 1:35"]
