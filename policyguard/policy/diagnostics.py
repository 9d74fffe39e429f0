"""What problems are called, how pydantic's become ours, and how one is shown with its line and a caret.

Codes are stable: tools and documentation refer to them. Messages are for product teams and never name a type of Python.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from policyguard.errors import Diagnostic
from policyguard.policy.document import Organisation, Surface
from policyguard.policy.expr import CODES as EXPRESSION_CODES
from policyguard.policy.source import MAX_PROBLEMS, Source, YAMLPath
from policyguard.text.suggest import did_you_mean, known_names, shown
from policyguard.text.visible import visible

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
    "PG110": "more problems than are shown",
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
    "PG505": "a moderation model that the guard's moderator does not serve",
    "PG506": "a policy that is not read",
    "PG507": "a question that the guard's moderator does not answer",
    "PG508": "a moderation model whose moderator is broken, or that two moderators declare",
    "PG701": "a condition that is never true",
    "PG702": "a condition that is always true",
    "PG703": "a rule that lists, limits or thresholds decide already",
    "PG704": "a rule that adds nothing to another one",
    "PG705": "a review threshold that the deny threshold comes before",
    "PG706": "a threshold that every request reaches",
    "PG707": "a group that no review names",
    "PG708": "a budget that can never admit one image",
    "PG709": "high stakes without a review",
    "PG710": "an exemption that has ended",
    "PG711": "an exemption that changes nothing",
    "PG712": "an escalation to nobody new",
    "PG713": "a model that is shut down soon",
    "PG714": "a group that is named like a person",
    "PG715": "pictures that nobody looks at",
    "PG716": "a question whose answer no rule reads",
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
    "rules": "a rule of this file is named by its id, and nothing else can be exempted",
}


_LENGTHS = {
    "string_too_short": "this is empty",
    "string_too_long": "this is too long",
    "too_short": "this list is empty",
    "too_long": "this list is too long",
}
_ALLOWED = re.compile(r"[^', ]+(?=')|^\d+$")  # pydantic's list of what is possible: texts in quotes, or one number
_PLAIN = re.compile(r"[\w./$-]+(?: [\w./$-]+)*")  # needs no quotes in a list
_NO_SPACE = re.compile(r"\w+:\S")
_DIGITS = re.compile(r"\s*([-+]?\d{1,18}(?:\.\d{1,18})?)\s*(%?)\s*", re.ASCII)
_TRUTH = {"yes": "true", "on": "true", "true": "true", "y": "true", "1": "true"} | {
    **dict.fromkeys(("no", "off", "false", "n", "0"), "false")
}
_SHOWN = 140  # characters of a line


# ---- from pydantic ----------------------------------------------------------------------------------------


def report(
    source: Source,
    model: type[BaseModel],
    error: ValidationError,
    empty: Container[YAMLPath] = (),
    *,
    at: YAMLPath = (),
    data: Any = None,
) -> None:
    """Add every problem that pydantic found to `source`, in our words; `empty` keys are reported already.

    `at` is where in the file the document stands that was validated; `data` is that, where it is not written so.
    """
    data = source.at(at) if data is None else data
    placed = [(*_placed(problem, data), problem) for problem in error.errors(include_url=False)]
    problems = [(path, forms, problem) for path, forms, problem in placed if not _is_other_form(forms, problem)]
    unknown = [path for path, _, problem in problems if problem["type"] == "extra_forbidden"][:MAX_PROBLEMS]
    for path, forms, problem in problems:
        misspelt = problem["type"] == "missing" and any(_is_meant(path, other) for other in unknown)
        if path not in empty and not misspelt:
            hint = _elsewhere(model, path) if problem["type"] == "extra_forbidden" else ""
            _report(source, (*at, *path), hint, names_at(model, path[:-1]), problem, is_key="[key]" in forms)


def _placed(problem: Any, data: Any) -> tuple[YAMLPath, tuple[str, ...]]:
    """The path in the file; pydantic puts names of forms and of its own steps between, which are no keys of it."""
    path, forms, value, place = [], [], data, problem["loc"]
    for index, part in enumerate(place):
        if (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        ):
            value = value[part]
        elif not (problem["type"] == "missing" and index == len(place) - 1):
            forms.append(str(part))
            continue
        path.append(part)
    return tuple(path), tuple(forms)


def _is_meant(missing: YAMLPath, unknown: YAMLPath) -> bool:
    """Whether a key that is missing is there, misspelt: that is one problem, not two."""
    return missing[:-1] == unknown[:-1] and did_you_mean(str(unknown[-1]), [str(missing[-1])]) != ""


def _is_other_form(forms: tuple[str, ...], problem: Any) -> bool:
    """Where a value may have two forms, only the problems of the form that was meant are reported."""
    if "OwnRoute" in forms and problem["type"] == "model_type":
        return True  # it is a text, and the problem of the text is reported
    return isinstance(problem["input"], dict) and any("function-before" in form for form in forms)


def _elsewhere(model: type[BaseModel], path: YAMLPath) -> str:
    """Where a key stands that is one of the other kind of file: that is copied more often than it is misspelt."""
    key = str(path[0])
    if len(path) > 1 or model not in (Organisation, Surface):
        return ""
    if model is Surface:
        return f"`{key}` stands in org.yaml alone" if key in names_at(Organisation, ()) else ""
    below = [f"`{part}`" for part in ("defaults", "limits") if key in names_at(Organisation, (part,))]
    if below:
        return f"write it below {' or '.join(below)}"
    return f"`{key}` stands in the files of surfaces" if key in names_at(Surface, ()) else ""


def _report(source: Source, path: YAMLPath, hint: str, names: list[str], problem: Any, *, is_key: bool) -> None:
    kind, context, given = problem["type"], problem.get("ctx", {}), problem["input"]
    name = next((part for part in reversed(path) if isinstance(part, str)), "")  # of a list's item, that of the list
    if kind == "extra_forbidden":
        source.problem(
            path, "PG201", f"there is no key {shown(name)} here", hint or unknown_hint(name, names), key=True
        )
    elif kind == "missing":
        source.problem(path[:-1], "PG202", f"the key `{name}` is missing")
    elif kind == "literal_error":
        _not_possible(source, path, given, _ALLOWED.findall(context["expected"]), is_key)
    elif kind in _KINDS:
        source.problem(path, "PG203", f"this needs {_KINDS[kind]}", written(kind, given))
    elif kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        bound = context[key]
        source.problem(path, "PG204", f"this is {words} {f'{bound:,}' if isinstance(bound, int) else f'{bound:g}'}")
    elif kind == "value_error":
        source.problem(path, "PG205", str(context["error"]))
    elif kind == "string_pattern_mismatch":
        words = _name(path) if is_key else _PATTERNS.get(name, "this is written in another form")
        source.problem(path, "PG205", words, key=is_key)
    else:
        most = f"at most {context['max_length']:,}" if "max_length" in context else ""
        source.problem(path, "PG204", _LENGTHS.get(kind, "this is not possible here"), most, key=is_key)


def _name(path: YAMLPath) -> str:
    sign = "_" if path[0] in ("caller", "questions") else "-"
    return f"a name is written in lower case, with `{sign}` between its words"


def written(kind: str, given: Any) -> str:
    """How a value of the right kind is written, where it is plain what was meant."""
    if not isinstance(given, str | int | float):
        return ""
    if kind == "string_type":
        return f'write `"{_yaml(given)}"`'
    if kind == "list_type":
        return f"write `[{_yaml(given)}]`" if _PLAIN.fullmatch(_yaml(given)) else ""
    if kind in ("dict_type", "model_type"):
        return "write a space after the `:`" if _NO_SPACE.match(str(given)) else ""
    if kind == "bool_type":
        truth = _TRUTH.get(_yaml(given).lower())
        return f"write `{truth}`" if truth else ""
    return _number(str(given), whole=kind.startswith("int"))


def _yaml(given: Any) -> str:
    return str(given).lower() if isinstance(given, bool) else str(given)


def _number(text: str, *, whole: bool) -> str:
    """A number that is written as a text, with leading zeros, or in percent."""
    found = _DIGITS.fullmatch(text)
    if found is None:
        return ""
    value = Decimal(found[1]) / (100 if found[2] else 1)
    if whole and value != int(value):
        return ""
    return f"write `{int(value)}`" if whole else f"write `{value.normalize():f}`"


def _not_possible(source: Source, path: YAMLPath, given: Any, allowed: list[str], is_key: bool) -> None:
    if not isinstance(given, str | int | float):
        source.problem(path, "PG203", f"this needs one of {', '.join(f'`{name}`' for name in allowed)}")
        return
    text = _yaml(given)
    source.problem(path, "PG204", f"{shown(text)} is not possible here", known_names(text, allowed), key=is_key)


def unknown_hint(name: str, names: list[str]) -> str:
    """The nearest key, and all that there are."""
    near, listed = did_you_mean(name, names), ", ".join(f"`{known}`" for known in names)
    return f"{near} there is {listed}".strip() if listed else ""


def names_at(model: type[BaseModel], path: YAMLPath) -> list[str]:
    """The keys that are possible at `path` of a document."""
    kind: Any = model
    for part in path:
        kind = _step(kind, part)
    found = _model_in(kind)
    return [field.alias or name for name, field in found.model_fields.items()] if found else []


def _step(kind: Any, part: str | int) -> Any:
    """The annotation below `part`: of a document's key, or of the items of a list or mapping."""
    if _is_model(kind):
        named = {field.alias or name: field for name, field in kind.model_fields.items()}
        return named[str(part)].annotation if str(part) in named else None
    if get_origin(kind) in (list, dict):
        return get_args(kind)[-1]
    return next((found for form in get_args(kind) if (found := _step(form, part)) is not None), None)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _model_in(kind: Any) -> Any:
    """The document in an annotation, or in one of its forms."""
    if _is_model(kind):
        return kind
    return next((form for form in get_args(kind) if _is_model(form)), None)


