"""What the main model of a Responses request can cost at most, beside the images that it asks for.

It reads everything once for each image that it may ask for and once more to answer, and what it wrote and was shown
with it each time; what it writes is bounded over the whole response. How many tokens it reads for a picture, and for
the description of the tool, is published nowhere: both are taken high.
"""

from __future__ import annotations

from policyguard.pricing.book import ModelPrice, PriceBook, UnknownPrice
from policyguard.pricing.quote import QuoteLine
from policyguard.request import ImageRequest, MainModel

IMAGE_TOKENS = 10_000  # one picture, at the finest detail that such models are known to read
TOOL_TOKENS = 4_096  # what the API itself says to the model about its tools


def main_row(main: MainModel, book: PriceBook) -> ModelPrice:
    """Raises `UnknownPrice` where prices.yaml has no usable row."""
    row = book.main_models.get(main.name)
    if row is None:
        raise UnknownPrice("prices.yaml has no row for this main model")
    if row.status not in ("current", "deprecated"):
        raise UnknownPrice(f"`{main.name}` is shut down")
    return row


def main_lines(request: ImageRequest, book: PriceBook) -> tuple[QuoteLine, ...]:
    """Raises `UnknownPrice`."""
    main, written = request.main, request.max_output_tokens
    if main is None:
        return ()
    row = main_row(main, book)
    if written is None:
        raise UnknownPrice("without `max_output_tokens` a main model has no bound")
    count = request.n or 1
    shown = IMAGE_TOKENS * (sum(1 for _ in request.input_images) + count)
    read = (count + 1) * (TOOL_TOKENS + main.text_bytes + written + shown)
    return (
        QuoteLine("main model reads", read, read * (row.rates["text_in"] or 0), f"{count + 1} times, all of it"),
        QuoteLine("main model writes", written, written * (row.rates["text_out"] or 0), "`max_output_tokens`"),
    )
