"""The price book: OpenAI's image models with their rates, families and size rules, as data with date and source.

Rates are exact: thousandths of a micro-dollar for one token, which holds every published price per million tokens. The
data ships as JSON; this module only reads it, once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

KINDS = ("text_in", "image_in", "image_out", "text_out")
TEXT = "text"  # the family of main models: they draw nothing


class UnknownPrice(ValueError):
    """This cannot be priced before the call; the message says what is not known. Unpriced means denied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """One model. `rates` are thousandths of a micro-dollar a token, by kind; None: no rate is known.

    `as_of` is the date of its price. `origin` is where an organisation has it from, as FILE:LINE:COLUMN; empty for a
    packaged one. `status` is `current`, `deprecated`, `shut_down` or `retired`. `qualities` are those that the family
    knows.
    """

    id: str
    family: str | None
    status: str
    shutdown: date | None
    qualities: tuple[str, ...]
    rates: Mapping[str, int | None] = field(repr=False)
    batch_rates: Mapping[str, int | None] = field(repr=False)
    confidence: str
    sources: tuple[str, ...]
    as_of: date
    origin: str = ""
    note: str = ""

    @property
    def usable(self) -> bool:
        """Whether requests to it can still be answered, and be priced."""
        return self.status in ("current", "deprecated") and self.rates.get("image_out") is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRules:
    """Which sizes a family draws. `fixed` lists them; else the bounds hold, in pixels."""

    fixed: tuple[str, ...] = ()
    multiple_of: int = 1
    max_edge: int = 0
    max_ratio: int = 0
    min_pixels: int = 0
    max_pixels: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # a book is itself: look-ups by it are hot
class PriceBook:
    """`models` has dated snapshots as names of their own. `grids` are by family and quality; `tables` by size."""

    as_of: date
    digest: str
    models: Mapping[str, ModelPrice]
    sizes: Mapping[str, SizeRules]
    grids: Mapping[str, Mapping[str, int]]
    tables: Mapping[str, Mapping[str, Mapping[str, int]]]
    bound_grids: Mapping[str, int]  # for `auto`, and for every quality of a family without a formula
    bound_size: str
    partial_image_tokens: int
    token_confidence: Mapping[str, str]  # by family: how well its output tokens are known
    checks: tuple[Mapping[str, Any], ...] = field(repr=False)
    question_rates: Mapping[str, int] = field(default_factory=dict)  # of models that answer questions, by input token
    main_models: Mapping[str, ModelPrice] = field(default_factory=dict)  # of the organisation: none is packaged

    @property
    def own(self) -> Mapping[str, ModelPrice]:
        """The rows that are not packaged."""
        return {name: row for name, row in {**self.models, **self.main_models}.items() if row.origin}


RateTable = Mapping[str, Mapping[str, int]]  # output tokens of one image, by size and quality


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """A row of an organisation: of a known family, or with a `table` of its own, whose worst case counts."""

    row: ModelPrice
    table: RateTable | None = None


def with_prices(book: PriceBook, own: Iterable[OwnPrice]) -> PriceBook:
    """A book in which these rows stand in place of, or beside, the packaged ones."""
    models, main = dict(book.models), dict(book.main_models)
    sizes, tables, confidence = dict(book.sizes), dict(book.tables), dict(book.token_confidence)
    meant = hashlib.sha256(book.digest.encode())
    for price in sorted(own, key=lambda price: price.row.id):
        row = price.row
        if row.family == TEXT:
            main[row.id] = row
            meant.update(json.dumps(meaning(row, None), sort_keys=True).encode())
            continue
        if price.table is None:
            row = replace(row, qualities=family_qualities(book, row.family))
        else:
            family = f"own:{row.id}"
            row = replace(row, family=family, qualities=tuple(next(iter(price.table.values()))))
            sizes[family], tables[family] = SizeRules(fixed=tuple(price.table)), price.table
            confidence[family] = row.confidence
        models[row.id] = row
        meant.update(json.dumps(meaning(row, price.table), sort_keys=True).encode())
    return replace(
        book,
        digest=f"sha256:{meant.hexdigest()}",
        models=MappingProxyType(models),
        main_models=MappingProxyType(main),
        sizes=MappingProxyType(sizes),
        tables=MappingProxyType(tables),
        token_confidence=MappingProxyType(confidence),
    )


