"""Output and input tokens by OpenAI's rules, in exact integers.

Families with a formula are priced by it, legacy ones by the official table, 2.6 and everything `auto` by a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import isqrt

from policyguard.pricing.book import ModelPrice, PriceBook, UnknownPrice, price_book
from policyguard.request import AUTO, Size, parse_size

UNKNOWN_IMAGE_TOKENS = 1536  # the cap: where an input image's size is not known
_PATCH, _UPSCALE_TO = 32, 1024


def known_model(model: str, book: PriceBook | None = None) -> ModelPrice:
    """The row of a model, or `UnknownPrice`. Here and below the packaged book counts where none is given."""
    row = (book or price_book()).models.get(model)
    if row is None:
        raise UnknownPrice("the price book has no row for this model")
    if row.family is None:
        raise UnknownPrice(f"`{model}` is retired")
    return row


@lru_cache(maxsize=8192)
def output_tokens(
    model: str, size: str, quality: str, n: int, partial_images: int, book: PriceBook | None = None
) -> int:
    """Output tokens over all n images, partial images included. `auto` counts as the worst case.

    Raises `UnknownPrice` for a model, size or quality that cannot be priced.
    """
    book = book or price_book()
    row = known_model(model, book)
    if quality != AUTO and quality not in row.qualities:
        raise UnknownPrice(f"`{model}` has no quality `{quality}`")
    problem = None if size == AUTO else size_problem(model, size, book)
    if problem:
        raise UnknownPrice(problem)
    return n * (_per_image(book, row, size, quality) + partial_images * book.partial_image_tokens)


def _per_image(book: PriceBook, row: ModelPrice, size: str, quality: str) -> int:
    family = row.family or ""
    if family in book.tables:
        return _from_table(book.tables[family], size, quality)
    grid = book.grids.get(family, {}).get(quality, book.bound_grids.get(family))
    parsed = parse_size(book.bound_size if size == AUTO else size)
    if grid is None or parsed is None:
        raise UnknownPrice(f"the output tokens of `{row.id}` are not known")
    return formula(grid, parsed)


def _from_table(table: Mapping[str, Mapping[str, int]], size: str, quality: str) -> int:
    rows = table.values() if size == AUTO else [table[size]]
    return max(tokens for row in rows for name, tokens in row.items() if quality in (AUTO, name))


def formula(grid: int, size: Size) -> int:
    """The official calculator's formula, per image. Rounds half to even, exactly."""
    short, long = min(size), max(size)
    return -(-grid * _half_even(grid * short, long) * (2_000_000 + size.pixels) // 4_000_000)


def _half_even(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    if 2 * rest != denominator:
        return whole + (2 * rest > denominator)
    return whole + whole % 2


@lru_cache(maxsize=8192)
def size_problem(model: str, size: str, book: PriceBook | None = None) -> str | None:
    """Which rule of the model's family a size breaks, in plain words; None where it is legal. `auto` is legal."""
    if size == AUTO:
        return None
    book = book or price_book()
    family = known_model(model, book).family or ""
    rules, parsed = book.sizes[family], parse_size(size)
    if parsed is None:
        return "a size is written like `1024x1536`"
    if rules.fixed:
        return None if size in rules.fixed else f"this model draws {', '.join(rules.fixed)} only"
    if parsed.width % rules.multiple_of or parsed.height % rules.multiple_of:
        return f"width and height must be multiples of {rules.multiple_of}"
    if parsed.edge > rules.max_edge:
        return f"the longest edge is at most {rules.max_edge}"
    if parsed.edge > rules.max_ratio * min(parsed):
        return f"the longer edge is at most {rules.max_ratio} times the shorter one"
    if not rules.min_pixels <= parsed.pixels <= rules.max_pixels:
        return f"width times height is from {rules.min_pixels:,} to {rules.max_pixels:,}"
    return None


def qualities(model: str, book: PriceBook | None = None) -> tuple[str, ...]:
    """The qualities that a model knows, lowest first; empty for an unknown model."""
    row = (book or price_book()).models.get(model)
    return row.qualities if row else ()


@lru_cache(maxsize=1024)
def input_image_tokens(size: Size | None) -> int:
    """Tokens of one input image: patches of 32 pixels, the longest edge raised to 1,024, at most 1,536 patches."""
    if size is None:
        return UNKNOWN_IMAGE_TOKENS
    width, height = size
    edge = size.edge
    if edge < _UPSCALE_TO:
        width, height = (max(1, (2 * side * _UPSCALE_TO + edge) // (2 * edge)) for side in size)
    patches = _patches(width, height)
    return patches if patches <= UNKNOWN_IMAGE_TOKENS else _shrunk(width, height)


def _shrunk(width: int, height: int) -> int:
    """Patches of an image over the cap: scaled to the cap's area, then until one edge is whole patches."""
    wide = isqrt(UNKNOWN_IMAGE_TOKENS * width // height)
    high = isqrt(UNKNOWN_IMAGE_TOKENS * height // width)
    if wide * height <= high * width:
        high = -(-(_PATCH * wide * height // width) // _PATCH)
    else:
        wide = -(-(_PATCH * high * width // height) // _PATCH)
    return min(UNKNOWN_IMAGE_TOKENS, max(1, wide) * max(1, high))


def _patches(width: int, height: int) -> int:
    return -(-width // _PATCH) * -(-height // _PATCH)
