"""Two other engines for CEL, asked the same questions as ours: cel-python's interpreter and Google's, in C++.

Each is a function of an expression and of our inputs that says True, False, `ERRS` where evaluation fails, or `REFUSES`
where the expression does not compile. Neither knows why something fails: an error and an input that is down are one.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from math import copysign, inf, isnan, nan
from typing import Any

os.environ["TZDIR"] = str(files("tzdata") / "zoneinfo")  # the C++ engine's zones, as new as Python's

import celpy
from cel_expr_python import cel
from celpy import celtypes

from policyguard.policy.expr import EvaluationError, Unavailable, field_of
from policyguard.policy.expr.types import REQUEST
from policyguard.request import CATEGORIES, ImageRequest

ERRS, REFUSES = "errs", "refuses"
Answer = bool | str
Engine = Callable[[str, Mapping[str, Any]], Answer]


def outcome(condition: Callable[[Mapping[str, Any]], bool], inputs: Mapping[str, Any]) -> Answer:
    """Ours, in the words of the others."""
    try:
        return condition(inputs)
    except (EvaluationError, Unavailable):
        return ERRS


def _request(request: ImageRequest) -> dict[str, Any]:
    """Fields by name; what is not known is not there."""
    found = {}
    for name in REQUEST:
        with suppress(EvaluationError):
            found[name] = field_of(request, name)
    return found


# ---- cel-python -------------------------------------------------------------------------------------------

_CEL = celpy.Environment()


def _retyped(value: Any) -> Any:
    if isinstance(value, str):
        return celtypes.StringType(value)
    if isinstance(value, list):
        return celtypes.ListType(value)
    return celtypes.DoubleType(value) if isinstance(value, float) else value


def _divided(left: Any, right: Any) -> Any:
    if isinstance(left, float) and float(right) == 0:
        none = float(left) == 0 or isnan(left)
        return celtypes.DoubleType(nan if none else copysign(inf, left) * copysign(1.0, right))
    return left / right


def _string(value: Any) -> Any:
    return celtypes.StringType(str(value).lower() if isinstance(value, celtypes.BoolType) else value)


def _int(value: Any) -> Any:
    if isinstance(value, float) and not abs(float(value)) < 2**63:
        raise ValueError("range")
    return celtypes.IntType(value)


# Where cel-python 0.5 is plainly wrong: types lost by `+`, division of doubles, `string(true)`, `int` of no number.
OVERLAY: Mapping[str, Callable[..., Any]] = {
    "_+_": lambda left, right: _retyped(operator.add(left, right)),
    "_/_": _divided,
    "string": _string,
    "int": _int,
}


def cel_python(source: str, inputs: Mapping[str, Any], overlay: Mapping[str, Any] | None = None) -> Answer:
    """The interpreter as it is. An input that is down is an error object in its place."""
    try:
        result = interpreted(source, overlay is not None).evaluate(activation(inputs))
    except Exception as error:
        return REFUSES if isinstance(error, celpy.CELParseError) else ERRS
    return bool(result) if isinstance(result, celtypes.BoolType) else ERRS


def mended_cel_python(source: str, inputs: Mapping[str, Any]) -> Answer:
    return cel_python(source, inputs, OVERLAY)


@lru_cache(maxsize=64)
def interpreted(source: str, mended: bool) -> Any:
    return _CEL.program(_CEL.compile(source), functions=OVERLAY if mended else None)


def activation(inputs: Mapping[str, Any]) -> dict[str, Any]:
    down, scores = celpy.CELEvalError("down"), inputs["scores"]
    known = {c: celtypes.DoubleType(scores[c]) if c in (scores or {}) else down for c in CATEGORIES}
    return {
        "request": celpy.json_to_cel(_request(inputs["request"])),
        "caller": celpy.json_to_cel(dict(inputs["caller"])),
        "scores": down if scores is None else celtypes.MapType({celtypes.StringType(c): known[c] for c in known}),
        "surface": celtypes.StringType(inputs["surface"]),
        "now": celtypes.TimestampType(inputs["now"]),
    }


# ---- cel-expr-python --------------------------------------------------------------------------------------

_TYPES = {"string": cel.Type.STRING, "int": cel.Type.INT, "bool": cel.Type.BOOL}
_TYPED = cel.NewEnv(
    variables={
        **{f"request.{name}": _TYPES[type_.name] for name, type_ in REQUEST.items()},
        "caller": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
        "scores": cel.Type.Map(cel.Type.STRING, cel.Type.DOUBLE),
        "surface": cel.Type.STRING,
        "now": cel.Type.TIMESTAMP,
    }
)


def cel_expr(source: str, inputs: Mapping[str, Any]) -> Answer:
    """Google's engine. An input that is down is not there; errors come back as values."""
    try:
        program = checked(source)
    except RuntimeError:
        return REFUSES
    result = program.eval(data=cel_expr_data(inputs))
    return bool(result.value()) if result.type() == cel.Type.BOOL else ERRS


def cel_expr_data(inputs: Mapping[str, Any]) -> dict[str, Any]:
    data = {f"request.{name}": value for name, value in _request(inputs["request"]).items()}
    data |= {name: inputs[name] for name in ("surface", "now")} | {"caller": dict(inputs["caller"])}
    return data if inputs["scores"] is None else {**data, "scores": dict(inputs["scores"])}


@lru_cache(maxsize=64)
def checked(source: str) -> Any:
    return _TYPED.compile(source)
