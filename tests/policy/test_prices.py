"""`prices.yaml`: an organisation's own prices belong to its set of policies, and are checked like them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import NOW, ORG, SURFACE, caller, policies, request, write_policies

from policyguard import pricing
from policyguard.engine import decide
from policyguard.errors import PolicyError
from policyguard.policy.load import check, load, prices_of
from policyguard.pricing import OwnPrice, UnknownPrice, ceiling, price_book, with_prices
from policyguard.request import MainModel, Usage

MODEL = "gpt-image-2-2026-04-21"
ROW = """
version: 1
prices:
  gpt-image-2-2026-04-21:
    {family: gpt-image-2, image_out: $15, text_in: $2.5, image_in: $4, status: current,
     date: 2026-11-20, source: contract 4711, confidence: contract}
"""
HOUSE = """
version: 1
prices:
  house-model:
    family: fixed
    tokens: {1024x1024: {low: 500, high: 2000}, 1536x1024: {low: 700, high: 2500}}
    image_out: $10
    text_in: $1
    status: current
    date: 2026-11-20
    source: our own measurements
    confidence: observed
"""
USES_HOUSE = SURFACE.replace("{allow: [gpt-image-2-2026-04-21,", "{allow: [house-model, gpt-image-2-2026-04-21,")


def folder(tmp_path: Path, text: str, avatars: str = SURFACE) -> Path:
    made = write_policies(tmp_path / "policies", org=ORG, avatars=avatars)
    (made / "prices.yaml").write_text(text)
    return made


def priced(found: Any, **changes: Any) -> int:
    screened = decide.screen(found.surfaces["avatars"], request(**changes), caller(), NOW)
    assert screened.quote is not None, screened.reasons
    return int(screened.quote.ceiling_micros)


def test_a_row_prices_requests_of_its_set_and_of_no_other(tmp_path: Path) -> None:
    plain, own = policies(tmp_path / "plain", avatars=SURFACE), load(folder(tmp_path, ROW))
    assert (priced(plain), priced(own)) == (5_985, 2_993)  # half the rates, each rounded up
    assert ceiling(request()).ceiling_micros == 5_985


def test_a_quote_names_the_rows_date_and_the_book(tmp_path: Path) -> None:
    book = load(folder(tmp_path, ROW)).prices
    quote = ceiling(request(), book)
    assert (quote.as_of.isoformat(), quote.confidence, quote.prices_digest) == ("2026-11-20", "contract", book.digest)
    assert book.digest != price_book().digest
    assert book.models[MODEL].origin.endswith("prices.yaml:4:3")


def test_another_name_of_the_model_keeps_its_packaged_price(tmp_path: Path) -> None:
    book = load(folder(tmp_path, ROW)).prices
    other = request(model="gpt-image-2")
    assert ceiling(other, book).lines == ceiling(other).lines


def test_a_model_of_its_own_is_priced_by_its_worst_case(tmp_path: Path) -> None:
    own = load(folder(tmp_path, HOUSE, USES_HOUSE))
    prompt = 16 + len("a cat")
    assert priced(own, model="house-model", quality="high", n=2) == 2 * 2_000 * 10 + prompt
    book = own.prices
    auto = request(model="house-model", size="auto", quality="auto")
    assert ceiling(auto, book).ceiling_micros == 2_500 * 10 + prompt


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size": "1024x1536"}, "this model draws 1024x1024, 1536x1024 only"),
        ({"quality": "medium"}, "has no quality `medium`"),
        ({"output_format": "svg"}, "svg"),
    ],
)
def test_what_is_not_in_its_table_has_no_price(tmp_path: Path, changes: dict[str, str], why: str) -> None:
    book = load(folder(tmp_path, HOUSE, USES_HOUSE)).prices
    with pytest.raises(UnknownPrice, match=why):
        ceiling(request(model="house-model", **changes), book)


def test_without_a_row_the_model_does_not_load(tmp_path: Path) -> None:
    made = write_policies(tmp_path / "policies", org=ORG, avatars=USES_HOUSE)
    assert [(p.code, p.message) for p in check(made)][:1] == [("PG206", "the price book has no model `house-model`")]


def test_a_row_can_take_a_model_away(tmp_path: Path) -> None:
    made = folder(tmp_path, ROW.replace("status: current", "status: shut_down"))
    found = [(p.code, p.message) for p in check(made) if p.severity == "error"]
    assert ("PG206", f"`{MODEL}` is shut down") in found


def test_the_digest_changes_with_prices_that_matter_only(tmp_path: Path) -> None:
    plain = policies(tmp_path / "plain", avatars=SURFACE).digest
    own = load(folder(tmp_path, ROW)).digest
    said = load(folder(tmp_path, ROW.replace("contract 4711", "contract 4712").replace("11-20", "11-21"))).digest
    dearer = load(folder(tmp_path, ROW.replace("$15", "$16"))).digest
    other = load(folder(tmp_path, HOUSE)).digest  # of a model that no surface admits
    assert own == said
    assert len({plain, own, dearer}) == 3
    assert other == plain


def test_a_reload_takes_new_prices_and_keeps_the_last_good_ones(tmp_path: Path) -> None:
    made = folder(tmp_path, ROW)
    first = load(made)
    (made / "prices.yaml").write_text(ROW.replace("$15", "$20"))
    second = load(made, previous=first)
    assert (priced(first), priced(second)) == (2_993, 3_973)
    (made / "prices.yaml").write_text(ROW.replace("$15", "15"))
    with pytest.raises(PolicyError):
        load(made, previous=second)
    (made / "prices.yaml").unlink()
    assert priced(load(made, previous=second)) == 5_985


def test_what_did_not_change_is_not_compiled_again(tmp_path: Path) -> None:
    made = folder(tmp_path, ROW)
    first = load(made)
    (made / "marketing.yaml").write_text(SURFACE.replace("avatars", "marketing").replace("POST /v1", "POST /m/v1"))
    second = load(made, previous=first)
    assert second.surfaces["avatars"] is first.surfaces["avatars"]
    assert second.prices is first.prices


WRONG = {
    "a misspelt key": (("image_out", "image_uot"), "PG201", "did you mean `image_out`?"),
    "an unknown family": (("family: gpt-image-2", "family: gpt-image-3"), "PG204", "did you mean `gpt-image-2`?"),
    "dollars without the sign": (("$15", "15.0"), "PG205", ""),
    "a price of four places": (("$2.5", "$2.5001"), "PG205", ""),
    "images for nothing": (("$15", "$0"), "PG204", ""),
    "no source": ((" source: contract 4711,", ""), "PG202", ""),
    "no date": (("date: 2026-11-20, ", ""), "PG202", ""),
    "no confidence": ((", confidence: contract", ""), "PG202", ""),
    "a table beside a family": (("image_out", "tokens: {1024x1024: {low: 5}}, image_out"), "PG208", "`family: fixed`"),
    "a table that is not there": (("family: gpt-image-2", "family: fixed"), "PG209", "the most of each size"),
    "a name that no request can have": (("  gpt-image-2-2026-04-21:", "  gpt image:"), "PG205", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_said_with_its_place(tmp_path: Path, name: str) -> None:
    (old, new), code, hint = WRONG[name]
    assert old in ROW
    made = folder(tmp_path, ROW.replace(old, new))
    with pytest.raises(PolicyError) as error:
        prices_of(made)
    found = [p for p in error.value.diagnostics if p.code == code]
    assert [Path(p.file).name for p in found] == ["prices.yaml"]
    assert found[0].line > 3
    assert hint in found[0].hint
    assert code in [p.code for p in check(made)]


@pytest.mark.parametrize(
    ("old", "new", "code"), [("1536x1024:", "wide:", "PG205"), ("{low: 700, high: 2500}", "{low: 700}", "PG208")]
)
def test_a_wrong_table_is_said_with_its_place(tmp_path: Path, old: str, new: str, code: str) -> None:
    assert [p.code for p in check(folder(tmp_path, HOUSE.replace(old, new))) if "prices" in p.file] == [code]


MAIN = """
version: 1
prices:
  gpt-6-luna:
    {family: text, text_in: $1.25, text_out: $10, status: current, date: 2026-11-20, source: x, confidence: official}
