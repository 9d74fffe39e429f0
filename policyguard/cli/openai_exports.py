"""OpenAI's own exports of usage and costs, by day and model: pages of the API as JSON, and CSV of the dashboard.

What is known: the JSON is that of the official SDK's types (`organization/usage/completions`, `usage/images`, `costs`).
The CSV of completions and costs has been seen as people have posted it: the same fields, `amount` in two columns, whole
numbers as `7.0`, an empty row for a bucket without results. The CSV of images has not been seen; its columns are taken
to be the API's. None of them names requests, so they are compared by day and settle nothing. Usage of images has no
tokens at all, so only the number of images can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from policyguard.cli.counts import Counts, ProviderDay, Row, number_in, text_in, together
from policyguard.errors import ConfigError
from policyguard.request import Usage

START, END = "start_time", "end_time"
_PARTS = {  # cached tokens are counted apart, and billed in full here, because images have no discount
    "input_text_tokens": ("input_text_tokens", "input_cached_text_tokens"),
    "input_image_tokens": ("input_image_tokens", "input_cached_image_tokens"),
    "output_image_tokens": ("output_image_tokens",),
    "output_text_tokens": ("output_text_tokens",),
}
_TOTALS = {"input_tokens": ("input_text_tokens", "input_image_tokens")} | {
    "output_tokens": ("output_text_tokens", "output_image_tokens")
}
_MAX_DOLLARS = 10**9
RowReader = Callable[[str, Row, str, str | None], ProviderDay]


# ---- JSON -------------------------------------------------------------------------------------------------


def pages(document: Any) -> list[Any] | None:
    """The pages of the API in a document, which is one or a list of them; None where it has none."""
    found = document if isinstance(document, list) else [document]
    return found if found and all(isinstance(one, dict) and _is_page(one) for one in found) else None


def _is_page(document: Row) -> bool:
    data = document.get("data")
    buckets = isinstance(data, list) and any(isinstance(row, dict) and "results" in row for row in data)
    return buckets or document.get("object") == "page"


def results(path: Path, found: Sequence[Any]) -> Iterator[Row]:
    """Each result with the times of its bucket, flat as the CSV has it. Raises `ConfigError` where one is missing."""
    if found[-1].get("has_more"):
        raise ConfigError(f"`{path}` is not all: its last page has `has_more`. Put every page into one JSON list")
    for page in found:
        for bucket in page.get("data") or ():
            if not isinstance(bucket, dict) or not isinstance(bucket.get("results"), list):
                raise ConfigError(f"`{path}` has a bucket without `results`")
            for result in bucket["results"]:
                yield _flat(path, bucket, result)


def _flat(path: Path, bucket: Row, result: Any) -> Row:
    if not isinstance(result, dict):
        raise ConfigError(f"`{path}` has a result that is no JSON object")
    row = {START: bucket.get(START), END: bucket.get(END), **result}
    amount = row.pop("amount", None)
    if isinstance(amount, dict):
        row |= {"amount_value": amount.get("value"), "amount_currency": amount.get("currency")}
    return row


# ---- rows -------------------------------------------------------------------------------------------------


def reader(columns: Collection[str]) -> RowReader | None:
    """How a row of an export with these columns is read; None for one whose columns are not known."""
    if "amount_value" in columns:
        return _cost
    if set(_PARTS) <= set(columns):
        return _tokens
    return _images if "images" in columns else None


def read(path: Path, rows: Sequence[Row], how: RowReader, models: Collection[str]) -> Counts:
    """Rows of other models than `models` are only counted."""
    counts, days = Counts(), []
    for number, row in enumerate(rows, 1):
        where = f"row {number} of `{path}`"
        if _is_empty(row):
            continue
        model = _model(where, row, how)
        if model is not None and model not in models:
            counts.others[model] += 1
        else:
            days.append(how(where, row, _day(where, row), model))
    counts.days = together(days)
    return counts


def _is_empty(row: Row) -> bool:
    """A bucket in which nothing was used: it has its times, and perhaps whose it is."""
    counted = ("model", "line_item", "amount_value", "images", "num_model_requests", *_PARTS)
    return all(row.get(name) in (None, "") for name in counted)


def _model(where: str, row: Row, how: RowReader) -> str | None:
    if how is _cost:  # a line is written like `gpt-image-2, output`; without lines it is all of a day
        line = text_in(row, "line_item")
        return None if line is None else line.partition(",")[0].strip()
    model = text_in(row, "model")
    if model is None:
        raise ConfigError(f"{where} names no `model`; export the usage grouped by model")
    return model


def _day(where: str, row: Row) -> str:
    start, end = (number_in(where, row, name) for name in (START, END))
    try:
        day = datetime.fromtimestamp(start, UTC).replace(hour=0, minute=0, second=0)
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"{where}: `{START}` is no time") from None
    if not start < end <= (day + timedelta(days=1)).timestamp():
        raise ConfigError(f"{where} is about more than one day (UTC); export it by day")
    return day.date().isoformat()


def _tokens(where: str, row: Row, day: str, model: str | None) -> ProviderDay:
    found = {kind: number_in(where, row, names[0]) + _cached(where, row, names[1:]) for kind, names in _PARTS.items()}
    for total, kinds in _TOTALS.items():
        if row.get(total) not in (None, "") and number_in(where, row, total) != sum(found[kind] for kind in kinds):
            raise ConfigError(f"{where}: text and images together are not its `{total}`")
    return ProviderDay(day, model, usage=Usage(**found))


def _cached(where: str, row: Row, names: Sequence[str]) -> int:
    """An older export has no such column; then the total tells whether something is missing."""
    return sum(number_in(where, row, name) for name in names if row.get(name) not in (None, ""))


def _images(where: str, row: Row, day: str, model: str | None) -> ProviderDay:
    return ProviderDay(day, model, images=number_in(where, row, "images"))


def _cost(where: str, row: Row, day: str, model: str | None) -> ProviderDay:
    value, currency = row.get("amount_value"), row.get("amount_currency")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ConfigError(f"{where} has no `amount_value`; a cost that is absent is not zero") from None
    if isinstance(value, bool) or not amount.is_finite() or abs(amount) > _MAX_DOLLARS:
        raise ConfigError(f"{where}: `amount_value` is no amount of money")
    if str(currency).lower() != "usd":
        raise ConfigError(f"{where} is in another currency than `usd`")
    return ProviderDay(day, model, micros=round(amount * 1_000_000))
