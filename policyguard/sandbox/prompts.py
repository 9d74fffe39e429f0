"""Prompts to send: the demo's own, written for this project, and readers for other people's files.

Nothing is downloaded, and nothing of other people's files is kept.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from policyguard.errors import ConfigError
from policyguard.text.suggest import known_names, shown

# Who asks where a file does not say: many users, so that budgets per user do not decide everything.
_SURFACES = ("avatars", "marketing")
_USERS, _TENANTS, _TIERS = 50, 5, ("free", "pro")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPrompt:
    """One request of the demo. What is None is left to the policy's defaults; `edit` uploads a photo."""

    id: str
    text: str = field(repr=False)
    surface: str
    user: str
    tenant: str
    tier: str
    size: str | None = None
    quality: str | None = None
    n: int | None = None
    edit: bool = False


def demo_prompts() -> list[DemoPrompt]:
    """The demo's own prompts: harmless, in several languages, some of them asking for too much."""
    text = files("policyguard.sandbox").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    return [_prompt(json.loads(line), number) for number, line in enumerate(text.splitlines(), start=1)]


class UnknownColumn(ConfigError):
    """A file of several columns, of which none is called `text` or `prompt`: somebody has to say which it is."""

    def __init__(self, path: Path, number: int, columns: Sequence[str]) -> None:
        names = ", ".join(f"`{name}`" for name in columns)
        super().__init__(f"{path}:{number}: there is no `text` or `prompt`; there is {names or 'nothing else'}")
        self.columns = tuple(columns)


def read_prompts(path: Path, column: str | None = None) -> list[DemoPrompt]:
    """Prompts from JSON (lines, or one array), CSV with `,`, `;` or tabs, or plain text, or `ConfigError`.

    They stand in `column`, else in `text` or `prompt`; a table of one column needs no header. Surface, user, tenant and
    tier are filled in, in turn, where the file does not say. Raises `UnknownColumn` where nobody said which it is.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"`{path}` is no UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {(error.strerror or 'unknown').lower()}") from None
    rows = list(_READERS.get(path.suffix.lower(), _lines)(text, path, column))
    if not rows:
        raise ConfigError(f"`{path}` has no prompts")
    name = _column(path, rows, column)
    return [_prompt(row, number, path, name) for number, row in rows]


def _column(path: Path, rows: Sequence[tuple[int, Row]], column: str | None) -> str | None:
    """The name as the file writes it; None for the usual ones."""
    number, first = rows[0]
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    if column is None:
        if not _USUAL & set(names):
            raise UnknownColumn(path, number, [name for name in names if isinstance(first.get(name), str)])
        return None
    found = next((name for name in names if name.strip().lower() == column.strip().lower()), None)
    if found is None:
        raise ConfigError(f"`{path}` has no column {shown(column)}; {known_names(column, names)}")
    return found


def _json(text: str, path: Path, column: str | None) -> Iterator[tuple[int, Row]]:
    """Of an array the number is the item's, else the line's."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    items = enumerate(whole, start=1) if isinstance(whole, list) else _json_lines(text, path)
    for number, item in items:
        row = {"text": item} if isinstance(item, str) else item
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number}: this is no JSON object")
        yield number, row


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            raise ConfigError(f"{path}:{number}: this is no JSON") from None


def _csv(text: str, path: Path, column: str | None) -> Iterator[tuple[int, Row]]:
    rows = _table_rows(text, path)
    number, first = next(rows, (1, []))
    header = [name.strip().lower() for name in first]
    if _USUAL & set(header) or column is not None:
        yield from ((number, dict(zip(header, row, strict=False))) for number, row in rows)
    elif len(header) > 1:
        raise UnknownColumn(path, number, [name for name in header if name])
    elif first:
        yield number, {"text": first[0]}
        yield from ((number, {"text": row[0]}) for number, row in rows)


def _table_rows(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that have something in them. Strict: a quote that is never closed must not swallow the rest of the file."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=_delimiter(text))
    before = csv.field_size_limit(max(len(text), 1))  # a prompt may be longer than the module's 131,072 characters
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error:
        raise ConfigError(f"{path}:{reader.line_num}: this is no CSV, perhaps a quote is not closed") from None
    finally:
        csv.field_size_limit(before)
    return iter(rows)


def _delimiter(text: str) -> str:
    """The one that the header has most of, outside of quotes: spreadsheets of many countries write `;`."""
    header = _IN_QUOTES.sub("", text.lstrip().partition("\n")[0])
    return max(",;\t", key=header.count)


def _lines(text: str, path: Path, column: str | None) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, {"text": line.strip()}


Row = Mapping[str, Any]
_USUAL = frozenset(("text", "prompt"))
_IN_QUOTES = re.compile(r'"[^"]*"')
_READERS: Mapping[str, Callable[[str, Path, str | None], Iterator[tuple[int, Row]]]] = {
    ".json": _json,
    ".jsonl": _json,
    ".ndjson": _json,
    ".csv": _csv,
    ".tsv": _csv,
}
_NAMES = frozenset(f.name for f in fields(DemoPrompt))


def _prompt(row: Row, number: int, path: Path | None = None, column: str | None = None) -> DemoPrompt:
    text = row.get(column) if column else row.get("text") or row.get("prompt")
    if not isinstance(text, str) or not text.strip():
        what = f"`{column}`" if column else "`text` or `prompt`"
        raise ConfigError(f"{path or 'the demo'}:{number}: there is no {what}")
    if not _is_text(text):
        raise ConfigError(f"{path or 'the demo'}:{number}: the prompt is no text (half of a surrogate pair)")
    filled = {
        "id": str(number),
        "surface": _SURFACES[number % len(_SURFACES)],
        "user": f"u{number % _USERS:03}",
        "tenant": f"tenant-{number % _TENANTS}",
        "tier": _TIERS[number % len(_TIERS)],
    }
    given = {name: value for name, value in row.items() if name in _NAMES and value not in (None, "")}
    try:
        return DemoPrompt(**{**filled, **given, "text": text, **_typed(given)})
    except (TypeError, ValueError):
        raise ConfigError(f"{path or 'the demo'}:{number}: a value cannot be read") from None


def _typed(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a CSV file has as text."""
    typed: dict[str, Any] = {name: str(given[name]) for name in ("id", "surface", "user", "tenant") if name in given}
    if not all(isinstance(given[name], str) for name in ("tier", "size", "quality") if name in given):
        raise TypeError
    if "n" in given:
        typed["n"] = _whole(given["n"])
    if "edit" in given:
        typed["edit"] = str(given["edit"]).lower() in ("true", "1", "yes")
    return typed


def _whole(value: Any) -> int:
    """2 and "2", never 2.7 or true."""
    if isinstance(value, bool | float) and not (isinstance(value, float) and value.is_integer()):
        raise ValueError
    return int(value)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
