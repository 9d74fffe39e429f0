"""Texts that make the grammar's patterns take for ever, or that it reads otherwise than CEL, are refused before it."""

from __future__ import annotations

import pytest
from celpy.celparser import CELParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from patience import cpu_s

from policyguard.policy.expr import Environment, ExpressionErrors, compile_expression
from policyguard.policy.expr.parse import _parser
from policyguard.policy.expr.scan import Unfinished, scan

ENVIRONMENT = Environment({})
HOSTILE = {
    "a text of escapes without an end": "'" + r"\x41" * 2400,
    "backslashes without an end": '"' + r"\\" * 4000,
    "a long text without an end": '"""' + r"\u1234" * 1600,
    "bytes without an end": "b'" + r"\n" * 4000,
    "a raw text that ends with a backslash": "r'" + "\\" * 4001 + "'",
    "brackets": "(" * 9_999,
    "a long list": "[" + "1," * 4_990 + "1] == []",
    "a long chain": "a" + "||a" * 3_300,
    "a long name": "a" * 9_999,
    "a long number": "9" * 9_999 + " == 1",
    "dots": "a" + ".a" * 4_900,
    "signs": "-" * 9_998 + "1 == 1",
    "a pattern that repeats": "request.prompt.matches('((a{1000}){1000}){1000}')",
    "remarks": "//\n" * 3_000,
}


@pytest.fixture(scope="module")
def honest_s() -> float:
    """What the grammar takes for a list without malice that is as long as a condition can be."""
    parser = _parser()
    return cpu_s(lambda: parser.parse("request.n in [" + "1, " * 3_300 + "1]"))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_costs_no_more_than_reading_a_few_honest_ones(name: str, honest_s: float) -> None:
    def refused() -> None:
        with pytest.raises(ExpressionErrors):
            compile_expression(HOSTILE[name], ENVIRONMENT)

    assert cpu_s(refused, runs=1) < 10 * honest_s


PIECES = [
    "'",
    '"',
    "'''",
    '"""',
    "r",
    "b",
    "\\",
    "\\'",
    "a",
    "1",
    "//",
    "\n",
    " ",
    "+",
    "(",
    ")",
    "x1",
    "1.5",
    "0x1",
    "-",
]


@settings(deadline=None, max_examples=500)
@example("1.5r''")
@example("0x1r'\\'")
@example("a1r''")
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_scan_sees_the_literals_that_the_grammar_sees(source: str) -> None:
    try:
        scanned = scan(source)
        tokens = list(_parser().lex(source))
    except Unfinished:
        return
    except Exception:
        return  # no expression
    texts = [(t.start_pos, t.end_pos) for t in tokens if t.type in ("STRING_LIT", "MLSTRING_LIT", "BYTES_LIT")]
    assert [(s.start, s.end) for s in scanned.spans if s.kind == "text"] == texts


@pytest.mark.parametrize(
    "source",
    ["a.b(1, 'c')[d] ? -e : !f", "true && x in [1, 2u, b'a', null]", "{1: 2}.f{g: 3} == .h", "1 - -1 * 2 // x"],
)
def test_our_parser_is_cel_pythons(source: str) -> None:
    assert _parser().parse(source) == CELParser().parse(source)