def meaning(row: ModelPrice, table: RateTable | None) -> list[Any]:
    """What of a row changes a decision."""
    return [
        row.id,
        row.family,
        row.status,
        dict(row.rates),
        None if table is None else {s: dict(q) for s, q in table.items()},
    ]


def families(book: PriceBook) -> tuple[str, ...]:
    """The families that are counted by packaged rules."""
    return tuple(book.sizes)


def family_qualities(book: PriceBook, family: str | None) -> tuple[str, ...]:
    return next((row.qualities for row in book.models.values() if row.family == family), ())


@cache
def price_book() -> PriceBook:
    """The packaged prices."""
    raw = files("policyguard.pricing").joinpath("openai_images.json").read_bytes()
    return _read(json.loads(raw), "sha256:" + hashlib.sha256(raw).hexdigest())


def _read(data: Mapping[str, Any], digest: str) -> PriceBook:
    output = data["output_tokens"]
    grids = dict(output["formula"]["grid"])
    legacy = output["legacy"]["table"]
    qualities = {family: tuple(grid) for family, grid in grids.items()}
    qualities["legacy"] = ("low", "medium", "high")
    qualities["gpt-image-2.6"] = qualities["gpt-image-2.5"]
    return PriceBook(
        as_of=date.fromisoformat(data["as_of"]),
        digest=digest,
        models=MappingProxyType(_models(data, qualities)),
        sizes=MappingProxyType(_sizes(data["size_rules"])),
        grids=MappingProxyType(grids),
        tables=MappingProxyType({"legacy": legacy}),
        bound_grids=MappingProxyType(dict(output["auto"]["quality_bound_grid"])),
        bound_size=output["auto"]["size_bound"],
        partial_image_tokens=output["partial_image_tokens_each"],
        token_confidence=MappingProxyType(_token_confidence(output)),
        checks=tuple(data["checks"]),
        question_rates=MappingProxyType(_question_rates(data)),
    )


def _token_confidence(output: Mapping[str, Any]) -> dict[str, str]:
    """A family with a formula or a table has its own; one without has only what was seen to lie below the bound."""
    sure = {family: rule["conf"] for rule in (output["formula"], output["legacy"]) for family in rule["families"]}
    return {"gpt-image-2.6": output["gpt-image-2.6"]["upper_bound"]["conf"], **sure}


def _models(data: Mapping[str, Any], qualities: Mapping[str, tuple[str, ...]]) -> dict[str, ModelPrice]:
    models = {}
    for name, row in data["models"].items():
        sources = tuple(data["sources"][s] for s in row["src"])
        for id_ in (name, *row["aliases"]):
            models[id_] = ModelPrice(
                id=id_,
                family=row["family"],
                status=row["status"],
                shutdown=date.fromisoformat(row["shutdown"]) if row["shutdown"] else None,
                qualities=qualities.get(row["family"] or "", ()),
                rates=_rates(row["price"]),
                batch_rates=_rates(row["price_batch"]),
                confidence=row["conf"],
                sources=sources,
                as_of=date.fromisoformat(data["as_of"]),
                note=row.get("note", ""),
            )
    return models


def _rates(row: Mapping[str, str | None] | None) -> Mapping[str, int | None]:
    """Dollars per million tokens are micro-dollars per token."""
    given = row or {}
    return MappingProxyType({kind: _thousandths(given.get(kind)) for kind in KINDS})


def _question_rates(data: Mapping[str, Any]) -> dict[str, int]:
    rates = {
        name: _thousandths(row["price"]["text_in"])
        for name, row in data["other_models"].items()
        if row["endpoint"] == "/v1/decisions"
    }
    return {name: rate for name, rate in rates.items() if rate is not None}


def _thousandths(price: str | None) -> int | None:
    if price is None:
        return None
    scaled = Decimal(price) * 1000
    if scaled != int(scaled):
        raise ValueError(f"the price {price} has more than three places")
    return int(scaled)


def _sizes(rules: Mapping[str, Any]) -> dict[str, SizeRules]:
    custom, fixed = rules["custom"], rules["fixed"]
    names = ("multiple_of", "max_edge", "max_ratio", "min_pixels", "max_pixels")
    bounds = SizeRules(**{name: custom[name] for name in names})
    found = dict.fromkeys(custom["families"], bounds)
    return {**found, **dict.fromkeys(fixed["families"], SizeRules(fixed=tuple(fixed["sizes"])))}
