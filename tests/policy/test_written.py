"""The place of every character of a text, in whatever style YAML has it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policyguard.policy.source import read
from policyguard.policy.written import offset_of

words = st.lists(st.text("ab&|\"'\\é漢😀().>", min_size=1, max_size=12), min_size=1, max_size=12)
gaps = st.sampled_from([" ", "  ", "\n", "\n\n", "\n  "])


@given(words, st.lists(gaps, min_size=12, max_size=12), st.sampled_from(["'", '"', "|", ">", None]))
def test_every_character_is_found_where_it_is_written(parts: list[str], between: list[str], style: str | None) -> None:
    wanted = "".join(word + gap for word, gap in zip(parts, between, strict=False)).strip()
    text = yaml.dump({"rules": [{"when": wanted}]}, default_style=style, width=30, allow_unicode=True)
    value = yaml.safe_load(text)["rules"][0]["when"]  # its writer folds some texts into others
    source = read("x.yaml", text.encode())
    path = ("rules", 0, "when")
    assert source.at(path) == value
    mark = source.mark(path)
    for index, character in enumerate(value):
        found = source.text[offset_of(source.text, mark.offset, mark.style, value, index) :]
        if not character.isspace():
            assert found.startswith((character, "\\") if mark.style == '"' else character)


WHEN = {
    "plain": ("when: request.n > 1 && reqest.n", (1, 24)),
    "plain over lines": ("when: request.n > 1\n  && reqest.n", (2, 6)),
    "single quotes": ("when: 'caller.tier == ''pro'' && reqest.n'", (1, 34)),
    "double quotes": ('when: "caller.tier == \\"pro\\" && reqest.n"', (1, 34)),
    "a continued line": ('when: "request.n > 1 \\\n  && reqest.n"', (2, 6)),
    "kept lines": ("when: |\n  request.n > 1\n  && reqest.n", (3, 6)),
    "folded lines": ("when: >-\n  request.n > 1\n  && reqest.n", (3, 6)),
    "folded after an empty line": ("when: > # why\n\n    request.n > 1 &&\n    reqest.n", (4, 5)),
    "folded with a deeper line": ("when: >\n  request.n > 1\n    && true\n  && reqest.n", (4, 6)),
    "an indentation that is said": ("when: |2\n  request.n > 1\n  && reqest.n", (3, 6)),
}


@pytest.mark.parametrize("name", WHEN)
def test_a_place_inside_a_condition_is_a_place_in_the_file(name: str) -> None:
    text, place = WHEN[name]
    source = read("x.yaml", text.encode())
    before = source.at(("when",)).split("reqest")[0]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    assert source.inside(("when",), line, column) == place


def test_the_end_of_a_text_is_after_its_last_character() -> None:
    assert read("x.yaml", b"when: a ||").inside(("when",), 1, 5) == (1, 11)
