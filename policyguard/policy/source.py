"""YAML text to values with positions, strictly: what YAML would guess, merge or tag is an error or stays a string.

The only module that imports yaml, and of it only the event parser, so that a file that is too deep or too big is
refused while it is read. Scalars follow the YAML 1.2 core schema; lines and columns count from 1, in code points.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from policyguard.decision import Place
from policyguard.errors import Diagnostic
from policyguard.policy.broken import TAG, TAG_HINT, explain
from policyguard.policy.written import offset_of

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 20_000
MAX_DIGITS = 18
MAX_PROBLEMS = 100  # of one file
YAMLPath = tuple[str | int, ...]

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: Mapping[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
_NUMERIC = frozenset("0123456789+-.")  # what the text of a number begins with
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_SPECIAL = re.compile(r"(?<![^\s\[{,])(?:&[^\s&]|\*\S|!(?!=))")  # what could be an anchor, an alias or a tag
# A value that begins with `!`, up to where it stopped to be YAML; no quote is open before it.
_BANG = re.compile(r"""(?:[^'"]|'[^']*'|"[^"]*")*?(?:(?<=[:\-,{\[])[ ]+|(?<=[{\[]))(!)(?!=)""")
_TYPES = {f"tag:yaml.org,2002:{name}": f"!!{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}
_CONFLICT = re.compile(r"^<{7} ", re.MULTILINE)
_LINE_BREAKS = re.compile("[\u0085\u2028\u2029]")  # line breaks for YAML, not for editors: lines would differ
_HARMLESS = bytes([9, 10, *range(32, 127)])  # where a file has nothing else, there is nothing to look for
_REFUSED = "?"  # where the value of a refused key is read to, so that its own problems are found
_Scalar, _Alias = yaml.ScalarEvent, yaml.AliasEvent
_MappingStart, _MappingEnd, _SequenceEnd = yaml.MappingStartEvent, yaml.MappingEndEvent, yaml.SequenceEndEvent
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Mark(NamedTuple):
    """Where a value starts; `style` is how a scalar is written (`|`, `>`, a quote or nothing)."""

    line: int
    column: int
    style: str = ""
    offset: int = 0


class Spot(NamedTuple):
    """The parse events of a value and of its key, and the same for what is below it by key or number.

    Marks are made from these when somebody asks: a file has hundreds of places, and few of them are ever shown.
    """

    event: Any
    key: Any
    below: Mapping[str | int, Spot]


_spot = partial(tuple.__new__, Spot)  # half the time of the constructor, and a file has hundreds
_NOTHING: Mapping[str | int, Spot] = MappingProxyType({})


class SourceProblem(Exception):
    """The one problem that ends the reading of a file."""

    def __init__(self, code: str, line: int, column: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.line, self.column, self.message, self.hint = code, line, column, message, hint


class TooManyProblems(Exception):
    """The file has been read for long enough; all that is shown of it stands in its problems."""


@dataclass(slots=True)
class Source:
    """One file: its plain values, and where each of them and each key stands."""

    file: str
    text: str
    data: Any = None
    spot: Spot | None = None
    has_empty: bool = False  # a value that is nothing is somewhere in it
    problems: list[Diagnostic] = field(default_factory=list)
    formless: Any = None  # what was read where its form is wrong, and `data` therefore None

    def place(self, path: YAMLPath) -> Place:
        """Where the value at `path` stands, for what is compiled from it."""
        mark = self.mark(path)
        return Place(self.file, mark.line, mark.column)

    def mark(self, path: YAMLPath, *, key: bool = False) -> Mark:
        """The nearest place that there is for `path`: its key or value, else what it is part of."""
        spot = self.spot
        if spot is None:
            return Mark(1, 1)
        for part in path:
            if part not in spot.below:
                break
            spot = spot.below[part]
        return _mark(spot.key if key and spot.key is not None else spot.event)

    def problem(self, path: YAMLPath, code: str, message: str, hint: str = "", *, key: bool = False) -> None:
        mark = self.mark(path, key=key)
        self.problem_at(mark.line, mark.column, path, code, message, hint)

    def problem_at(self, line: int, column: int, path: YAMLPath, code: str, message: str, hint: str = "") -> None:
        self._add(Diagnostic(self.file, line, column, code, message, path=dotted(path), hint=hint))

    def warning(self, path: YAMLPath, code: str, message: str, hint: str = "", *, key: bool = False) -> None:
        """A problem with which the policy loads. That of a text block stands at its first letter."""
        mark = self.mark(path, key=key)
        block = mark.style in ("|", ">") and not key
        line, column = self.inside(path, 1, 1) if block else (mark.line, mark.column)
        self._add(Diagnostic(self.file, line, column, code, message, "warning", dotted(path), hint))

    def _add(self, found: Diagnostic) -> None:
        """Raises `TooManyProblems` where the file has so many that the rest is not worth reading."""
        if found in self.problems:
            return
        if len(self.problems) == MAX_PROBLEMS:
            message, hint = f"more than {MAX_PROBLEMS} problems", "mend these first; the rest is shown then"
            self.problems.append(replace(found, code="PG110", message=message, hint=hint))
        if len(self.problems) > MAX_PROBLEMS:
            raise TooManyProblems
        self.problems.append(found)

    def inside(self, path: YAMLPath, line: int, column: int) -> tuple[int, int]:
        """Where line and column of the text at `path` stand in the file, in whatever style it is written."""
        mark, value = self.mark(path), self.at(path)
        if not isinstance(value, str):
            return mark.line, mark.column
        before = value.split("\n")[: line - 1]
        index = min(len(value), sum(len(text) + 1 for text in before) + column - 1)
        return _line_column(self.text, offset_of(self.text, mark.offset, mark.style, value, index))

    def is_cut(self, path: YAMLPath) -> bool:
        """Whether a comment ends the plain text at `path`: a ` #` in it was meant to belong to it."""
        spot = self.spot
        for part in path:
            spot = spot.below.get(part) if spot is not None else None
        event = None if spot is None else spot.event
        if type(event) is not _Scalar or not event.implicit[0]:
            return False
        end: Any = event.end_mark
        return self.text[end.index :].lstrip(" \t").startswith("#")

    def at(self, path: YAMLPath) -> Any:
        """The value at `path`."""
        value = self.formless if self.data is None else self.data
        for part in path:
            value = value[part]
        return value


def dotted(path: YAMLPath) -> str:
    """`("rules", 0, "when")` as `rules[0].when`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read(file: str, raw: bytes) -> Source:
    """Read one document; every problem is in `problems`. A file that cannot be read to its end has `data` None."""
    source = Source(file, "")
    try:
        source.text = _text(raw)
        source.data = _ValueBuilder(source).read()
    except SourceProblem as p:
        noted = {(problem.line, problem.column, problem.code) for problem in source.problems}
        with suppress(TooManyProblems):
            if (p.line, p.column, p.code) in noted:  # a tag that is known already is all that is wrong
                return source
            source.problem_at(p.line, p.column, (), p.code, p.message, p.hint)
    except TooManyProblems:
        source.data = None
    return source


def _text(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise SourceProblem("PG106", 1, 1, f"the file is larger than {MAX_BYTES:,} bytes")
    body = raw.removeprefix(BOM_UTF8)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        before = body[: error.start].decode()
        raise SourceProblem("PG101", *_line_column(before, len(before)), "the file is no UTF-8 text") from None
    text = text.replace("\r\n", "\n")
    if not body.translate(None, _HARMLESS):
        return text
    for pattern, what in ((_LINE_BREAKS, "a line break that editors do not show"), (_CONTROL, "a control character")):
        if odd := pattern.search(text):
            raise SourceProblem("PG108", *_line_column(text, odd.start()), what)
    return text


def _line_column(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _not_yaml(error: yaml.MarkedYAMLError, text: str) -> SourceProblem:
    if conflict := _CONFLICT.search(text):
        hint = "choose one of the two sides, and take the lines with `<<<<<<<`, `=======` and `>>>>>>>` out"
        return SourceProblem("PG102", *_line_column(text, conflict.start()), "a merge conflict is not resolved", hint)
    mark: Any = error.problem_mark or error.context_mark
    start: Any = error.context_mark or mark
    lines = text[: mark.index].split("\n")
    if bang := _BANG.match(lines[-1] + text[mark.index : mark.index + 1]):
        return SourceProblem("PG105", mark.line + 1, bang.start(1) + 1, TAG, TAG_HINT)
    goes_on = text[mark.index - len(lines[-1]) :].lstrip(" ").startswith(("&&", "||"))
    above = lines[-2] if goes_on and len(lines) > 1 else ""
    found = explain(error.problem or "", error.context or "", text[mark.index : mark.index + 1], start.line + 1, above)
    place = start if found.from_start else mark
    line, column = (place.line + 1, place.column + 1) if place.index < len(text) else _line_column(text, len(text))
    return SourceProblem("PG102", line, column, found.message, found.hint)


def _mark(event: Any) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1, getattr(event, "style", None) or "", start.index)


class _ValueBuilder:
    """Builds values from parse events in one pass. `path` is where it is, for the problems of what it reads."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.path: list[str | int] = []
        self.nodes = 0
        self.special = _SPECIAL.search(source.text) is not None  # without one there is nothing to look for
        self.next: Callable[[], Any] = _LOADER(source.text).get_event

    def read(self) -> Any:
        try:
            return self._document()
        except yaml.MarkedYAMLError as error:
            raise _not_yaml(error, self.source.text) from None
        except yaml.reader.ReaderError:  # what it refuses was looked for before; its position counts bytes
            raise SourceProblem("PG108", 1, 1, "a character that YAML does not have") from None

    def _document(self) -> Any:
        self.next()  # stream start
        if type(self.next()) is yaml.StreamEndEvent:
            raise SourceProblem("PG107", 1, 1, "the file is empty")
        top: dict[str | int, Spot] = {}
        value = self._value(self.next(), top, 0)
        self.source.spot = top[0]
        self.next()  # document end
        event = self.next()
        if type(event) is not yaml.StreamEndEvent:
            raise self._wrong("PG107", event, "one file holds one document", "write each surface into its own file")
        return value

    def _value(self, event: Any, spots: dict[str | int, Spot], name: str | int, key: Any = None) -> Any:
        """Read one value, and note in `spots` where it stands."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._wrong("PG106", event, f"more than {MAX_NODES:,} values")
        if self.special:
            self._unused(event, name)
        kind = type(event)
        if kind is _Scalar:
            spots[name] = _spot((event, key, _NOTHING))
            return self._scalar(event, name) if event.implicit[0] else self._quoted(event, name)
        if kind is _Alias:
            spots[name] = _spot((event, key, _NOTHING))
            return None
        if len(self.path) >= MAX_DEPTH:
            raise self._wrong("PG106", event, f"nested more than {MAX_DEPTH} deep")
        below: dict[str | int, Spot] = {}
        spots[name] = _spot((event, key, below))
        self.path.append(name)
        value = self._mapping(below) if kind is _MappingStart else self._sequence(below)
        self.path.pop()
        return value

    def _sequence(self, spots: dict[str | int, Spot]) -> list[Any]:
        items: list[Any] = []
        while type(event := self.next()) is not _SequenceEnd:
            items.append(self._value(event, spots, len(items)))
        return items

    def _mapping(self, spots: dict[str | int, Spot]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while type(event := self.next()) is not _MappingEnd:
            key = self._key(event, found, spots)
            if key is None:
                self._value(self.next(), {}, _REFUSED, event)
            else:
                found[key] = self._value(self.next(), spots, key, event)
        return found

    def _key(self, event: Any, found: Mapping[str, Any], spots: Mapping[str | int, Spot]) -> str | None:
        """The key's text; None where it is refused, and its problem is noted."""
        if type(event) is not _Scalar:
            if type(event) is not _Alias:  # that is a problem of its own
                self._note("PG109", event, "a key is a text")
            self._value(event, {}, _REFUSED)
            return None
        if self.special:
            self._unused(event)
        key = str(event.value)
        if event.implicit[0] and key == "<<":
            self._note("PG104", event, "merge keys are not used in policies", "write the values out")
            return None
        if event.implicit[0] and _is_no_text(key):
            self._note("PG109", event, f"`{key}` is no text", "a key that looks like a value needs quotes")
            return None
        if key in found:
            first = _mark(spots[key].key).line
            self._note("PG103", event, f"`{key}` is there twice, first in line {first}", at=key)
            return None
        return key

    # ---- scalars ----------------------------------------------------------------------------------------------

    def _quoted(self, event: Any, name: str | int) -> str:
        if _CONTROL.search(event.value):
            self._note("PG108", event, "a control character, written as an escape", at=name)
        return str(event.value)

    def _scalar(self, event: Any, name: str | int) -> Any:
        text: str = event.value
        if text in _WORDS:
            word = _WORDS[text]
            self.source.has_empty |= word is None
            return word
        if text[0] not in _NUMERIC:
            return text
        if _INT.fullmatch(text):
            if len(text) <= MAX_DIGITS:
                return int(text)
            self._note("PG106", event, "a number with too many digits", at=name)
        elif _FLOAT.fullmatch(text):
            if isfinite(float(text)):
                return float(text)
            self._note("PG106", event, "a number that is too large", at=name)
        elif _NOT_FINITE.fullmatch(text):
            self._note("PG106", event, "a number has an end", "write a number, or use quotes", at=name)
        return text

    # ---- problems ---------------------------------------------------------------------------------------------

    def _unused(self, event: Any, name: str | int | None = None) -> None:
        """Parts of YAML that policies do not use: what they do is easy to overlook."""
        if type(event) is _Alias or event.anchor:
            hint = "write the value out; a text that begins with `&` or `*` needs quotes around all of it"
            self._note("PG105", event, "anchors and aliases are not used in policies", hint, at=name)
        elif event.tag in _TYPES:
            hint = f"leave `{_TYPES[event.tag]}` out"
            self._note("PG105", event, "tags are not used in policies", hint, at=name)
        elif event.tag is not None or self.source.text.startswith("!", event.start_mark.index):
            self._note("PG105", event, TAG, TAG_HINT, at=name)

    def _note(self, code: str, event: Any, message: str, hint: str = "", *, at: str | int | None = None) -> None:
        """A problem that does not end the reading; the first part of the path is the document itself."""
        mark = event.start_mark
        path = self.path[1:] if at is None else [*self.path, at][1:]
        self.source.problem_at(mark.line + 1, mark.column + 1, tuple(path), code, message, hint)

    def _wrong(self, code: str, event: Any, message: str, hint: str = "") -> SourceProblem:
        return SourceProblem(code, event.start_mark.line + 1, event.start_mark.column + 1, message, hint)


def _is_no_text(text: str) -> bool:
    return text in _WORDS or (text[0] in _NUMERIC and any(form.fullmatch(text) for form in (_INT, _FLOAT, _NOT_FINITE)))
