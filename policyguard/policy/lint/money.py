"""Budgets that can never admit one image, and models that will be gone: what the price book knows of a policy.

Warnings only: what must not load is found before, by the loader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from policyguard import pricing
from policyguard.policy import units
from policyguard.policy.model import Policy, PolicySet, RequestRules
from policyguard.policy.source import Source, YAMLPath
from policyguard.pricing.book import PriceBook, SizeRules
from policyguard.request import ImageRequest, parse_size

MICROS = 1_000_000


def check_budgets(org: Source, sources: Sequence[Source], policies: PolicySet) -> None:
    """Enforced budgets of money below the cheapest request that they are for."""
    for source in sources:
        _check(source, [policies.surfaces[source.data["surface"]]])
    _check(org, policies.surfaces.values())


def _check(source: Source, surfaces: Iterable[Policy]) -> None:
    for index, row in enumerate(source.data.get("budgets") or []):
        unit, amount, _ = units.budget_limit(row["limit"])
        if unit != "usd" or row.get("mode") == "shadow":
            continue
        found = [_cheapest(_Cheapest.of(policy.request)) for policy in surfaces]
        known = [micros for micros in found if micros is not None]
        if len(known) == len(found) and amount < min(known):
            message = f"this admits no image: the cheapest can cost up to ${min(known) / MICROS:.4f}"
            hint = "raise the limit, or allow a smaller size or a lower quality"
            source.warning(("budgets", index, "limit"), "PG708", message, hint)


class _Cheapest(NamedTuple):
    """What decides the price of the cheapest request."""

    models: tuple[str, ...] | None
    qualities: tuple[str, ...] | None
    sizes: tuple[str, ...] | None
    max_pixels: int | None
    max_edge: int | None
    prices: PriceBook

    @classmethod
    def of(cls, rules: RequestRules) -> _Cheapest:
        return cls(rules.models, rules.qualities, rules.sizes, rules.max_pixels, rules.max_edge, rules.prices)


@lru_cache(maxsize=1024)
def _cheapest(admitted: _Cheapest) -> int | None:
    """The lowest ceiling of any request that is admitted, in micro-dollars; None where none is known."""
    prices = admitted.prices
    models = admitted.models or [name for name, row in prices.models.items() if row.usable]
    asked = (
        ImageRequest(prompt="-", model=model, size=size, quality=quality, n=1)
        for model in models
        for size in _sizes(admitted, model)
        for quality in admitted.qualities or pricing.qualities(model, prices)
    )
    return min((price for request in asked if (price := _price(request, prices)) is not None), default=None)


def _price(request: ImageRequest, prices: PriceBook) -> int | None:
    try:
        return pricing.ceiling(request, prices).ceiling_micros
    except pricing.UnknownPrice:
        return None  # a combination that is denied


def _sizes(admitted: _Cheapest, model: str) -> Iterator[str]:
    """Listed sizes, else for each longer edge the narrowest picture: the cheapest of a model is among them."""
    if admitted.sizes is not None:
        yield from admitted.sizes
        return
    book = admitted.prices
    bounds = book.sizes[book.models[model].family or ""]
    step = bounds.multiple_of
    drawn = [*bounds.fixed, *(_narrowest(long, bounds) for long in range(step, bounds.max_edge + 1, step))]
    for text in drawn:
        size = parse_size(text)
        if size is None or pricing.size_problem(model, text, book) is not None:
            continue
        if size.pixels <= (admitted.max_pixels or size.pixels) and size.edge <= (admitted.max_edge or size.edge):
            yield text


def _narrowest(long: int, bounds: SizeRules) -> str:
    short = max(-(-long // bounds.max_ratio), -(-bounds.min_pixels // long))
    return f"{long}x{-(-short // bounds.multiple_of) * bounds.multiple_of}"


# ---- models -----------------------------------------------------------------------------------------------


def check_models(source: Source, base: YAMLPath, prices: PriceBook) -> None:
    """Models of a list that OpenAI has announced the end of."""
    section = source.data
    for part in (*base, "request", "models"):
        section = section.get(part) or {}
    for index, name in enumerate(section.get("allow") or []):
        row = prices.models[name]
        if row.shutdown is not None:
            where = (*base, "request", "models", "allow", index)
            message = f"`{name}` is shut down on {row.shutdown.isoformat()}; requests for it fail from then on"
            source.warning(where, "PG713", message, "move to a newer model")
