"""`policyguard price`: the most that a request can cost, part by part, with the date and the source of each price.

The sums are those of `pricing`, the ones that a reservation takes.
"""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from policyguard.cli.output import FormatOption, PoliciesOption, console, dollars, fail, print_json
from policyguard.text.suggest import did_you_mean
from policyguard.text.visible import visible

if TYPE_CHECKING:
    from policyguard.pricing import ModelPrice, PriceBook, Quote
    from policyguard.request import ImageRequest, InputImage

WIDTH, LABEL = 80, 11
_WIDEST_CHARACTER = "\U0001d11e"  # four bytes, the most that one character has
_CONFIDENCE = {
    "official": "official",
    "official_via": "official, as quoted by a third party",
    "observed": "measured by a third party",
    "third_party": "stated by a third party",
    "contract": "agreed in a contract",
}


def price(
    model: Annotated[str | None, typer.Option(help="The model, or a dated snapshot of it.")] = None,
    size: Annotated[str | None, typer.Option(help="`auto` or like `1024x1536`.", show_default="auto")] = None,
    quality: Annotated[
        str | None, typer.Option(help="low, medium, high, xhigh, max or auto.", show_default="auto")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=10, help="How many images.")] = 1,
    prompt: Annotated[str | None, typer.Option(help="The prompt; only its length counts.")] = None,
    prompt_chars: Annotated[
        int | None, typer.Option(min=1, max=32_000, help="The prompt's length instead, at four bytes a character.")
    ] = None,
    partial_images: Annotated[int, typer.Option(min=0, max=3, help="Partial images of a stream.")] = 0,
    input_image: Annotated[
        list[str] | None, typer.Option(metavar="WxH", help="The size of an input image. Repeatable.")
    ] = None,
    policies: PoliciesOption = None,
    edit: Annotated[bool, typer.Option("--edit", help="An edit; without --input-image, of one of any size.")] = False,
    format: FormatOption = "text",
) -> None:
    """Show the most that a request can cost, part by part. Nothing is sent.

    This is the amount that is reserved before a request goes upstream. What it did cost is settled from the answer.
    Prices are those of prices.yaml in the policies folder, and for every other model those that are packaged.

    Examples:

      policyguard price --model gpt-image-2 --size 1024x1024 --quality high

      policyguard price --model gpt-image-2.5-flare --size 1536x1024 --n 4

      policyguard price --model gpt-image-2 --edit --input-image 1024x1024

      policyguard price --model gpt-image-2 --prompt-chars 2000 --format json
    """
    from policyguard.cli.prices import book_of

    book = book_of(policies)
    text, row = _prompt(prompt, prompt_chars), _row(model, book)
    asked = {"model": row.id, "size": size, "quality": quality, "n": n, "partial_images": partial_images}
    request = _request(prompt=text, images=_images(input_image or [], edit), **asked)
    answer = _answer(request, _quote(request, row, book), row, book.token_confidence[row.family or ""])
    answer["prompt_given"] = prompt is not None or prompt_chars is not None
    print_json({**answer, "prices_digest": book.digest}) if format == "json" else _print(answer)


def _row(model: str | None, book: PriceBook) -> ModelPrice:
    """The model's row of the price book, or the end with what was meant."""
    models = book.models
    if model is None:
        fail("a price needs a model: `--model NAME`", hint=_usable(models))
    if model not in models:
        fail(f"the price book has no model `{model}`", hint=did_you_mean(model, models) or _usable(models))
    return models[model]


def _prompt(prompt: str | None, prompt_chars: int | None) -> str:
    if prompt is not None and prompt_chars is not None:
        fail("`--prompt` and `--prompt-chars` exclude each other", hint="give one of them")
    return prompt if prompt is not None else _WIDEST_CHARACTER * (prompt_chars or 0) or "-"


def _quote(request: ImageRequest, row: ModelPrice, book: PriceBook) -> Quote:
    from policyguard.pricing import UnknownPrice, ceiling

    try:
        return ceiling(request, book)
    except UnknownPrice as unknown:
        fail(f"no price: {unknown}", hint=_hint(row, request.quality))


