"""Our conditions against cel-python's interpreter, on generated expressions that both accept."""

from __future__ import annotations

from typing import Any

import celpy
from celpy import celtypes
from hypothesis import given, settings
from hypothesis import strategies as st

from policyguard.policy.expr import CallerType, Environment, EvaluationError, compile_expression

ENVIRONMENT = Environment({"a": CallerType(False), "b": CallerType(False)})
_CEL = celpy.Environment()


def numbers(depth: int) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(["0", "1", "2", "7", "size(caller.a)", "size(caller.b)", "9223372036854775807"])
    if depth == 0:
        return leaf
    inner = numbers(depth - 1)
    return leaf | st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "%"]), inner)


texts = st.sampled_from(["caller.a", "caller.b", "'x'", "'é'", "(caller.a + caller.b)"])


def conditions(depth: int) -> st.SearchStrategy[str]:
    compare = st.builds("{} {} {}".format, numbers(2), st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), numbers(2))
    words = st.builds("{} {} {}".format, texts, st.sampled_from(["==", "!=", "<"]), texts)
    member = st.builds("{} in [{}, {}]".format, texts, texts, texts)
    leaf = compare | words | member | st.sampled_from(["true", "false"])
    if depth == 0:
        return leaf
    inner = conditions(depth - 1)
    joined = st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||"]), inner)
    return leaf | joined | inner.map("!({})".format) | st.builds("({} ? {} : {})".format, inner, inner, inner)


def reference(source: str, values: dict[str, str]) -> bool | None:
    """cel-python's answer; None where it errs."""
    caller = celtypes.MapType({celtypes.StringType(k): celtypes.StringType(v) for k, v in values.items()})
    try:
        result: Any = _CEL.program(_CEL.compile(source)).evaluate({"caller": caller})
    except Exception:
        return None
    return bool(result) if isinstance(result, celtypes.BoolType) else None


@settings(deadline=None, max_examples=300)
@given(conditions(2), st.text("xé漢", max_size=3), st.text("xé漢", max_size=3))
def test_we_agree_with_cel_python(source: str, a: str, b: str) -> None:
    values = {"a": a, "b": b}
    try:
        ours: bool | None = compile_expression(source, ENVIRONMENT)({"caller": values})
    except EvaluationError:
        ours = None
    assert ours == reference(source, values)
