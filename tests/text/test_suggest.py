"""Names that were meant: one edit away is always near, whatever the length of the name."""

from __future__ import annotations

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policyguard.text.suggest import did_you_mean, known_names, shown

NAMES = st.text(string.ascii_lowercase + "-./", min_size=1, max_size=12)


@given(NAMES, st.integers(0, 12), st.sampled_from(string.ascii_lowercase), st.sampled_from(("add", "change", "drop")))
def test_one_edit_away_is_always_near(name: str, at: int, letter: str, edit: str) -> None:
    at = min(at, len(name) - 1)
    rest = name[at:] if edit == "add" else name[at + 1 :]
    edited = name[:at] + ("" if edit == "drop" else letter) + rest
    assume(edited != name)
    assert did_you_mean(edited, [name]) == f"did you mean `{name}`?"


@pytest.mark.parametrize(
    ("text", "names", "hint"),
    [
        ("m", ["n"], "did you mean `n`?"),
        ("lwo", ["low", "high"], "did you mean `low`?"),
        ("LOW", ["low"], "did you mean `low`?"),
        ("hhigh", ["high", "xhigh", "low"], "did you mean `high` or `xhigh`?"),
        ("moderations", ["model", "moderation"], "did you mean `moderation`?"),
        ("resolution", ["sizes", "quality"], ""),
        ("anything", [], ""),
        ("openai/gpt-image-2", ["gpt-image-2-2026-04-21"], "did you mean `gpt-image-2-2026-04-21`?"),
        ("openai/gpt-image-2", ["gpt-image-2.5-flare-2026-09-08", "gpt-image-2"], "did you mean `gpt-image-2`?"),
        ("openai/", ["low"], ""),
        ("x" * 1000, ["x" * 999], f"did you mean `{'x' * 999}`?"),
    ],
)
def test_the_nearest_name_is_the_hint(text: str, names: list[str], hint: str) -> None:
    assert did_you_mean(text, names) == hint


def test_where_none_is_near_the_names_are_listed() -> None:
    assert known_names("zzz", ["low", "high"]) == "there is `low`, `high`"
    assert known_names("zzz", [f"name-{i}" for i in range(100)]).count("`") == 40
    assert known_names("zzz", []) == ""


def test_what_is_shown_is_short_and_printable() -> None:
    assert shown("a\x1bb") == r"`a\x1bb`"
    assert shown("x" * 100) == f"`{'x' * 59}…`"
