"""The provider's counts from a file: rows of one's own by request id, or by day and model, or an export of OpenAI.

Columns of an own file: `request_id`, or `day` and `model`; then `output_image_tokens` and whichever of the other token
columns there are. A count that is absent is not zero: a column that a file has must have a value in each row, and a
file without known columns is refused. Other columns are not looked at.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from datetime import date
from io import StringIO
from pathlib import Path

import orjson

from policyguard.cli import openai_exports
from policyguard.cli.counts import KINDS, NEEDED, Counts, ProviderDay, Row, number_in, text_in, together
from policyguard.errors import ConfigError
from policyguard.request import Usage

MAX_BYTES = 64 * 1024 * 1024
_EXPECTED = (
    "expected are `request_id`, or `day` and `model`, with `output_image_tokens` and the other token counts;"
    " or an export of OpenAI's usage or costs, grouped by model"
)
_SHOWN = 20


def read_counts(path: Path, models: Collection[str]) -> Counts:
    """All of the file, or `ConfigError` with what cannot be read. `models` are the names that draw images."""
    rows = _rows(path, _read(path))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if openai_exports.START in columns and (reader := openai_exports.reader(columns)):
        return openai_exports.read(path, rows, reader, models)
    if NEEDED not in columns or not ({"request_id", "day"} & set(columns)):
        found = ", ".join(f"`{name}`" for name in columns[:_SHOWN]) or "none"
        raise ConfigError(f"`{path}` has no counts that are known: its columns are {found}; {_EXPECTED}")
    return _own(path, rows, [kind for kind in KINDS if kind in columns])


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {(error.strerror or 'unknown').lower()}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"`{path}` is larger than {MAX_BYTES // 1_048_576} MB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"`{path}` is no text") from None


def _rows(path: Path, text: str) -> list[Row]:
    if not text.lstrip().startswith(("[", "{")):
        return _csv_rows(path, text)
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ConfigError(f"`{path}` is no JSON") from None
    if (pages := openai_exports.pages(found)) is not None:
        return list(openai_exports.results(path, pages))
    rows = found.get("data") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"`{path}` has no list of counts, alone or under `data`")
    return rows


def _csv_rows(path: Path, text: str) -> list[Row]:
    header = text.lstrip().partition("\n")[0]
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        rows: list[Row] = list(reader)
    except csv.Error:
        raise ConfigError(f"`{path}` is no CSV, see its line {reader.line_num}") from None
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ConfigError(f"row {number} of `{path}` has more or fewer values than the header has columns")
    return rows or [dict.fromkeys(names)]  # a header alone says what it would have


# ---- own files --------------------------------------------------------------------------------------------


def _own(path: Path, rows: Sequence[Row], kinds: Sequence[str]) -> Counts:
    counts = Counts()
    for number, row in enumerate(rows, 1):
        where = f"row {number} of `{path}`"
        usage = Usage(**{kind: number_in(where, row, kind) for kind in kinds})
        request_id, day, model = (text_in(row, name) for name in ("request_id", "day", "model"))
        if request_id is not None:
            if request_id in counts.requests:
                raise ConfigError(f"{where}: the request `{request_id}` is there twice")
            counts.requests[request_id] = usage
        elif day is None or model is None or not _is_day(day):
            raise ConfigError(f"{where} has neither a `request_id` nor a `day` like 2026-11-24 and a `model`")
        else:
            counts.days.append(ProviderDay(day, model, usage))
    counts.days = together(counts.days)
    return counts


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
