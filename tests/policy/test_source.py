"""Strict YAML: what is refused, where, and that one run finds all of it, with either of PyYAML's scanners."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from policyguard.policy import source as module
from policyguard.policy.source import MAX_DEPTH, MAX_NODES, Source, dotted, read

LOADERS = sorted({"CSafeLoader" if yaml.__with_libyaml__ else "SafeLoader", "SafeLoader"})


@pytest.fixture(params=LOADERS, autouse=True)
def _scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOADER", getattr(yaml, request.param))


def problems(text: str | bytes) -> list[tuple[str, int, int]]:
    raw = text.encode() if isinstance(text, str) else text
    return [(p.code, p.line, p.column) for p in read("x.yaml", raw).problems]


ONE: dict[str, tuple[str | bytes, str, int, int]] = {
    "bad UTF-8 after wide letters": ("ü: é\nb: ü".encode() + b"\xff", "PG101", 2, 5),
    "a control character after wide letters": ('é: "ü"\nb: "é\x01"', "PG108", 2, 6),
    "a carriage return alone": ("a: 1\rb: 2", "PG108", 1, 5),
    "a line separator": ("a: b\u2028c", "PG108", 1, 5),
    "a paragraph separator": ("a: 1\nb: \u2029", "PG108", 2, 4),
    "a next line": ("a: \u0085", "PG108", 1, 4),
    "an invisible mark inside": ("a: b\ufeffc", "PG108", 1, 5),
    "an escape that is a control character": ('a: "\\e[31m"', "PG108", 1, 4),
    "a tag after astral characters": ("x: 😀😀\n😀: !!int 5", "PG105", 2, 4),
    "a tag of one mark": ("a: ! 5", "PG105", 1, 4),
    "an anchor at a mapping": ("a: &x {b: 1}", "PG105", 1, 4),
    "an anchor at a key": ("&x a: 1", "PG105", 1, 1),
    "an alias as a key": ("*x : 1", "PG105", 1, 1),
    "a number as a key": ("a: 1\n2: b", "PG109", 2, 1),
    "a truth value as a key": ("true: b", "PG109", 1, 1),
    "nothing as a key": ("~: b", "PG109", 1, 1),
    "a mapping as a key": ("? {a: 1}\n: b", "PG109", 1, 3),
    "an endless number": ("a: .inf", "PG106", 1, 4),
    "no number": ("a: .NaN", "PG106", 1, 4),
    "five thousand digits": ("a: " + "9" * 5000, "PG106", 1, 4),
    "a large exponent": ("a: 1e999", "PG106", 1, 4),
    "two documents": ("a: 1\n---\nb: 2", "PG107", 2, 1),
    "only a comment": ("# nothing\n", "PG107", 1, 1),
    "too deep": ("[" * 51, "PG106", 1, 51),
    "too many values": ("a: [" + "1," * MAX_NODES + "1]", "PG106", 1, 4 + 2 * (MAX_NODES - 2) + 1),
    "too large": (b"#" * 1_000_001, "PG106", 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_what_is_refused_is_said_with_its_place(name: str) -> None:
    text, code, line, column = ONE[name]
    assert problems(text) == [(code, line, column)]


def test_one_run_finds_every_problem_that_does_not_end_the_reading() -> None:
    text = "a: ! 5\nb: &x 7\nc: *x\n<<: {q: *x}\na: 2\n1: 3\nd: .inf\ne: [!!str 1]\n"
    assert problems(text) == [
        ("PG105", 1, 4),
        ("PG105", 2, 4),
        ("PG105", 3, 4),
        ("PG104", 4, 1),
        ("PG105", 4, 9),
        ("PG103", 5, 1),
        ("PG109", 6, 1),
        ("PG106", 7, 4),
        ("PG105", 8, 5),
    ]


def test_a_second_key_never_replaces_the_first() -> None:
    assert read("x.yaml", b"n: 4\n'n': 40\nm: 1\n").data == {"n": 4, "m": 1}


def test_words_and_numbers_are_those_of_yaml_1_2() -> None:
    text = "[true, True, FALSE, null, NULL, ~, yes, off, y, 1, -0, +7, 1.5, .5, 1., 1e3, 1.5E-3, 1:60, 08, 0o10, =]"
    assert read("x.yaml", text.encode()).data == [
        *(True, True, False, None, None, None, "yes", "off", "y"),
        *(1, 0, 7, 1.5, 0.5, 1.0, 1000.0, 0.0015, "1:60", "08", "0o10", "="),
    ]  # fmt: skip


def test_quotes_make_a_text_of_everything() -> None:
    assert read("x.yaml", b"[\"1\", '1', 'true', '~', \"<<\"]").data == ["1", "1", "true", "~", "<<"]
    assert read("x.yaml", b"'1': a\n\"true\": b\n'<<': c\n").data == {"1": "a", "true": "b", "<<": "c"}


def test_a_byte_order_mark_and_windows_line_ends_move_nothing() -> None:
    source = read("x.yaml", b"\xef\xbb\xbfa: 1\r\nb: [2,\r\n 3]\r\n")
    assert source.data == {"a": 1, "b": [2, 3]}
    assert [(m.line, m.column) for m in (source.mark(("a",)), source.mark(("b", 1)))] == [(1, 4), (3, 2)]


def test_fifty_levels_are_read() -> None:
    assert problems("[" * MAX_DEPTH + "]" * MAX_DEPTH) == []


def test_reading_stops_at_the_limit_of_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scanner needs seconds for 200,000 levels, and compose ends the process; the events stop after 51."""
    seen: list[Any] = []

    class Counted(module._LOADER):  # type: ignore[name-defined,misc]
        def get_event(self) -> Any:
            seen.append(super().get_event())
            return seen[-1]

    monkeypatch.setattr(module, "_LOADER", Counted)
    assert problems("[" * 200_000) == [("PG106", 1, 51)]
    assert len(seen) == MAX_DEPTH + 3  # stream and document start, and the level that is too many


def test_marks_are_of_values_or_of_keys_and_else_of_what_is_around() -> None:
    source = read("x.yaml", b"a:\n  b: [1, 2]\n")
    marks = [source.mark(("a", "b", 1)), source.mark(("a", "b"), key=True), source.mark(("a", "c", "d"))]
    assert [(m.line, m.column) for m in marks] == [(2, 10), (2, 3), (2, 3)]
    assert Source("x.yaml", "").mark(("a",)).line == 1


def test_paths_are_written_as_people_would() -> None:
    assert [dotted(p) for p in ((), ("a",), ("rules", 0, "when"))] == ["", "a", "rules[0].when"]


def test_a_problem_inside_what_is_no_text_is_at_its_start() -> None:
    assert read("x.yaml", b"a: [1]").inside(("a",), 3, 9) == (1, 4)
