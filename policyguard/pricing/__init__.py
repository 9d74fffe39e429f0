"""What a request can cost at most, before it is sent, and what it did cost: integer micro-dollars. Pure.

`ceiling` is an upper bound and the amount that is reserved; `actual` comes from the API's own token counts. What
cannot be priced raises `UnknownPrice`, and the engine denies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from policyguard.pricing.book import ModelPrice, PriceBook, UnknownPrice, price_book
from policyguard.pricing.tokens import (
    UNKNOWN_IMAGE_TOKENS,
    input_image_tokens,
    known_model,
    output_tokens,
    qualities,
    size_problem,
)
from policyguard.request import AUTO, ImageRequest, Usage

__all__ = [
    "UNKNOWN_IMAGE_TOKENS",
    "ModelPrice",
    "PriceBook",
    "Quote",
    "QuoteLine",
    "UnknownPrice",
    "actual",
    "ceiling",
    "input_image_tokens",
    "output_cost",
    "output_tokens",
    "price_book",
    "qualities",
    "size_problem",
]

PROMPT_OVERHEAD = 16  # tokens beyond the prompt's own, an upper estimate; a token has at least one byte
_UNPRICED_FORMATS = frozenset({"gif", "svg"})  # how their tokens are counted is not known
_EDIT_FAMILIES = frozenset({"gpt-image-2", "gpt-image-2.5", "gpt-image-2.6"})


@dataclass(frozen=True, slots=True)
class QuoteLine:
    """One part of a ceiling: tokens, and thousandths of a micro-dollar."""

    what: str
    tokens: int
    milli_micros: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """The most that a request can cost. `confidence` is that of the price row."""

    model: str
    ceiling_micros: int
    lines: tuple[QuoteLine, ...]
    as_of: date
    confidence: str


def ceiling(request: ImageRequest) -> Quote:
    """An upper bound for `request`; missing size and quality count as `auto`, a missing n as 1.

    Raises `UnknownPrice` where no bound is known.
    """
    if request.model is None:
        raise UnknownPrice("the request names no model")
    row = known_model(request.model)
    if not row.usable:
        raise UnknownPrice(f"`{request.model}` is shut down")
    if request.output_format in _UNPRICED_FORMATS:
        raise UnknownPrice(f"how `{request.output_format}` output is counted is not published")
    if request.images and row.family not in _EDIT_FAMILIES:
        raise UnknownPrice("how this family counts input images is not published")
    lines = (*_output_lines(request, row), _prompt_line(request, row), *_image_lines(request, row))
    micros = -(-sum(line.milli_micros for line in lines) // 1000)
    return Quote(request.model, micros, lines, price_book().as_of, row.confidence)


def _output_lines(request: ImageRequest, row: ModelPrice) -> tuple[QuoteLine, ...]:
    size, quality = request.size or AUTO, request.quality or AUTO
    count, partial = request.n or 1, request.partial_images or 0
    tokens, rate = output_tokens(row.id, size, quality, count, 0), _rate(row, "image_out")
    line = QuoteLine("output", tokens, tokens * rate, _output_note(row, size, quality))
    if not partial:
        return (line,)
    tokens = output_tokens(row.id, size, quality, count, partial) - tokens
    return line, QuoteLine("partial images", tokens, tokens * rate, f"at most {partial} for each image")


def _output_note(row: ModelPrice, size: str, quality: str) -> str:
    open_ = [name for name, value in (("size", size), ("quality", quality)) if value == AUTO]
    if open_:
        return f"a bound: dearest {' and '.join(open_)}"
    if row.family not in price_book().grids and row.family not in price_book().tables:
        return "a bound: no formula is published"
    return "by OpenAI's table" if row.family in price_book().tables else "by formula"


def _prompt_line(request: ImageRequest, row: ModelPrice) -> QuoteLine:
    tokens = PROMPT_OVERHEAD + len(request.prompt.encode())
    return QuoteLine("prompt", tokens, tokens * _rate(row, "text_in"), "at most one token a byte")


def _image_lines(request: ImageRequest, row: ModelPrice) -> tuple[QuoteLine, ...]:
    """Input images by their size; a mask was seen to cost nothing."""
    if not request.images:
        return ()
    tokens = sum(input_image_tokens(image.size) for image in request.images)
    unknown = any(image.size is None for image in request.images)
    note = "a bound where a size is not known" if unknown else "by patches of 32 pixels, as observed"
    return (QuoteLine("input images", tokens, tokens * _rate(row, "image_in"), note),)


def _rate(row: ModelPrice, kind: str, *, batch: bool = False) -> int:
    rate = (row.batch_rates if batch else row.rates).get(kind)
    if rate is None:
        raise UnknownPrice(f"`{row.id}` has no rate for {kind.replace('_', ' ')}")
    return rate


def actual(model: str, usage: Usage) -> int:
    """Micro-dollars for the tokens that the API counted, rounded up. Nothing is discounted as cached."""
    row = known_model(model)
    counts = {
        "text_in": usage.input_text_tokens,
        "image_in": usage.input_image_tokens,
        "image_out": usage.output_image_tokens,
        "text_out": usage.output_text_tokens,
    }
    return -(-sum(tokens * _billed_rate(row, kind) for kind, tokens in counts.items() if tokens) // 1000)


def _billed_rate(row: ModelPrice, kind: str) -> int:
    """Text that a model bills without a known rate counts as image output, the dearest."""
    if row.rates.get(kind) is None and kind == "text_out":
        return _rate(row, "image_out")
    return _rate(row, kind)


def output_cost(model: str, tokens: int, *, batch: bool = False) -> int:
    """What so many output tokens cost, in thousandths of a micro-dollar: exact."""
    return tokens * _rate(known_model(model), "image_out", batch=batch)
