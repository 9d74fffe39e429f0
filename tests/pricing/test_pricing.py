from __future__ import annotations

import json
import re
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policyguard import pricing
from policyguard.pricing import UnknownPrice, actual, ceiling, output_cost, output_tokens, price_book, size_problem
from policyguard.request import ImageRequest, InputImage, Size, Usage

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "openai_images.yaml"
BOOK = price_book()
DATA = json.loads(files("policyguard.pricing").joinpath("openai_images.json").read_text())
LEGAL = [
    Size(w, h)
    for w in range(16, 3841, 16)
    for h in range(16, 3841, 16)
    if 655_360 <= w * h <= 8_294_400 and max(w, h) <= 3 * min(w, h)
]
sizes = st.sampled_from(LEGAL).map(str)
models = st.sampled_from(["gpt-image-2", "gpt-image-2.5-flare", "gpt-image-2.6-sunburst"])


def request(**changes: Any) -> ImageRequest:
    return ImageRequest(**{"prompt": "a cat", "model": "gpt-image-2", "size": "1024x1024", "quality": "low", **changes})


@pytest.mark.parametrize("check", BOOK.checks, ids=lambda c: f"{c['model']}-{c['size']}-{c['quality']}-{c['n']}")
def test_every_published_vector_comes_out_exactly(check: dict[str, Any]) -> None:
    tokens = output_tokens(check["model"], check["size"], check["quality"], check["n"], check.get("partial_images", 0))
    cost = output_cost(check["model"], tokens, batch=check.get("batch", False))
    assert (tokens, Decimal(cost) / 10**9) == (check["output_tokens"], Decimal(check["usd"]))


def test_the_packaged_prices_are_those_that_were_compared_with_the_fact_sheet() -> None:
    """Whoever changes a price compares with the sheet again, and pins the new data here."""
    assert (BOOK.as_of.isoformat(), len(BOOK.checks), len(DATA["models"])) == ("2026-11-22", 54, 11)
    assert BOOK.digest == "sha256:e38018514e101021d6aaf40338020dd8528d49ddd2b4d838acf98116a143d588"
    if FACTS.exists():
        sheet = json.loads(json.dumps(yaml.safe_load(FACTS.read_text()), default=str))
        assert {name: sheet[name] for name in DATA} == DATA


def test_the_legal_sizes_are_counted_as_published() -> None:
    assert len(LEGAL) == 29_146
    assert all(size_problem("gpt-image-2", str(size)) is None for size in LEGAL[::7])


@pytest.mark.parametrize("example", DATA["size_rules"]["examples"], ids=lambda e: e["size"])
def test_the_published_size_examples_hold(example: dict[str, Any]) -> None:
    assert (size_problem("gpt-image-2", example["size"]) is None) is example["legal"]


@pytest.mark.parametrize("row", DATA["output_tokens"]["formula"]["float_sensitive"], ids=lambda r: r["size"])
def test_the_formula_is_evaluated_exactly_not_in_floating_point(row: dict[str, Any]) -> None:
    size = Size(*map(int, row["size"].split("x")))
    assert pricing.tokens.formula(row["grid"], size) == row["exact"]


@pytest.mark.parametrize(("size", "tokens"), DATA["input_image_tokens"]["examples"].items())
def test_input_images_count_as_observed(size: str, tokens: int) -> None:
    assert pricing.input_image_tokens(Size(*map(int, size.split("x")))) == tokens


def test_input_images_are_counted_exactly_where_floating_point_loses_a_row_of_patches() -> None:
    assert pricing.input_image_tokens(Size(2080, 3120)) == 1536  # 32 x 48; in floating point 31 x 47 = 1457


@given(st.builds(Size, st.integers(1, 20_000), st.integers(1, 20_000)))
def test_no_input_image_costs_more_than_one_of_unknown_size(size: Size) -> None:
    assert 1 <= pricing.input_image_tokens(size) <= pricing.input_image_tokens(None) == 1536


@given(models, sizes, st.integers(1, 9))
def test_a_ceiling_grows_with_n_and_with_quality(model: str, size: str, n: int) -> None:
    def cost(quality: str, count: int) -> int:
        return ceiling(request(model=model, size=size, quality=quality, n=count)).ceiling_micros

    ranks = [cost(quality, n) for quality in pricing.qualities(model)]
    assert ranks == sorted(ranks)
    assert cost("low", n) < cost("low", n + 1)


