from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner, Result

from policyguard.cli.price import price
from policyguard.pricing import ceiling, price_book
from policyguard.request import ImageRequest

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(price)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_the_text_shows_each_part_its_tokens_and_dollars_and_the_total() -> None:
    result = run("--model", "gpt-image-2", "--size", "1024x1024", "--quality", "high", "--n", "2", "--prompt", "a cat")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[:2] == ["gpt-image-2: at most $0.4215", "2 images, size 1024x1024, quality high"]
    assert [" ".join(line.split()) for line in lines[3:7]] == [
        "part tokens $ per 1M dollars",
        "output 14,048 30.00 0.421440 by formula",
        "prompt 21 5.00 0.000105 at most one token a byte",
        "at most 0.421545 rounded up to a millionth",
    ]


@pytest.mark.parametrize("model", [name for name, row in price_book().models.items() if row.usable])
def test_the_text_fits_eighty_columns(model: str) -> None:
    result = run("--model", model, "--n", "10", "--partial-images", "3")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_date_confidence_and_source_of_the_prices_are_shown() -> None:
    out = run("--model", "gpt-image-2.6-flare").stdout
    assert "prices     as of 2026-11-22, official, as quoted by a third party" in out
    assert "tokens     output: measured by a third party" in out
    assert "source     dev.to/hassann (quotes the OpenAI pricing page of 2026-11-05)" in out


def test_a_bound_says_that_it_is_one() -> None:
    assert "a bound: dearest size and quality" in run("--model", "gpt-image-2").stdout
    out = run("--model", "gpt-image-2.6-flare", "--size", "1024x1024", "--quality", "low").stdout
    assert "a bound: no formula is published" in out


def test_a_model_that_will_be_shut_down_says_when() -> None:
    assert "shutdown   2026-12-01" in run("--model", "gpt-image-1-mini").stdout


def test_json_holds_what_the_engine_reserves() -> None:
    result = run(
        "--model", "gpt-image-2", "--size", "1536x1024", "--quality", "low", "--prompt", "é", "--format", "json"
    )
    answer = json.loads(result.stdout)
    quote = ceiling(ImageRequest(prompt="é", model="gpt-image-2", size="1536x1024", quality="low"))
    assert answer["ceiling_micros"] == quote.ceiling_micros
    assert [line["tokens"] for line in answer["lines"]] == [158, 18]
    assert (answer["prices_as_of"], answer["prices_digest"]) == ("2026-11-22", price_book().digest)


def test_a_prompt_given_by_its_length_counts_four_bytes_a_character() -> None:
    answer = json.loads(run("--model", "gpt-image-2", "--prompt-chars", "2000", "--format", "json").stdout)
    assert answer["lines"][1]["tokens"] == 16 + 4 * 2000


def test_a_price_without_a_prompt_says_that_its_length_is_not_in_it() -> None:
    assert "prompt     not given, priced as one character" in run("--model", "gpt-image-2").stdout
    assert "not given" not in run("--model", "gpt-image-2", "--prompt", "a cat").stdout


def test_partial_images_are_a_part_of_their_own() -> None:
    arguments = ("--model", "gpt-image-2", "--partial-images", "3", "--n", "2", "--format", "json")
    assert [line["tokens"] for line in json.loads(run(*arguments).stdout)["lines"]][:2] == [2 * 23_719, 2 * 3 * 100]


def test_input_images_make_an_edit_and_an_edit_without_a_size_has_one_of_any_size() -> None:
    by_size = json.loads(run("--model", "gpt-image-2", "--input-image", "1024x1024", "--format", "json").stdout)
    any_size = json.loads(run("--model", "gpt-image-2", "--edit", "--format", "json").stdout)
    assert (by_size["operation"], by_size["lines"][-1]["tokens"]) == ("edit", 1024)
    assert (any_size["operation"], any_size["lines"][-1]["tokens"]) == ("edit", 1536)


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["--model", "gpt-imag-2"], "the price book has no model `gpt-imag-2`", "did you mean `gpt-image-2`?"),
        (["--model", "imagen"], "the price book has no model `imagen`", "there are `gpt-image-2.6-sunburst`, "),
        ([], "a price needs a model: `--model NAME`", "there are `gpt-image-2.6-sunburst`, "),
        (
            ["--model", "gpt-image-2", "--quality", "hd"],
            "no price: `gpt-image-2` has no quality `hd`",
            "there are `low`, `medium`, `high`, `auto`",
        ),
        (
            ["--model", "gpt-image-2", "--size", "1920x1080"],
            "no price: width and height must be multiples of 16",
            "",
        ),
        (["--model", "gpt-image-2", "--size", "big"], "`size` must be `auto` or like `1024x1536`", ""),
        (["--model", "gpt-image-1"], "no price: `gpt-image-1` is shut down", ""),
        (["--model", "dall-e-3"], "no price: `dall-e-3` is retired", ""),
        (
            ["--model", "gpt-image-1.5", "--edit"],
            "no price: how this family counts input images is not published",
            "",
        ),
        (["--model", "gpt-image-2", "--input-image", "wide"], "`--input-image wide` is no size", "write it like "),
        (
            ["--model", "gpt-image-2", "--prompt", "a", "--prompt-chars", "1"],
            "`--prompt` and `--prompt-chars` exclude each other",
            "give one of them",
        ),
    ],
)
def test_what_has_no_price_ends_with_two_and_a_hint(arguments: list[str], error: str, hint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {error}")
    assert (f"hint: {hint}" in result.stderr) if hint else ("hint" not in result.stderr)
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["--n", "11"], ["--partial-images", "4"], ["--prompt-chars", "0"]])
def test_numbers_beyond_the_apis_bounds_are_a_usage_error(arguments: list[str]) -> None:
    assert run("--model", "gpt-image-2", *arguments).exit_code == 2


def test_help_has_examples() -> None:
    out = run("--help").stdout
    assert "Examples:" in out
    assert "policyguard price --model gpt-image-2 --size 1024x1024 --quality high" in out
