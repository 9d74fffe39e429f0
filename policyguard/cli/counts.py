"""The provider's own counts, as a file of CSV or JSON: by request id, or by day and model.

Columns: `request_id`, or `day` and `model`; then `input_text_tokens`, `input_image_tokens`, `output_image_tokens` and
`output_text_tokens`, of which missing ones are 0. Other columns are not looked at.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

import orjson

from policyguard.errors import ConfigError
from policyguard.request import Usage

KINDS = ("input_text_tokens", "input_image_tokens", "output_image_tokens", "output_text_tokens")
MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Count:
    """What the provider counted for one request, or for a day (UTC) and model."""

    usage: Usage
    request_id: str | None
    day: str | None
    model: str | None


def read_counts(path: Path) -> list[Count]:
    """Raises `ConfigError` with the row that cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {(error.strerror or 'unknown').lower()}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"`{path}` is larger than {MAX_BYTES // 1_048_576} MB")
    return [_count(path, number, row) for number, row in enumerate(_rows(path, raw), 1)]


def _rows(path: Path, raw: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"`{path}` is no text") from None
    if not text.lstrip().startswith(("[", "{")):
        yield from csv.DictReader(StringIO(text))
        return
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ConfigError(f"`{path}` is no JSON") from None
    rows = found.get("data") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"`{path}` has no list of counts, alone or under `data`")
    yield from rows


def _count(path: Path, number: int, row: Mapping[str, Any]) -> Count:
    request_id, day, model = (_text(row.get(name)) for name in ("request_id", "day", "model"))
    if request_id is None and (day is None or model is None or not _is_day(day)):
        raise ConfigError(
            f"row {number} of `{path}` has neither a `request_id` nor a `day` like 2026-11-24 and a `model`"
        )
    try:
        usage = usage_of({kind: row.get(kind) for kind in KINDS})
    except ValueError as error:
        raise ConfigError(f"row {number} of `{path}`: {error}") from None
    return Count(usage, request_id, day, model)


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def usage_of(values: Mapping[str, Any]) -> Usage:
    """Token counts by name; what is missing or empty is 0. Raises ValueError where one is none."""
    found = {}
    for kind, value in values.items():
        if kind not in KINDS:
            raise ValueError(f"there is no `{kind}`; there are {', '.join(f'`{k}`' for k in KINDS)}")
        text = "0" if value is None or value == "" else str(value)
        if not (text.isascii() and text.isdigit()) or len(text) > 9 or isinstance(value, bool):
            raise ValueError(f"`{kind}` is no number of tokens")
        found[kind] = int(text)
    return Usage(**found)