@given(
    models, sizes, st.sampled_from(["low", "medium", "high", "auto"]), st.integers(1, 10), st.text("aé漢", min_size=1)
)
def test_the_ceiling_covers_what_the_formula_bills(model: str, size: str, quality: str, n: int, prompt: str) -> None:
    asked = request(model=model, size=size, quality=quality, n=n, prompt=prompt)
    usage = Usage(
        input_text_tokens=len(prompt.encode()) + 16,
        output_image_tokens=output_tokens(model, size, "low" if quality == "auto" else quality, n, 0),
    )
    assert actual(model, usage) <= ceiling(asked).ceiling_micros


@given(models, sizes, st.sampled_from(["low", "medium", "high"]))
def test_auto_is_never_cheaper_than_any_choice(model: str, size: str, quality: str) -> None:
    fixed = ceiling(request(model=model, size=size, quality=quality)).ceiling_micros
    assert fixed <= ceiling(request(model=model, size="auto", quality=quality)).ceiling_micros
    assert fixed <= ceiling(request(model=model, size=size, quality="auto")).ceiling_micros


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "the request names no model"),
        ({"model": "gpt-image-3"}, "the price book has no row for this model"),
        ({"model": "dall-e-3"}, "`dall-e-3` is retired"),
        ({"model": "gpt-image-1"}, "`gpt-image-1` is shut down"),
        ({"size": "512x512"}, "width times height is from 655,360 to 8,294,400"),
        ({"size": "1920x1080"}, "width and height must be multiples of 16"),
        ({"quality": "xhigh"}, "`gpt-image-2` has no quality `xhigh`"),
        ({"quality": "hd"}, "`gpt-image-2` has no quality `hd`"),
        ({"output_format": "svg"}, "how `svg` output is counted is not published"),
        ({"output_format": "gif"}, "how `gif` output is counted is not published"),
        (
            {
                "model": "gpt-image-1.5",
                "operation": "edit",
                "images": (InputImage(b"x", "image/png", size=Size(1024, 1024)),),
            },
            "how this family counts input images is not published",
        ),
    ],
)
def test_what_cannot_be_priced_says_so(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownPrice, match=re.escape(message)):
        ceiling(request(**changes))


def test_partial_images_and_input_images_are_part_of_the_ceiling() -> None:
    plain = ceiling(request()).ceiling_micros
    assert ceiling(request(partial_images=3)).ceiling_micros == plain + 3 * 100 * 30
    image = InputImage(b"x", "image/png", size=Size(1024, 1024))
    edit = request(operation="edit", images=(image, image), mask=image)
    assert ceiling(edit).ceiling_micros == plain + 2 * 1024 * 8


def test_how_well_output_tokens_are_known_is_part_of_the_book() -> None:
    assert BOOK.token_confidence == {
        "gpt-image-2": "official_via",
        "gpt-image-2.5": "official_via",
        "gpt-image-2.6": "observed",
        "legacy": "official",
    }


def test_text_billed_without_a_known_rate_counts_as_the_dearest_kind() -> None:
    assert actual("gpt-image-2", Usage(output_text_tokens=100)) == 100 * 30


def test_cached_tokens_are_never_discounted() -> None:
    assert actual("gpt-image-2", Usage(input_text_tokens=100, input_image_tokens=50)) == 100 * 5 + 50 * 8


def test_the_largest_legal_request_and_a_prompt_in_bytes() -> None:
    quote = ceiling(request(size="auto", quality="auto", n=10, prompt="漢"))
    assert [(line.what, line.tokens) for line in quote.lines] == [("output", 237_190), ("prompt", 16 + 3)]
    assert quote.ceiling_micros == 7_115_700 + 19 * 5


def test_a_fraction_of_a_micro_dollar_is_rounded_up() -> None:
    assert actual("gpt-image-1-mini", Usage(input_image_tokens=1)) == 3


def test_the_sizes_of_a_legacy_model_are_a_short_list() -> None:
    assert size_problem("gpt-image-1.5", "2048x2048") == "this model draws 1024x1024, 1536x1024, 1024x1536 only"


@pytest.mark.parametrize(
    ("model", "tokens", "micros"),
    [("gpt-6-luna", 1_000_000, 100_000), ("gpt-6-luna", 1, 1), ("gpt-6-luna-2026-10-06", 100, 10), ("gpt-7", 5, None)],
)
def test_questions_cost_their_input_tokens_rounded_up(model: str, tokens: int, micros: int | None) -> None:
    assert pricing.questions_micros(model, tokens) == micros
