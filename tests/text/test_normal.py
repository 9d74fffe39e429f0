"""Normalisation is linear: marks on one letter are bounded before anybody sorts them."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import policyguard
from policyguard.adapters.routes import normal
from policyguard.text import read
from policyguard.text.normal import MAX_MARKS, normalize, without_heaps

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
# Marks; marks that are letters until they are decomposed; letters that end in marks; others.
MARKS = "\u0300\u0315\u0334\u3099\u05b0\u0f73\u0f81\uff9e\uff9f\u0344\U0001d165"
OTHERS = "a\u1f82\u01d5\uac00\u4e00 \u0958\ufc5e\ufdfa"


def longest_run(text: str) -> int:
    """The most marks in a row, decomposed: what is sorted by insertion."""
    longest = run = 0
    for char in unicodedata.normalize("NFKD", text):
        run = run + 1 if unicodedata.combining(char) else 0
        longest = max(longest, run)
    return longest


@given(st.lists(st.sampled_from(MARKS + OTHERS) | st.text(alphabet=MARKS, min_size=20, max_size=80)).map("".join))
def test_no_run_of_marks_is_longer_than_its_bound(text: str) -> None:
    """Each of them may decompose to three, and the letter before them brings three of its own."""
    assert longest_run(without_heaps(text)) <= 3 * MAX_MARKS + 3


@pytest.mark.parametrize("heap", ["\u0315\u0300", "\u0f73", "\uff9e\u0301", "\u0f73\u0301\uff9f"])
def test_the_work_on_a_heap_of_marks_grows_with_its_length_only(heap: str) -> None:
    assert len(without_heaps("a" + heap * 10_000)) == 1 + MAX_MARKS
    assert len(without_heaps(("a" + heap * 100) * 50)) == 50 * (1 + MAX_MARKS)
    assert longest_run(normal("/" + heap * 10_000)) <= 3 * MAX_MARKS
    reading = read("a" + heap * 10_000)
    assert (len(reading.text) <= 4 * MAX_MARKS, reading.hidden) == (True, True)


@given(st.sampled_from(FORMS), st.text())
def test_without_heaps_it_is_what_unicode_says(form: str, text: str) -> None:
    if longest_run(text) <= MAX_MARKS:
        assert without_heaps(text) == text
        assert normalize(form, text) == unicodedata.normalize(form, text)  # type: ignore[arg-type]


def test_nothing_else_normalises() -> None:
    """A call of the bare function takes the square of what a client sends."""
    package = Path(policyguard.__file__).parent
    calls = re.compile(r"unicodedata\.normalize|from unicodedata import .*normalize")
    found = {str(f.relative_to(package)) for f in package.rglob("*.py") if calls.search(f.read_text())}
    assert found == {"text/normal.py"}