"""
USES_MAIN = SURFACE + "  responses: {models: [gpt-6-luna], max_output_tokens: 500}\n"


def asks(**changes: Any) -> dict[str, Any]:
    return {"main": MainModel("gpt-6-luna", 100, "sha256:0"), "max_output_tokens": 500, **changes}


def test_a_main_model_is_priced_beside_the_images(tmp_path: Path) -> None:
    found = load(folder(tmp_path, MAIN, USES_MAIN))
    quote = ceiling(request(**asks()), found.prices)
    tokens = {line.what: line.tokens for line in quote.lines}
    assert tokens == {
        "output": 196,
        "prompt": 16 + 100 + 500,
        "main model reads": 2 * (4_096 + 100 + 500 + 10_000),
        "main model writes": 500,
    }
    assert quote.ceiling_micros == 5_880 + 616 * 5 + 29_392 * 1.25 + 500 * 10


@given(st.integers(1, 9), st.integers(1, 5_000), st.integers(1, 5_000))
def test_more_images_words_or_answers_never_cost_less(n: int, text_bytes: int, written: int) -> None:
    book = price_book()
    row = next(iter(book.models.values()))
    rates = {"text_in": 1_250, "image_in": None, "image_out": None, "text_out": 10_000}
    book = with_prices(book, [OwnPrice(replace(row, id="gpt-6-luna", family="text", rates=rates))])

    def cost(n: int, text_bytes: int, written: int) -> int:
        main = MainModel("gpt-6-luna", text_bytes, "")
        return ceiling(request(n=n, main=main, max_output_tokens=written), book).ceiling_micros

    least = cost(n, text_bytes, written)
    assert least < min(
        cost(n + 1, text_bytes, written), cost(n, text_bytes + 1, written), cost(n, text_bytes, written + 1)
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"max_output_tokens": None}, "without `max_output_tokens` a main model has no bound"),
        ({"main": MainModel("gpt-6", 1, "")}, "prices.yaml has no row for this main model"),
    ],
)
def test_a_main_model_without_a_bound_has_no_price(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UnknownPrice, match=why):
        ceiling(request(**asks(**changes)), load(folder(tmp_path, MAIN, USES_MAIN)).prices)


def test_a_main_model_draws_nothing(tmp_path: Path) -> None:
    made = folder(tmp_path, MAIN, SURFACE.replace("{allow: [gpt-image-2-2026-04-21,", "{allow: [gpt-6-luna,"))
    assert "PG206" in [p.code for p in check(made)]


def test_the_price_of_a_main_model_matters_where_it_may_be_asked_for(tmp_path: Path) -> None:
    used, dearer = (load(folder(tmp_path, text, USES_MAIN)).digest for text in (MAIN, MAIN.replace("$10", "$11")))
    assert used != dearer
    assert load(folder(tmp_path, MAIN)).digest == policies(tmp_path / "plain", avatars=SURFACE).digest


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("text_out: $10, ", "", "PG209"),
        ("text_out: $10", "text_out: $0", "PG204"),
        ("text_out: $10", "text_out: $10, image_out: $1", "PG208"),
        ("text_out: $10", "text_out: $10, tokens: {1024x1024: {low: 5}}", "PG208"),
        ("family: text", "family: gpt-image-2", "PG209"),
    ],
)
def test_a_wrong_row_of_a_main_model_is_said(tmp_path: Path, old: str, new: str, code: str) -> None:
    with pytest.raises(PolicyError) as error:
        prices_of(folder(tmp_path, MAIN.replace(old, new)))
    assert [p.code for p in error.value.diagnostics] == [code]


def test_a_limit_on_main_models_grants_none_and_bounds_those_that_are_named(tmp_path: Path) -> None:
    limits = "limits: {request: {responses: {models: [gpt-6-luna], max_output_tokens: 400}}}\n"
    made = write_policies(tmp_path / "p", org=ORG + limits, avatars=SURFACE, prices=MAIN)
    rules = load(made).surfaces["avatars"].request
    assert (rules.main_models, rules.max_output_tokens) == ((), 400)
    made = write_policies(tmp_path / "q", org=ORG + limits, avatars=USES_MAIN, prices=MAIN)
    assert [p.code for p in check(made)] == ["PG301"]


def test_a_folder_with_prices_alone_has_no_surface(tmp_path: Path) -> None:
    (tmp_path / "org.yaml").write_text(ORG)
    (tmp_path / "prices.yaml").write_text(ROW)
    assert [p.code for p in check(tmp_path)] == ["PG502"]


def test_what_is_billed_without_a_known_rate_counts_at_the_dearest(tmp_path: Path) -> None:
    rates = load(folder(tmp_path, HOUSE, USES_HOUSE)).prices.models["house-model"].rates
    assert pricing.bill(rates, Usage(input_image_tokens=100)) == 1_000
