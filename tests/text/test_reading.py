from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import cpu_s
from text.variants import SILENT, VARIANTS

from policyguard.request import ImageRequest
from policyguard.sandbox.prompts import demo_prompts
from policyguard.text import MAX_CHARS, read

TEXTS = (
    "a pirate raid on a small harbour town, painted in oil",
    "Portrait of an old sailor with a broken leg",
    "two knights in a joust before the castle, watched by children",
    "a swordfight on the stage of a theatre under red curtains",
)
HONEST = (
    "8k, 4k, 35mm, f1.8, cinema4d, C4D, octane render, iphone12, M4A1, 16x9, 1970s, y2k, 3d",
    "Søren and Łukasz in Ærøskøbing, señor Nuñez, Frau Müller, Đặng Thị Việt, příští náměstí",
    "a b c d e f g on wooden blocks, U.S.A. and S.O.S., R. R. T., b&w & colour, www.example.com/a%20b",
    "V A P O R W A V E cover, L O V E in neon",
    "ｆｕｌｌ　ｗｉｄｔｈ の東京タワー、ＡＩ",
    "می‌خواهم یک گربه, שָׁלוֹם, नमस्ते क्या हाल है, สวัสดีครับ",
    "плакат СССР, мальчик с собакой, Ёлка и йод",
    "ΤΝΤ? The Aβ42 peptide, TNFα, 5 μm, Ω and π, H₂O, x², №5, Café™ ½",
    "a family 👨‍👩‍👧 with a ❤️ and the flags 🇩🇪 🏴󠁧󠁢󠁥󠁮󠁧󠁿, 1️⃣",
    "0f3a9c77d1e2b4a69d8c, Zk3xQ9vT2mLp8RwYc1, AAAAAAAAAAAAAAAAAAAAAAAAAA, loooong",
    "by @beeple, price: $20!, wow!!! the E100G, A7iii, Fish & Chips &amp; peas, 50% off",
    "hy\u00adphen\u00adation from a web page",
    "\ufeffwith a mark of byte order in front",
)


@pytest.mark.parametrize("how", VARIANTS)
def test_a_disguise_is_seen_through_and_is_a_sign(how: str) -> None:
    read_again = [read(VARIANTS[how](text)) for text in TEXTS]
    assert [reading.hidden for reading in read_again] == [True] * len(TEXTS)
    for text, reading in zip(TEXTS, read_again, strict=True):
        assert _letters(text) in _letters(reading.text)


@pytest.mark.parametrize("how", SILENT)
def test_what_honest_people_write_too_is_undone_and_is_no_sign(how: str) -> None:
    read_again = [read(SILENT[how](text)) for text in TEXTS]
    assert [reading.hidden for reading in read_again] == [False] * len(TEXTS)
    assert [_letters(reading.text) for reading in read_again] == [_letters(text) for text in TEXTS]


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalpha())


@pytest.mark.parametrize("text", HONEST)
def test_an_honest_text_gives_no_sign(text: str) -> None:
    assert read(text).hidden is False


@pytest.mark.parametrize("text", TEXTS)
def test_a_plain_text_is_what_it_says(text: str) -> None:
    assert read(text) == (text, False)


def test_of_the_demo_prompts_those_that_hide_something_give_a_sign_and_no_other() -> None:
    hidden = [prompt.id for prompt in demo_prompts() if prompt.id.startswith("hidden-")]
    assert [prompt.id for prompt in demo_prompts() if read(prompt.text).hidden] == hidden != []


HIDING = (
    "\u200b\u200d\u202e\u202c\u2066\u00ad\ufe0f\u0301\u034f\U000e0061\U000e007f\ufdfa\u33afаеﬁＡ𝐀🄰🅰\ud800%&#;=/@$!1. "
)


@given(st.text() | st.text(alphabet=HIDING + "abYSBz6", max_size=300))
def test_any_text_is_read_and_none_grows_beyond_its_bound(text: str) -> None:
    reading = read(text)
    assert len(reading.text) <= 7 * len(text) + 1
    assert reading == read(text)


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=80))
def test_what_was_read_has_at_most_encodings_left_to_undo(text: str) -> None:
    """Three readings reach the end of everything but an encoding of encodings, which is given up after two."""
    once = read(text).text
    assert len(read(once).text) <= len(once) + 1


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a.",
        "%61",
        "&#97;",
        "a\u200b",
        "\u202ea",
        "\u0334",
        "а",
        "A1",
        "QUJD",
        "\U000e0061",
        "\U0001d400",
        "aaa ",
        "🇩",
    ],
)
def test_the_longest_prompt_costs_no_more_than_some_honest_ones(piece: str) -> None:
    """Measured as up to 10 of them; work that grows with the square would be hundreds."""
    honest, longest = ((text * MAX_CHARS)[:MAX_CHARS] for text in (TEXTS[0], piece))
    assert cpu_s(lambda: read(longest)) < 50 * cpu_s(lambda: read(honest))


def test_a_request_reads_its_prompt_once_and_only_when_asked() -> None:
    request = ImageRequest(prompt="a c\u200ba\u200bt")
    assert request._reading is None
    assert (request.obfuscated, request.reading.text) == (True, "a cat")
    assert request.reading is request.reading
    assert "cat" not in repr(request)
    assert request == ImageRequest(prompt="a c\u200ba\u200bt")
