"""What nobody sees is seen: every character of the kinds that Unicode names, and nothing that people write with."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from policyguard.text.visible import visible, visible_json

EVERYTHING = [chr(code) for code in range(sys.maxunicode + 1)]
HIDDEN = [c for c in EVERYTHING if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
BLANK = list("\u034f\u115f\u1160\u17b4\u17b5\u180b\u2800\u3164\ufe00\ufe0f\uffa0\U000e0100\ufffe\uffff\U0010ffff")


def test_every_control_format_and_separator_is_an_escape() -> None:
    assert [c for c in [*HIDDEN, *BLANK] if not visible(c).startswith("\\")] == []


def test_what_people_write_with_stays() -> None:
    kept = [c for c in EVERYTHING if unicodedata.category(c)[0] in "LNPSZM" and unicodedata.category(c) not in "Zl Zp"]
    changed = {c for c in kept if visible(c) != c}
    assert {unicodedata.category(c) for c in changed} <= {"Lo", "Mn", "So"}
    assert sum(not 0xE0000 <= ord(c) <= 0xE0FFF for c in changed) < 40
    assert visible("Zoë, 山田太郎, עברית, 🙂\u3000\u00a0") == "Zoë, 山田太郎, עברית, 🙂\u3000\u00a0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),
        ("a\u202eb", r"a\u202eb"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\U000e0041", r"\U000e0041"),
        ("\udcff", r"\udcff"),
    ],
)
def test_an_escape_says_which_character_it_is(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_the_line_ends_of_a_layout_can_be_kept() -> None:
    assert visible("a\nb\rc", keep="\n") == "a\nb\\rc"


def test_json_keeps_its_meaning_and_its_line_ends() -> None:
    data = {"a": "".join(c for c in HIDDEN if not "\ud800" <= c <= "\udfff"), "b": ["🙂", "\U000e0041"]}
    document = json.dumps(data, ensure_ascii=False, indent=2)
    shown = visible_json(document)
    assert json.loads(shown) == data
    assert shown.count("\n") == document.count("\n")
    assert visible(shown, keep="\n") == shown