# ---- for people -------------------------------------------------------------------------------------------


def text_of(file: str) -> str:
    """The text of a policy file for `render`; nothing where it cannot be read."""
    try:
        with open(file, encoding="utf-8-sig", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def render(diagnostic: Diagnostic, text: str) -> str:
    """The problem, the place, the line with a caret under it, and the hint."""
    head = f"{diagnostic.severity} {diagnostic.code}: {diagnostic.message}"
    lines = _lines(text)
    shown = [head, f"  --> {diagnostic.file}:{diagnostic.line}:{diagnostic.column}"]
    if text and diagnostic.line <= len(lines):
        line, before = _window(lines[diagnostic.line - 1].rstrip("\r"), diagnostic.column - 1)
        gutter = " " * len(str(diagnostic.line))
        shown += [f"{gutter} |", f"{diagnostic.line} | {line}", f"{gutter} | {' ' * _width(before)}^"]
    if diagnostic.hint:
        shown.append(f"  hint: {diagnostic.hint}")
    return "\n".join(map(visible, shown))


@lru_cache(maxsize=4)
def _lines(text: str) -> list[str]:
    """Split once for all problems of a file."""
    return text.split("\n")


def _window(line: str, column: int) -> tuple[str, str]:
    """The line and what stands before the caret, as they are printed: tabs widened, long lines cut, nothing hidden."""
    start = max(0, column - _SHOWN // 2) if len(line) > _SHOWN else 0
    part, cut = line[start : start + _SHOWN], "..." if start else ""
    before, whole = (visible(text.expandtabs(4)) for text in (part[: column - start], part))
    return cut + whole + ("..." if start + _SHOWN < len(line) else ""), cut + before


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
