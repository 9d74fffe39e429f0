"""What a request may ask for: the table of one surface, and whether its models, sizes and qualities exist at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policyguard import pricing
from policyguard.decision import Place
from policyguard.policy import units
from policyguard.policy.limits import Effective, WrittenValue, WrittenValues
from policyguard.policy.model import RequestRules
from policyguard.pricing import PriceBook
from policyguard.request import AUTO, parse_size
from policyguard.text.suggest import known_names

# Keys of a request, and what the engine calls them.
_PLACES: Mapping[str | int, str] = {
    "models": "model",
    "sizes": "size",
    "quality": "quality",
    "n": "n",
    "formats": "output_format",
    "prompt": "prompt",
    "input_images": "input_images",
    "partial_images": "partial_images",
    "responses": "responses",
    "unknown_parameters": "extra",
}


def request_rules(values: WrittenValues, prices: PriceBook, *, limits: bool = False) -> RequestRules:
    """The table of what may be asked for. For limits alone, what is not said is not restricted."""

    def get(*path: str) -> Any:
        leaf = values.get(("request", *path))
        return leaf.value if leaf else None

    def listed(*path: str) -> tuple[str, ...] | None:
        found = get(*path)
        return None if found is None else tuple(found)

    max_bytes = get("input_images", "max_bytes")
    partial = get("partial_images", "max")
    return RequestRules(
        models=listed("models", "allow"),
        default_model=get("models", "default"),
        sizes=listed("sizes", "allow"),
        max_pixels=get("sizes", "max_pixels"),
        max_edge=get("sizes", "max_edge"),
        default_size=get("sizes", "default"),
        qualities=listed("quality", "allow"),
        default_quality=get("quality", "default"),
        max_n=get("n", "max"),
        formats=listed("formats", "allow"),
        max_prompt_chars=get("prompt", "max_chars"),
        max_input_images=get("input_images", "max"),
        max_input_bytes=None if max_bytes is None else units.size_in_bytes(max_bytes),
        input_types=listed("input_images", "types"),
        max_input_pixels=get("input_images", "max_pixels"),
        max_input_edge=get("input_images", "max_edge"),
        input_hosts=listed("input_images", "hosts") if limits else listed("input_images", "hosts") or (),
        max_partial_images=3 if partial is None else partial,
        main_models=listed("responses", "models"),
        max_output_tokens=get("responses", "max_output_tokens"),
        unknown_parameters=get("unknown_parameters") or ("pass" if limits else "deny"),
        on_excess=get("on_excess") or "deny",
        places=_places(values),
        prices=prices,
    )


def _places(values: WrittenValues) -> dict[str, Place]:
    """The first place of each; what is built in stands nowhere, and counts where nothing else is said."""
    found: dict[str, tuple[bool, Place]] = {}
    for path, leaf in values.items():
        name = _PLACES.get(path[1]) if path[0] == "request" else None
        here = (not leaf.path, leaf.place)
        if name is not None and (name not in found or here < found[name]):
            found[name] = here
    return {name: place for name, (_, place) in found.items()}


# ---- does it exist ----------------------------------------------------------------------------------------


def check_request(found: Effective, prices: PriceBook) -> None:
    """Models that exist, sizes and qualities that an allowed model knows, defaults that are within their lists."""
    _check_models(found, prices)
    _check_main_models(found, prices)
    models = _models(found, prices)
    for leaf, text in _said(found, "sizes"):
        if problem := _size_problem(text, models, prices):
            found.problem(leaf, "PG205" if parse_size(text) is None else "PG204", problem, item=text)
    for leaf, text in _said(found, "quality"):
        if text != AUTO and models and not any(text in pricing.qualities(m, prices) for m in models):
            found.problem(leaf, "PG204", f"no allowed model knows the quality `{text}`", item=text)
    for key in ("models", "sizes", "quality"):
        _check_default(found, key, prices)


def _said(found: Effective, key: str) -> Iterator[tuple[WrittenValue, str]]:
    """The items of a list, and the default where it is in no list."""
    listed, default = found.get("request", key, "allow"), found.get("request", key, "default")
    if listed is not None:
        yield from ((listed, text) for text in listed.value)
    elif default is not None:
        yield default, default.value


def _models(found: Effective, prices: PriceBook) -> list[str]:
    book = prices.models
    return [m for m in found.value("request", "models", "allow") or () if m in book and book[m].usable]


def _check_models(found: Effective, prices: PriceBook) -> None:
    for leaf, name in _said(found, "models"):
        if problem := model_problem(name, prices):
            found.problem(leaf, "PG206", problem, known_names(name, usable_models(prices)), item=name)


def _check_main_models(found: Effective, prices: PriceBook) -> None:
    leaf = found.get("request", "responses", "models")
    for name in leaf.value if leaf else ():
        if leaf is not None and name not in prices.main_models:
            hint = known_names(name, prices.main_models) or "give it a row of `family: text` there"
            found.problem(leaf, "PG206", f"prices.yaml has no main model `{name}`", hint, item=name)


def usable_models(prices: PriceBook) -> list[str]:
    return [name for name, row in prices.models.items() if row.usable]


def model_problem(name: str, prices: PriceBook) -> str | None:
    """Why nobody can ask for this model."""
    row = prices.models.get(name)
    if row is None:
        return f"the price book has no model `{name}`"
    return None if row.usable else f"`{name}` is {row.status.replace('_', ' ')}"


def _size_problem(text: str, models: list[str], prices: PriceBook) -> str | None:
    if text == AUTO:
        return None
    if parse_size(text) is None:
        return "a size is written like `1024x1536`, or `auto`"
    problems = [pricing.size_problem(model, text, prices) for model in models]
    return f"no allowed model draws `{text}`: {problems[0]}" if problems and all(problems) else None


def _check_default(found: Effective, key: str, prices: PriceBook) -> None:
    """A default that is not allowed would deny every request that says nothing."""
    default, listed = found.get("request", key, "default"), found.get("request", key, "allow")
    if default is None or (listed is not None and (not listed.value or default.value in listed.value)):
        return
    if key == "models" and listed is not None and any(model_problem(model, prices) for model in listed.value):
        return  # the list has a problem already: a misspelt model is one mistake, wherever else it is meant
    blamed = default if default.named or listed is None or not listed.named else listed
    if listed is not None:
        hint = known_names(default.value, listed.value)
        found.problem(blamed, "PG303", f"the default `{default.value}` is not in the list", hint)
    elif default.value == AUTO:
        found.problem(default, "PG303", "`auto` counts only where `allow` lists it")
    elif key == "sizes" and (bound := _bound(found, default.value)):
        found.problem(default, "PG303", f"the default `{default.value}` is beyond {bound}")


def _bound(found: Effective, text: str) -> str | None:
    """The bound in pixels that a size is beyond, as a text."""
    size = parse_size(text)
    for key, measure in (("max_pixels", "pixels"), ("max_edge", "edge")):
        bound = found.get("request", "sizes", key)
        if size is not None and bound is not None and getattr(size, measure) > bound.value:
            return f"{key} {bound.value:,} ({bound.place})"
    return None
