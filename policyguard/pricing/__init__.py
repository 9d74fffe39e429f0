"""What a request can cost at most, before it is sent, and what it did cost: integer micro-dollars. Pure.

`ceiling` is an upper bound and the amount that is reserved; `actual` comes from the API's own token counts. What
cannot be priced raises `UnknownPrice`, and the engine denies it.
"""

from __future__ import annotations

from collections.abc import Mapping

from policyguard.pricing.book import ModelPrice, OwnPrice, PriceBook, UnknownPrice, families, price_book, with_prices
from policyguard.pricing.main import main_lines, main_row
from policyguard.pricing.quote import Quote, QuoteLine
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
    "OwnPrice",
    "PriceBook",
    "Quote",
    "QuoteLine",
    "UnknownPrice",
    "actual",
    "bill",
    "ceiling",
    "families",
    "input_image_tokens",
    "output_cost",
    "output_tokens",
    "price_book",
    "qualities",
    "questions_micros",
    "rates",
    "size_problem",
    "with_prices",
]

PROMPT_OVERHEAD = 16  # tokens beyond the prompt's own, an upper estimate; a token has at least one byte
_UNPRICED_FORMATS = frozenset({"gif", "svg"})  # how their tokens are counted is not known
_EDIT_FAMILIES = frozenset({"gpt-image-2", "gpt-image-2.5", "gpt-image-2.6"})


def ceiling(request: ImageRequest, book: PriceBook | None = None) -> Quote:
    """An upper bound for `request`; missing size and quality count as `auto`, a missing n as 1.

    `book` is that of the policies; without one the packaged prices count.

    Raises `UnknownPrice` where no bound is known.
    """
    if request.model is None:
        raise UnknownPrice("the request names no model")
    book = book or price_book()
    row = known_model(request.model, book)
    if not row.usable:
        raise UnknownPrice(f"`{request.model}` is shut down")
    if request.output_format in _UNPRICED_FORMATS:
        raise UnknownPrice(f"how `{request.output_format}` output is counted is not published")
    if _reads_images(request) and row.family not in _EDIT_FAMILIES:
        raise UnknownPrice("how this family counts input images is not published")
    lines = (
        *_output_lines(request, row, book),
        _prompt_line(request, row),
        *_image_lines(request, row),
        *main_lines(request, book),
    )
    micros = -(-sum(line.milli_micros for line in lines) // 1000)
    return Quote(request.model, micros, lines, row.as_of, row.confidence, book.digest)


def _output_lines(request: ImageRequest, row: ModelPrice, book: PriceBook) -> tuple[QuoteLine, ...]:
    size, quality = request.size or AUTO, request.quality or AUTO
    count, partial = request.n or 1, request.partial_images or 0
    tokens, rate = output_tokens(row.id, size, quality, count, 0, book), _rate(row, "image_out")
    line = QuoteLine("output", tokens, tokens * rate, _output_note(row, book, size, quality))
    if not partial:
        return (line,)
    tokens = output_tokens(row.id, size, quality, count, partial, book) - tokens
    return line, QuoteLine("partial images", tokens, tokens * rate, f"at most {partial} for each image")


def _output_note(row: ModelPrice, book: PriceBook, size: str, quality: str) -> str:
    open_ = [name for name, value in (("size", size), ("quality", quality)) if value == AUTO]
    if open_:
        return f"a bound: dearest {' and '.join(open_)}"
    if row.family in book.grids:
        return "by formula"
    if row.family not in book.tables:
        return "a bound: no formula is published"
    return "by OpenAI's table" if row.family in price_book().tables else "by the organisation's table"


def _prompt_line(request: ImageRequest, row: ModelPrice) -> QuoteLine:
    tokens = PROMPT_OVERHEAD + len(request.prompt.encode())
    note = "at most one token a byte"
    if request.main is not None:  # for each image, what was said and what the main model makes of it
        tokens = PROMPT_OVERHEAD + request.main.text_bytes + (request.max_output_tokens or 0)
        tokens *= request.n or 1
        note = "for each image, with what the main model writes"
    return QuoteLine("prompt", tokens, tokens * _rate(row, "text_in"), note)


def _reads_images(request: ImageRequest) -> bool:
    """A main model can show the image model what it drew before."""
    return bool(request.images or request.markup) or (request.main is not None and (request.n or 1) > 1)


def _image_lines(request: ImageRequest, row: ModelPrice) -> tuple[QuoteLine, ...]:
    """Input images by their size; a mask was seen to cost nothing, of a markup that is not known."""
    if not _reads_images(request):
        return ()
    tokens = sum(input_image_tokens(image.size) for image in request.images)
    tokens += UNKNOWN_IMAGE_TOKENS * (request.markup is not None)
    unknown = request.markup is not None or any(image.size is None for image in request.images)
    note = "a bound where a size is not known" if unknown else "by patches of 32 pixels, as observed"
    if request.main is not None:
        count = request.n or 1
        tokens = count * tokens + count * (count - 1) * UNKNOWN_IMAGE_TOKENS
        note = "for each image, with all that came before"
    return (QuoteLine("input images", tokens, tokens * _rate(row, "image_in"), note),)


def _rate(row: ModelPrice, kind: str, *, batch: bool = False) -> int:
    rate = (row.batch_rates if batch else row.rates).get(kind)
    if rate is None:
        raise UnknownPrice(f"`{row.id}` has no rate for {kind.replace('_', ' ')}")
    return rate


def rates(request: ImageRequest, book: PriceBook) -> Mapping[str, int | None]:
    """What a request is billed by: the rates of its model, and those of its main model beside them."""
    found = book.models[request.model or ""].rates
    if request.main is None:
        return found
    main = main_row(request.main, book).rates
    return {**found, "main_in": main["text_in"], "main_out": main["text_out"]}


def actual(model: str, usage: Usage, book: PriceBook | None = None) -> int:
    """Micro-dollars for the tokens that the API counted, at the rates of a model. Raises `UnknownPrice`."""
    return bill(known_model(model, book).rates, usage)


def bill(by: Mapping[str, int | None], usage: Usage) -> int:
    """Micro-dollars for the tokens that the API counted, rounded up. Nothing is discounted as cached.

    What is billed without a known rate counts at the dearest one: never as nothing.
    """
    counts = {
        "text_in": usage.input_text_tokens,
        "image_in": usage.input_image_tokens,
        "image_out": usage.output_image_tokens,
        "text_out": usage.output_text_tokens,
        "main_in": usage.main_input_tokens,
        "main_out": usage.main_output_tokens,
    }
    dearest = max((rate for rate in by.values() if rate is not None), default=None)
    if dearest is None:
        raise UnknownPrice("no rate is known")
    found = {kind: dearest if by.get(kind) is None else by[kind] for kind in counts}
    return -(-sum(tokens * (found[kind] or 0) for kind, tokens in counts.items()) // 1000)


def output_cost(model: str, tokens: int, *, batch: bool = False) -> int:
    """What so many output tokens cost, in thousandths of a micro-dollar: exact."""
    return tokens * _rate(known_model(model), "image_out", batch=batch)


def questions_micros(model: str, input_tokens: int) -> int | None:
    """Micro-dollars for asking questions, rounded up; there is no fee for answers. None where no price is known.

    A dated name has the price of its model.
    """
    rates = price_book().question_rates
    known = next((name for name in rates if model == name or model.startswith(f"{name}-")), None)
    return None if known is None else -(-input_tokens * rates[known] // 1000)
