"""The price book: OpenAI's image models with their rates, families and size rules, as data with date and source.

Rates are exact: thousandths of a micro-dollar for one token, which holds every published price per million tokens. The
data ships as JSON; this module only reads it, once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

KINDS = ("text_in", "image_in", "image_out", "text_out")


class UnknownPrice(ValueError):
    """This cannot be priced before the call; the message says what is not known. Unpriced means denied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """One model. `rates` are thousandths of a micro-dollar a token, by kind; None: no rate is known.

    `status` is `current`, `deprecated`, `shut_down` or `retired`. `qualities` are those that the family knows.
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


@dataclass(frozen=True, slots=True, kw_only=True)
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
                note=row.get("note", ""),
            )
    return models


def _rates(row: Mapping[str, str | None] | None) -> Mapping[str, int | None]:
    """Dollars per million tokens are micro-dollars per token."""
    given = row or {}
    return MappingProxyType({kind: _thousandths(given.get(kind)) for kind in KINDS})


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
