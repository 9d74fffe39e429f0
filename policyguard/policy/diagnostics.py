"""What problems are called, how pydantic's become ours, and how one is shown with its line and a caret.

Codes are stable: tools and documentation refer to them. Messages are for product teams and never name a type of Python.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from policyguard.errors import Diagnostic
from policyguard.policy.expr import CODES as EXPRESSION_CODES
from policyguard.policy.source import Path, Source, did_you_mean

CODES: Mapping[str, str] = {
    "PG101": "the file cannot be read",
    "PG102": "the file is no YAML",
    "PG103": "a key is there twice",
    "PG104": "a merge key",
    "PG105": "an anchor, alias or tag",
    "PG106": "too large, too deep, too many values, or a number too long",
    "PG107": "an empty file, or more than one document",
    "PG108": "a character that does not belong into a policy",
    "PG109": "a key that is no plain text",
    "PG201": "a key that does not exist",
    "PG202": "a key that is missing",
    "PG203": "a value of the wrong kind",
    "PG204": "a value that is not possible",
    "PG205": "a value that is written in another form",
    "PG206": "a name that is not declared",
    "PG207": "an id that is used twice",
    "PG208": "values that contradict each other",
    "PG209": "something that is needed is missing",
    "PG210": "a key or value that policyguard does not enforce yet",
    "PG301": "a value beyond the organisation's limit",
    "PG302": "nothing is left of a list within the limits",
    "PG303": "a default that is not in its list",
    **EXPRESSION_CODES,
    "PG501": "org.yaml is missing",
    "PG502": "the folder has no surface",
    "PG503": "a surface is there twice",
    "PG504": "a route is claimed twice",
}

_KINDS = {
    "string_type": "a text",
    "int_type": "a whole number, without quotes",
    "int_from_float": "a whole number",
    "float_type": "a number, without quotes",
    "bool_type": "`true` or `false`, without quotes",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}
_PATTERNS = {
    "id": "an id is written in lower case with `-`, and has no dot",
    "surface": "an id is written in lower case with `-`, and has no dot",
    "from": 'a header is written like `http.headers["x-user-id"]`, in lower case',
    "per": "this is written like `caller.user`",
}


# ---- from pydantic ----------------------------------------------------------------------------------------


def report(source: Source, model: type[BaseModel], error: ValidationError) -> None:
    """Add every problem that pydantic found to `source`, in our words."""
    for problem in _without_other_forms(error.errors(include_url=False)):
        path = tuple(part for part in problem["loc"] if _is_ours(part))
        _report(source, model, path, problem)


def _is_ours(part: str | int) -> bool:
    """Pydantic puts names of forms and of its own steps into places."""
    return not (isinstance(part, str) and (part == "[key]" or "[" in part or "(" in part or part in _FORMS))


_FORMS = frozenset({"OwnRoute"})


def _without_other_forms(problems: list[Any]) -> Iterator[Any]:
    """Where a value may have two forms, only the problems of the form that was meant."""
    for problem in problems:
        place = problem["loc"]
        if "OwnRoute" in place and problem["type"] == "model_type":
            continue  # it is a text, and the problem of the text is reported
        if any("function-before" in str(part) for part in place) and isinstance(problem["input"], dict):
            continue  # it is a mapping, and the problems of the mapping are reported
        yield problem


def _report(source: Source, model: type[BaseModel], path: Path, problem: Any) -> None:
    kind, context, given = problem["type"], problem.get("ctx", {}), problem["input"]
    name = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        hint = did_you_mean(name, names_at(model, path[:-1]))
        source.problem(path, "PG201", f"there is no key `{name}` here", hint, key=True)
    elif kind == "missing":
        source.problem(path[:-1], "PG202", f"the key `{name}` is missing")
    elif kind == "literal_error":
        allowed = [text.strip("'") for text in context["expected"].replace(" or ", ", ").split(", ")]
        is_key = "[key]" in problem["loc"]
        source.problem(path, "PG204", f"`{given}` is not possible here", did_you_mean(str(given), allowed), key=is_key)
    elif kind in _KINDS:
        source.problem(path, "PG203", f"this needs {_KINDS[kind]}")
    elif kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        source.problem(path, "PG204", f"this is {words} {context[key]:g}")
    elif kind == "value_error":
        source.problem(path, "PG205", str(context["error"]))
    elif kind == "string_pattern_mismatch":
        is_key = "[key]" in problem["loc"]
        words = "a name is written in lower case" if is_key else _PATTERNS.get(name, "this is written in another form")
        source.problem(path, "PG205", words, key=is_key)
    else:
        source.problem(path, "PG204", "this is empty, or too long")


def names_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that are possible at `path` of a document."""
    kind: Any = model
    for part in path:
        kind = _step(kind, part)
    return [field.alias or name for name, field in kind.model_fields.items()] if _is_model(kind) else []


def _step(kind: Any, part: str | int) -> Any:
    if _is_model(kind):
        named = {field.alias or name: field for name, field in kind.model_fields.items()}
        return _model_in(named[str(part)].annotation) if str(part) in named else None
    return kind if isinstance(part, int) else _model_in(kind)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _model_in(kind: Any) -> Any:
    """The document in an annotation such as `list[Rule] | None` or `dict[str, CallerField]`."""
    if _is_model(kind):
        return kind
    if get_origin(kind) in (Union, UnionType, list, dict) or get_args(kind):
        return next((found for arg in get_args(kind) if (found := _model_in(arg)) is not None), None)
    return None


# ---- for people -------------------------------------------------------------------------------------------


def render(diagnostic: Diagnostic, text: str) -> str:
    """The problem, the place, the line with a caret under it, and the hint."""
    head = f"{diagnostic.severity} {diagnostic.code}: {diagnostic.message}"
    lines = text.split("\n")
    shown = [head, f"  --> {diagnostic.file}:{diagnostic.line}:{diagnostic.column}"]
    if diagnostic.line <= len(lines):
        line = lines[diagnostic.line - 1].rstrip("\r")
        gutter = " " * len(str(diagnostic.line))
        caret = " " * _width(line[: diagnostic.column - 1]) + "^"
        shown += [f"{gutter} |", f"{diagnostic.line} | {line.expandtabs(4)}", f"{gutter} | {caret}"]
    if diagnostic.hint:
        shown.append(f"  hint: {diagnostic.hint}")
    return "\n".join(shown)


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    return sum(_columns(character) for character in text.expandtabs(4))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
