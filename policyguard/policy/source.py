"""YAML text to values with positions, strictly: what YAML would guess, merge or tag is an error or stays a string.

The only module that imports yaml, and of it only the event parser, so that a file that is too deep or too big is
refused while it is read. Scalars follow the YAML 1.2 core schema; lines and columns count from 1, in code points.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import isfinite
from typing import Any

import yaml

from policyguard.errors import Diagnostic

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 50_000
MAX_DIGITS = 18
Path = tuple[str | int, ...]

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: Mapping[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_LINE_BREAKS = re.compile("[\u0085\u2028\u2029]")  # line breaks for YAML, not for editors: lines would differ
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value starts; `style` is how a scalar is written (`|`, `>`, a quote or nothing)."""

    line: int
    column: int
    style: str = ""


class SourceProblem(Exception):
    """The one problem that ends the reading of a file."""

    def __init__(self, code: str, line: int, column: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.line, self.column, self.message, self.hint = code, line, column, message, hint


@dataclass(slots=True)
class Source:
    """One file: its plain values, and where each of them and each key stands."""

    file: str
    text: str
    data: Any = None
    values: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """The nearest place that there is for `path`: its key or value, else what it is part of."""
        for end in range(len(path), -1, -1):
            marks = self.keys if key and path[:end] in self.keys else self.values
            if path[:end] in marks:
                return marks[path[:end]]
        return Mark(1, 1)

    def problem(self, path: Path, code: str, message: str, hint: str = "", *, key: bool = False) -> None:
        mark = self.mark(path, key=key)
        self.problems.append(self._diagnostic(code, mark.line, mark.column, message, hint, path))

    def problem_at(self, line: int, column: int, path: Path, code: str, message: str, hint: str = "") -> None:
        self.problems.append(self._diagnostic(code, line, column, message, hint, path))

    def _diagnostic(self, code: str, line: int, column: int, message: str, hint: str, path: Path) -> Diagnostic:
        return Diagnostic(
            file=self.file, line=line, column=column, code=code, message=message, path=dotted(path), hint=hint
        )

    def inside(self, path: Path, line: int, column: int) -> tuple[int, int]:
        """Where line and column of a text stand in the file; exact for one line, `|` and simple `>` blocks."""
        mark = self.values.get(path)
        if mark is None:
            return self.mark(path).line, self.mark(path).column
        if mark.style not in ("|", ">"):
            return (mark.line, mark.column + bool(mark.style) + column - 1) if line == 1 else (mark.line, mark.column)
        return self._inside_block(mark, line, column)

    def _inside_block(self, mark: Mark, line: int, column: int) -> tuple[int, int]:
        lines = self.text.split("\n")
        first = mark.line  # the index of the line after the indicator
        indent = len(lines[first]) - len(lines[first].lstrip(" ")) if first < len(lines) else 0
        if mark.style == "|":
            return first + line, indent + column
        offset, number = column - 1, first
        while number + 1 < len(lines) and offset > len(lines[number].strip()):
            offset -= len(lines[number].strip()) + 1
            number += 1
        return number + 1, indent + offset + 1


def dotted(path: Path) -> str:
    """`("rules", 0, "when")` as `rules[0].when`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read(file: str, raw: bytes) -> Source:
    """Read one document. A file that cannot be read at all has `data` None and its one problem."""
    source = Source(file, "")
    try:
        source.text = _text(raw)
        source.data = _Reader(source).read()
    except SourceProblem as p:
        source.problem_at(p.line, p.column, (), p.code, p.message, p.hint)
    return source


def _text(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise SourceProblem("PG106", 1, 1, f"the file is larger than {MAX_BYTES:,} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SourceProblem("PG101", line, 1, "the file is no UTF-8 text") from None
    text = text.replace("\r\n", "\n")
    odd = _LINE_BREAKS.search(text)
    if odd:
        raise SourceProblem("PG108", *_line_column(text, odd.start()), "a line break that editors do not show")
    return text


def _line_column(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _not_yaml(error: yaml.MarkedYAMLError) -> SourceProblem:
    mark: Any = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return SourceProblem("PG102", line, column, f"this is not YAML: {error.problem or error.context}")


def _mark(event: Any, style: str = "") -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1, style)


class _Reader:
    """Builds values from parse events in one pass."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.nodes = 0
        self.events = self._events()

    def _events(self) -> Iterator[Any]:
        depth = 0
        try:
            for event in yaml.parse(self.source.text, Loader=_LOADER):
                if isinstance(event, yaml.CollectionStartEvent):
                    depth += 1
                elif isinstance(event, yaml.CollectionEndEvent):
                    depth -= 1
                if depth > MAX_DEPTH:
                    raise self._wrong("PG106", event, f"nested more than {MAX_DEPTH} deep")
                yield event
        except yaml.MarkedYAMLError as error:
            raise _not_yaml(error) from None
        except yaml.reader.ReaderError as error:
            line, column = _line_column(self.source.text, int(error.position))
            raise SourceProblem("PG108", line, column, "a control character") from None

    def _wrong(self, code: str, event: Any, message: str, hint: str = "") -> SourceProblem:
        return SourceProblem(code, event.start_mark.line + 1, event.start_mark.column + 1, message, hint)

    def read(self) -> Any:
        next(self.events)  # stream start
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            raise SourceProblem("PG107", 1, 1, "the file is empty")
        value = self._value(next(self.events), ())
        next(self.events)  # document end
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._wrong("PG107", event, "one file holds one document", "write each surface into its own file")
        return value

    def _value(self, event: Any, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._wrong("PG106", event, f"more than {MAX_NODES:,} values")
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise self._wrong("PG105", event, "anchors and aliases are not used in policies", "write the value out")
        if event.tag is not None and event.tag != "!":
            raise self._wrong("PG105", event, "tags are not used in policies")
        style = getattr(event, "style", None) or ""
        self.source.values[path] = _mark(event, style)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._scalar(event) if event.implicit[0] else event.value

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, path, found)
            found[key] = self._value(next(self.events), (*path, key))
        return found

    def _key(self, event: Any, path: Path, found: Mapping[str, Any]) -> str:
        if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
            raise self._wrong("PG109", event, "a key is a plain text")
        key = str(event.value)
        if key == "<<" and event.implicit[0]:
            raise self._wrong("PG104", event, "merge keys are not used in policies", "write the values out")
        if key in found:
            first = self.source.keys[(*path, key)]
            raise self._wrong("PG103", event, f"`{key}` is there twice, first in line {first.line}")
        self.source.keys[(*path, key)] = _mark(event)
        return key

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            if len(text) > MAX_DIGITS:
                raise self._wrong("PG106", event, "a number with too many digits")
            return int(text)
        if _FLOAT.fullmatch(text):
            if not isfinite(float(text)):
                raise self._wrong("PG106", event, "a number that is too large")
            return float(text)
        return text


def did_you_mean(text: str, names: Any) -> str:
    """A hint with the nearest name, or all of them where none is near."""
    listed = [str(name) for name in names]
    close = get_close_matches(text, listed, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return "there is " + ", ".join(f"`{name}`" for name in listed[:20]) if listed else ""