def _usable(models: Any) -> str:
    return "there are " + ", ".join(f"`{name}`" for name, row in models.items() if row.usable)


def _hint(row: ModelPrice, quality: str | None) -> str:
    known = (*row.qualities, "auto")
    if quality is None or quality in known or not row.usable:
        return ""
    return "there are " + ", ".join(f"`{name}`" for name in known)


def _images(sizes: list[str], edit: bool) -> tuple[InputImage, ...]:
    from policyguard.request import InputImage, parse_size

    parsed = [parse_size(text) for text in sizes]
    for text, size in zip(sizes, parsed, strict=True):
        if size is None:
            fail(f"`--input-image {text}` is no size", hint="write it like `1024x1536`")
    return tuple(InputImage(b"", "image/png", size=size) for size in parsed or ([None] if edit else []))


def _request(*, images: tuple[InputImage, ...], **asked: Any) -> ImageRequest:
    from policyguard.errors import InvalidRequest
    from policyguard.request import ImageRequest

    try:
        return ImageRequest(operation="edit" if images else "generate", images=images, **asked)
    except InvalidRequest as error:
        fail(error.message)


def _answer(request: ImageRequest, quote: Quote, row: ModelPrice, token_confidence: str) -> dict[str, Any]:
    return {
        "model": quote.model,
        "operation": request.operation,
        "size": request.size or "auto",
        "quality": request.quality or "auto",
        "n": request.n,
        "partial_images": request.partial_images,
        "input_images": len(request.images),
        "ceiling_micros": quote.ceiling_micros,
        "lines": [asdict(line) for line in quote.lines],
        "prices_as_of": quote.as_of.isoformat(),
        "confidence": quote.confidence,
        "row": row.origin or "packaged",
        "token_confidence": token_confidence,
        "sources": list(row.sources),
        "status": row.status,
        "shutdown": row.shutdown.isoformat() if row.shutdown else None,
        "note": row.note,
    }


def _print(answer: dict[str, Any]) -> None:
    out = console()
    images = f"{answer['n']} image{'s' if answer['n'] != 1 else ''}"
    out.print(f"{answer['model']}: at most {dollars(answer['ceiling_micros'])}")
    out.print(f"{images}, size {answer['size']}, quality {answer['quality']}")
    out.print()
    out.print(_table(answer))
    out.print()
    for label, text in _details(answer):
        out.lines(fill(f"{label:<{LABEL}}{visible(text)}", WIDTH, subsequent_indent=" " * LABEL))


def _table(answer: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", show_footer=True, footer_style="bold")
    total = Decimal(answer["ceiling_micros"]).scaleb(-6)
    table.add_column("part", "at most", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("$ per 1M", justify="right", no_wrap=True)
    table.add_column("dollars", f"{total:.6f}", justify="right", no_wrap=True)
    table.add_column("", "rounded up to a millionth")
    for line in answer["lines"]:
        rate = Decimal(line["milli_micros"]) / (1000 * line["tokens"])
        cost = Decimal(line["milli_micros"]).scaleb(-9)
        table.add_row(visible(line["what"]), f"{line['tokens']:,}", f"{rate:.2f}", f"{cost:.6f}", visible(line["note"]))
    return table


def _details(answer: dict[str, Any]) -> list[tuple[str, str]]:
    prices = _CONFIDENCE.get(answer["confidence"], answer["confidence"])
    tokens = _CONFIDENCE.get(answer["token_confidence"], answer["token_confidence"])
    details = [("prices", f"as of {answer['prices_as_of']}, {prices}"), ("row", answer["row"])]
    details.append(("tokens", f"output: {tokens}"))
    details += [("source" if not place else "", source) for place, source in enumerate(answer["sources"])]
    if not answer["prompt_given"]:
        details.append(("prompt", "not given, priced as one character"))
    if answer["shutdown"]:
        details.append(("shutdown", answer["shutdown"]))
    if answer["note"]:
        details.append(("note", answer["note"]))
    return details
