"""Prompts to send: the demo's own, written for this project, and readers for other people's files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from policyguard.errors import ConfigError

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


def read_prompts(path: Path) -> list[DemoPrompt]:
    """Prompts from JSON lines (`text` or `prompt`), CSV, TSV or plain text. Raises `ConfigError` with file and line.

    A table without a column `text` or `prompt` is read by its first column. Surface, user, tenant and tier are filled
    in, in turn, where the file does not say.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"`{path}` is no UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {(error.strerror or 'unknown').lower()}") from None
    read = _READERS.get(path.suffix.lower(), _lines)
    prompts = [_prompt(row, number, path) for number, row in read(text, path)]
    if not prompts:
        raise ConfigError(f"`{path}` has no prompts")
    return prompts


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise ConfigError(f"{path}:{number}: this is no JSON") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number}: this is no JSON object")
        yield number, row


def _csv(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rows = _table_rows(text, path)
    number, first = next(rows, (1, []))
    header = [name.strip().lower() for name in first]
    named = "text" in header or "prompt" in header
    if not named and first:
        yield number, {"text": first[0]}
    for number, row in rows:
        yield number, dict(zip(header, row, strict=False)) if named else {"text": row[0]}


def _table_rows(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that have something in them. Strict: a quote that is never closed must not swallow the rest of the file."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    before = csv.field_size_limit(max(len(text), 1))  # a prompt may be longer than the module's 131,072 characters
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error:
        raise ConfigError(f"{path}:{reader.line_num}: this is no CSV, perhaps a quote is not closed") from None
    finally:
        csv.field_size_limit(before)
    return iter(rows)


def _lines(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, {"text": line.strip()}


_READERS: Mapping[str, Callable[[str, Path], Iterator[tuple[int, Mapping[str, Any]]]]] = {
    ".json": _json_lines,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
    ".tsv": _csv,
}
_NAMES = frozenset(f.name for f in fields(DemoPrompt))


def _prompt(row: Mapping[str, Any], number: int, path: Path | None = None) -> DemoPrompt:
    text = row.get("text") or row.get("prompt")
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{path or 'the demo'}:{number}: there is no `text` or `prompt`")
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
