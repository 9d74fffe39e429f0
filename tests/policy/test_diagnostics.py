"""What people read: hints, plain words, and the line with a caret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import ORG, SURFACE, write_policies

from policyguard.errors import Diagnostic
from policyguard.policy.diagnostics import names_at, render
from policyguard.policy.document import Organisation, Surface
from policyguard.policy.load import check

# What a product team never reads: names of types and phrases of libraries.
PYTHON = re.compile(r"\b(str|int|float|bool|dict|list\[|None|NoneType|True|False|Input should|pydantic|tuple)\b")

SAID: dict[str, tuple[str, str, str]] = {
    "a misspelt key": (
        "moderaton: {}",
        "there is no key `moderaton` here",
        "did you mean `moderation`? there is `version`",
    ),
    "a strange key": ("moderation: {zzz: 1}", "there is no key `zzz` here", "there is `model`, `check`, `deny_at`"),
    "a key of a rule": (
        "rules: [{id: a, wen: request.n > 1, then: deny}]",
        "there is no key `wen` here",
        "did you mean `when`?",
    ),
    "a truth value": ("mode: true", "`true` is not possible here", "there is `enforce`, `shadow`"),
    "a list for one": ("mode: [shadow]", "this needs one of `enforce`, `shadow`", ""),
    "a mapping for a list": ("rules: {a: b}", "this needs a list", ""),
    "a text for keys": ("review: yes", "this needs keys and values", ""),
    "a number for a text": (
        "exempt: [{rules: [1], when: a, until: 2027-01-01, by: a, why: b}]",
        "this needs a text",
        "",
    ),
    "a fraction": ("review: {approvals: 1.5}", "this needs a whole number, without quotes", ""),
    "a section of org.yaml": (
        "limits: {request: {n: {max: 4}}}",
        "there is no key `limits` here",
        "`limits` stands in org.yaml alone",
    ),
    "an exemption from what is built in": (
        "exempt: [{rules: [request.n], when: request.n > 1, until: 2027-01-01, by: a, why: b}]",
        "a rule of this file is named by its id, and nothing else can be exempted",
        "",
    ),
    "a text for truth": ("review: {required: yes}", "this needs `true` or `false`, without quotes", ""),
    "too many": ("review: {approvals: 99}", "this is at most 10", ""),
    "an empty list": ("request: {models: {allow: []}}", "this list is empty", ""),
    "an empty text": ("rules: [{id: a, when: '', then: deny}]", "this is empty", ""),
    "a long text": (
        f"rules: [{{id: a, when: request.n > 1, then: deny, message: {'x' * 501}}}]",
        "this is too long",
        "",
    ),
    "a category": (
        "moderation: {review_at: {violense: 0.1}}",
        "`violense` is not possible here",
        "did you mean `violence`?",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_problems_are_said_in_plain_words_with_a_hint(tmp_path: Path, name: str) -> None:
    added, message, hint = SAID[name]
    base = SURFACE.split("request:\n")[0] if added.startswith("request:") else SURFACE
    write_policies(tmp_path, avatars=base + added + "\n")
    first = next(p for p in check(tmp_path) if p.message == message)
    assert first.hint.startswith(hint)
    for problem in check(tmp_path):
        assert not PYTHON.search(f"{problem.message} {problem.hint}")
        assert problem.message[0] == problem.message[0].lower()
        assert not problem.message.endswith(".")


def test_keys_are_known_below_lists_names_and_forms() -> None:
    assert names_at(Organisation, ("caller", "user")) == ["from", "required", "default", "values"]
    assert names_at(Surface, ("routes", 0)) == ["route", "fields", "constants", "usage", "images"]
    assert names_at(Surface, ("budgets", 3))[:2] == ["id", "limit"]
    assert names_at(Surface, ("moderation", "deny_at")) == []
    assert names_at(Surface, ("nothing", "here")) == []


def test_a_misspelt_key_of_a_caller_value_has_a_hint(tmp_path: Path) -> None:
    write_policies(tmp_path, org=ORG.replace("required: true", "requird: true"), avatars=SURFACE)
    assert check(tmp_path)[0].hint == "did you mean `required`? there is `from`, `required`, `default`, `values`"


def shown(line: str, column: int) -> tuple[str, str]:
    """The printed line and the line of the caret, without the gutter."""
    text = render(Diagnostic("a.yaml", 1, column, "PG102", "wrong", hint="do better"), line)
    head, place, gap, first, caret, hint = text.split("\n")
    assert (head, place, gap, hint) == (
        "error PG102: wrong",
        "  --> a.yaml:1:" + str(column),
        "  |",
        "  hint: do better",
    )
    return first.removeprefix("1 | "), caret.removeprefix("  | ")


def test_the_caret_stands_under_its_character() -> None:
    assert shown("a: b", 4) == ("a: b", "   ^")
    assert shown("漢字: b", 5) == ("漢字: b", " " * 6 + "^")  # two columns each
    assert shown("e\u0301: b", 5) == ("e\u0301: b", "   ^")  # none for marks that join
    assert shown("e\u200d: b", 5) == ("e\\u200d: b", " " * 9 + "^")
    assert shown("a:\tb", 4) == ("a:  b", "    ^")
    assert shown("漢\tb", 3) == ("漢   b", " " * 5 + "^")


def test_what_would_move_the_terminal_is_shown_as_an_escape() -> None:
    assert shown("a: \x1b[31m\u202eb", 4) == (r"a: \x1b[31m\u202eb", "   ^")


def test_a_very_long_line_is_cut_around_the_caret() -> None:
    line, caret = shown("x" * 500 + "!" + "y" * 10_000, 501)
    assert len(line) < 160
    assert line[caret.index("^")] == "!"
    assert line.startswith("...x")
    assert line.endswith("y...")
    assert shown("漢" * 300 + "!", 301) == ("..." + "漢" * 70 + "!", " " * 143 + "^")
    assert shown("a\t" * 200 + "!", 401)[0] == "..." + "a   " * 35 + "!"


def test_a_place_after_the_end_has_no_line() -> None:
    assert render(Diagnostic("a.yaml", 9, 1, "PG502", "wrong"), "a: 1") == "error PG502: wrong\n  --> a.yaml:9:1"


def test_a_misspelt_model_is_one_problem_wherever_else_it_is_meant(tmp_path: Path) -> None:
    route = (
        "  - {route: POST /api, fields: {prompt: body.text},\n"
        "     constants: {model: gpt-image-2-2026-04-21, size: 1024x1024, quality: low, n: 1}}"
    )
    surface = SURFACE.replace("[gpt-image-2-2026-04-21", "[gpt-image-2-2026-04-12")
    surface = surface.replace("routes: [POST /v1/images/generations, POST /v1/images/edits]", f"routes:\n{route}")
    (found,) = check(write_policies(tmp_path, avatars=surface))
    assert (found.code, found.hint) == ("PG206", "did you mean `gpt-image-2-2026-04-21`?")


def test_a_section_of_a_surface_in_org_yaml_is_sent_where_it_belongs(tmp_path: Path) -> None:
    org = ORG + "audit: {prompt: none}\nrequest: {n: {max: 4}}\nexempt: []\n"
    hints = [p.hint for p in check(write_policies(tmp_path, org=org, avatars=SURFACE))]
    assert hints == [
        "write it below `defaults`",
        "write it below `defaults` or `limits`",
        "`exempt` stands in the files of surfaces",
    ]
