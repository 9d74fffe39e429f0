"""`prices.yaml`: an organisation's own prices, beside or in place of the packaged ones, checked like a policy.

A row prices one model name by a family whose rules are known, or by a table of its own worst cases; a dated snapshot is
a name of its own. What is not written in a row is not known, and is not taken from the packaged row.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from policyguard.policy import units
from policyguard.policy.document import MAX_ITEMS, Day, Document, ShortText, Version, checked, written
from policyguard.policy.model import RequestRules
from policyguard.policy.source import Source, YAMLPath
from policyguard.pricing import ModelPrice, OwnPrice, PriceBook, price_book, with_prices
from policyguard.pricing.book import KINDS, TEXT, meaning
from policyguard.request import AUTO, is_name, parse_size

FILE = "prices.yaml"
FIXED = "fixed"
_MAX_TOKENS = 1_000_000
_OF_ONE = "The most output tokens of one image of this quality."

Dollars = Annotated[
    str, checked(units.per_million), written(units.per_million, r"\$[0-9]{1,6}(?:\.[0-9]{1,3})?", "$30", "$0.125")
]
Tokens = Annotated[int, Field(ge=1, le=_MAX_TOKENS)]
Family = Literal["gpt-image-2", "gpt-image-2.5", "gpt-image-2.6", "legacy", "fixed", "text"]
PlainQuality = Literal["low", "medium", "high", "xhigh", "max"]


class PriceRow(Document):
    family: Family
    """How its output tokens are counted: like a known family, or `fixed` for a table of your own. `text`: a main model
    of the Responses API, which draws nothing."""
    tokens: dict[str, Annotated[dict[PlainQuality, Tokens], Field(min_length=1, description=_OF_ONE)]] | None = Field(
        default=None, min_length=1, max_length=MAX_ITEMS
    )
    """With `family: fixed`: the most output tokens of one image, by size and quality. Other sizes are denied."""
    image_out: Dollars | None = None
    """Dollars for a million output image tokens; every model that draws has them."""
    text_in: Dollars
    """Dollars for a million tokens of the prompt; of a main model, of all that it reads."""
    image_in: Dollars | None = None
    """Dollars for a million tokens of input images. Without it edits are denied."""
    text_out: Dollars | None = None
    """Dollars for a million output text tokens. Without it they count as image tokens. A main model has them."""
    status: Literal["current", "deprecated", "shut_down"]
    """Whether it can be asked for; `shut_down` cannot."""
    shutdown: Day | None = None
    """The day from which it answers no more."""
    date: Day
    """Since when, or as of when, this is its price."""
    source: ShortText
    """Where the price is from, for those who check it."""
    confidence: Literal["official", "contract", "observed", "third_party"]
    """How sure it is: published by the provider, agreed with them, measured, or said by somebody else."""
    note: ShortText | None = None
    """Anything else."""


class Prices(Document):
    version: Version
    """The version of the policy language: `1`."""
    prices: dict[ShortText, PriceRow] = Field(min_length=1, max_length=MAX_ITEMS)
    """Prices by the model's name."""


def book_of(source: Source | None) -> PriceBook:
    """The packaged prices with those of the file over them. Problems go to the file."""
    packaged = price_book()
    if source is None or source.data is None:
        return packaged
    own = (_own(source, name, row) for name, row in source.data["prices"].items())
    return with_prices(packaged, [price for price in own if price is not None])


def _own(source: Source, name: str, row: Mapping[str, Any]) -> OwnPrice | None:
    """A row; None for one with problems, which then stand in `source`."""
    path: YAMLPath = ("prices", name)
    before = len(source.problems)
    if not is_name(name):
        source.problem(path, "PG205", "a model's name has letters, digits, `.`, `_`, `:` and `-` only", key=True)
    _check(source, path, row)
    if len(source.problems) > before:
        return None
    mark = source.mark(path, key=True)
    rates = {kind: units.per_million(row[kind]) if kind in row else None for kind in KINDS}
    price = ModelPrice(
        id=name,
        family=row["family"],
        status=row["status"],
        shutdown=units.day(row["shutdown"]) if "shutdown" in row else None,
        qualities=(),
        rates=MappingProxyType(rates),
        batch_rates=MappingProxyType(dict.fromkeys(KINDS)),
        confidence=row["confidence"],
        sources=(row["source"],),
        as_of=units.day(row["date"]),
        origin=f"{source.file}:{mark.line}:{mark.column}",
        note=row.get("note", ""),
    )
    return OwnPrice(price, _table(row["tokens"]) if row["family"] == FIXED and row.get("tokens") else None)


def _table(tokens: Mapping[str, Mapping[str, int]]) -> Mapping[str, Mapping[str, int]]:
    return MappingProxyType({size: MappingProxyType(dict(row)) for size, row in tokens.items()})


def _check(source: Source, path: YAMLPath, row: Mapping[str, Any]) -> None:
    tokens = row.get("tokens")
    if row["family"] == FIXED and tokens is None:
        source.problem(
            (*path, "family"), "PG209", "`family: fixed` needs `tokens`", "the most of each size and quality"
        )
    if row["family"] == TEXT:
        _check_text(source, path, row)
        return
    if row["family"] != FIXED and tokens is not None:
        hint = "leave them out, or write `family: fixed`"
        source.problem((*path, "tokens"), "PG208", f"`{row['family']}` is counted by its own rules", hint, key=True)
    if "image_out" not in row:
        source.problem(
            path, "PG209", "a model that draws needs `image_out`", "a main model has `family: text`", key=True
        )
    elif units.per_million(row["image_out"]) == 0:
        source.problem((*path, "image_out"), "PG204", "a model whose images cost nothing has no budget")
    first: Mapping[str, int] = next(iter((tokens or {}).values()), {})
    for size, qualities in (tokens or {}).items():
        where = (*path, "tokens", size)
        if size == AUTO or parse_size(size) is None:
            source.problem(where, "PG205", "a size is written like `1024x1536`", key=True)
        if qualities.keys() != first.keys():
            source.problem(where, "PG208", "every size has the same qualities", key=True)


def _check_text(source: Source, path: YAMLPath, row: Mapping[str, Any]) -> None:
    """A main model reads pictures as text tokens and draws none."""
    for key in ("image_out", "image_in", "tokens"):
        if key in row:
            source.problem((*path, key), "PG208", f"a main model has no `{key}`", "leave it out", key=True)
    if "text_out" not in row:
        source.problem(path, "PG209", "a main model needs `text_out`", key=True)
    elif 0 in (units.per_million(row["text_in"]), units.per_million(row["text_out"])):
        source.problem(path, "PG204", "a model whose tokens cost nothing has no budget", key=True)


def matters(rules: RequestRules) -> list[Any]:
    """The organisation's prices of models that a surface admits: what of them changes a decision."""
    book = rules.prices
    return [
        meaning(row, book.tables.get(row.family or "") if row.family == f"own:{name}" else None)
        for name, row in book.own.items()
        if (listed := rules.main_models if row.family == TEXT else rules.models) is None or name in listed
    ]
