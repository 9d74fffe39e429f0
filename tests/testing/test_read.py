"""What a file of tests means, and what is wrong with one: a mistake in a test is as loud as one in a policy."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import MODEL
from testing import suites
from testing.suites import AVATARS, GIVEN, loaded, suite

from policyguard.policy.model import PolicySet
from policyguard.policy.source import read
from policyguard.request import CATEGORIES, ImageRequest
from policyguard.testing.document import amount, instant
from policyguard.testing.read import Expected, PolicyTest, read_suite, suite_files
from policyguard.testing.simulate import NOON

ONE = "tests: [{name: a, expect: allow}]\n"


def only(tmp_path: Path, text: str, given: str = GIVEN) -> PolicyTest:
    found = suite(tmp_path, text, given=given)
    assert found.problems == ()
    (test,) = found.tests
    return test


# ---- what it means ----------------------------------------------------------------------------------------


def test_a_test_lays_what_it_says_over_what_is_given(tmp_path: Path) -> None:
    test = only(
        tmp_path,
        """
        tests:
          - name: a
            request: {quality: high, model: gpt-image-2-2026-04-21}
            caller: {tier: pro}
            scores: {violence: 0.2}
            spent: {month: $9.50, user-day: 3 images}
            now: 2026-12-24T13:00:00+01:00
            paused: user
            expect: allow
        """,
    )
    assert test.case.request == ImageRequest(prompt="a cat", quality="high", n=1, model=MODEL)
    assert dict(test.case.caller.items()) == {"user": "u1", "tenant": "shop", "tier": "pro"}
    assert dict(test.case.scores) == {"violence": 0.2}
    assert dict(test.case.spent) == {"month": 9_500_000, "user-day": 3}
    assert (test.case.now, test.case.paused) == (datetime(2026, 12, 24, 12, tzinfo=UTC), "user")
    assert (test.name, test.surface, test.line, test.column) == ("a", "avatars", 6, 5)


def test_where_nothing_is_said_it_is_noon_and_nothing_is_spent(tmp_path: Path) -> None:
    test = only(tmp_path, ONE)
    assert (test.case.now, dict(test.case.spent), dict(test.case.scores)) == (NOON, {}, {})


def test_unavailable_stands_for_every_category_and_can_be_laid_over(tmp_path: Path) -> None:
    assert only(tmp_path, "tests: [{name: a, scores: unavailable, expect: deny}]\n").case.scores == dict.fromkeys(
        CATEGORIES
    )
    base = GIVEN + "  scores: unavailable\n"
    mixed = only(tmp_path, "tests: [{name: a, scores: {hate: 0.1}, expect: deny}]\n", base).case.scores
    assert (mixed["hate"], mixed["violence"]) == (0.1, None)


ASKING = AVATARS.replace("\nrules:\n", "\nrules:\n  - {id: logos, when: answers.logo > 0.5, then: deny}\n") + (
    "questions: {logo: {ask: Is there a logo?}}\n"
)


def test_answers_are_given_by_name_and_unavailable_stands_for_all(tmp_path: Path) -> None:
    one = suites.folder(tmp_path / "a", "tests: [{name: a, answers: {logo: 0.9}, expect: deny}]\n", avatars=ASKING)
    down = suites.folder(tmp_path / "b", "tests: [{name: a, answers: unavailable, expect: deny}]\n", avatars=ASKING)
    found = [read_suite(path / "tests" / "avatars.yaml", loaded(path, ASKING)) for path in (one, down)]
    assert [dict(suite.tests[0].case.answers) for suite in found] == [{"logo": 0.9}, {"logo": None}]


def test_an_answer_to_a_question_that_is_not_asked_is_a_problem(tmp_path: Path) -> None:
    path = suites.folder(tmp_path, "tests: [{name: a, answers: {lgo: 0.9}, expect: deny}]\n", avatars=ASKING)
    (problem,) = read_suite(path / "tests" / "avatars.yaml", loaded(path, ASKING)).problems
    assert (problem.code, problem.hint) == ("PG206", "did you mean `logo`?")


def test_without_takes_away_what_is_given(tmp_path: Path) -> None:
    test = only(tmp_path, "tests: [{name: a, without: [caller.user, request.n], expect: deny}]\n")
    assert test.case.caller.user is None
    assert test.case.request == ImageRequest(prompt="a cat", quality="low")


@pytest.mark.parametrize(
    ("written", "operation", "images", "mask"),
    [
        ("{}", "generate", 0, False),
        ("{operation: edit}", "edit", 1, False),
        ("{input_images: 3}", "edit", 3, False),
        ("{operation: edit, mask: true}", "edit", 1, True),
        ("{input_images: 0}", "generate", 0, False),
    ],
)
def test_input_images_make_an_edit_and_an_edit_has_one(
    tmp_path: Path, written: str, operation: str, images: int, mask: bool
) -> None:
    request = only(tmp_path, f"tests: [{{name: a, request: {written}, expect: allow}}]\n").case.request
    assert (request.operation, len(request.images), request.mask is not None) == (operation, images, mask)


def test_images_have_the_size_that_is_said(tmp_path: Path) -> None:
    request = only(
        tmp_path, "tests: [{name: a, request: {input_images: 1, image_bytes: 2kB}, expect: deny}]\n"
    ).case.request
    assert [len(image.data) for image in request.images] == [2000]


def test_images_are_of_the_kind_and_at_the_host_that_is_said(tmp_path: Path) -> None:
    written = "input_images: 1, image_type: webp, image_size: 4000x3000, mask: true"
    request = only(tmp_path, f"tests: [{{name: a, request: {{{written}}}, expect: deny}}]\n").case.request
    assert [(image.media_type, image.size) for image in request.input_images] == [
        ("image/webp", (4000, 3000)),
        ("image/png", (4000, 3000)),
    ]
    written = "input_images: 1, image_host: images.example.com"
    request = only(tmp_path, f"tests: [{{name: a, request: {{{written}}}, expect: deny}}]\n").case.request
    assert [(image.host, image.data) for image in request.images] == [("images.example.com", b"")]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("deny", Expected(outcome="deny")),
        ("{outcome: allow}", Expected(outcome="allow", reasons=frozenset())),
        ("{outcome: deny, reasons: [long]}", Expected(outcome="deny", reasons=frozenset({"long"}))),
        (
            "{outcome: allow, shadow: [trial], adjusted: {n: 2, size: 1024x1024}}",
            Expected(
                outcome="allow",
                reasons=frozenset(),
                shadow=frozenset({"trial"}),
                adjusted={"n": "2", "size": "1024x1024"},
            ),
        ),
        (
            "{outcome: allow, shadow: [], adjusted: {}}",
            Expected(outcome="allow", reasons=frozenset(), shadow=frozenset(), adjusted={}),
        ),
    ],
)
def test_a_word_is_the_outcome_alone_and_braces_are_exact(tmp_path: Path, written: str, expected: Expected) -> None:
    assert only(tmp_path, f"tests: [{{name: a, expect: {written}}}]\n").expected == expected


def test_a_matrix_is_a_test_for_every_combination(tmp_path: Path) -> None:
    found = suite(
        tmp_path,
        """
        matrix:
          axes:
            request.n: [1, 2]
            scores.violence: [0.25, unavailable]
            now: [2026-07-01T00:00:00Z]
          expect:
            "1": {"0.25": {2026-07-01T00:00:00Z: allow}, unavailable: {2026-07-01T00:00:00Z: deny}}
            "2":
              "0.25": {2026-07-01T00:00:00Z: {outcome: deny, reasons: [long]}}
              unavailable: {2026-07-01T00:00:00Z: review}
        """,
    )
    assert found.problems == ()
    assert [(test.name, test.line, test.expected.outcome) for test in found.tests] == [
        ("matrix: request.n=1, scores.violence=0.25, now=2026-07-01T00:00:00Z", 11, "allow"),
        ("matrix: request.n=1, scores.violence=unavailable, now=2026-07-01T00:00:00Z", 11, "deny"),
        ("matrix: request.n=2, scores.violence=0.25, now=2026-07-01T00:00:00Z", 13, "deny"),
        ("matrix: request.n=2, scores.violence=unavailable, now=2026-07-01T00:00:00Z", 14, "review"),
    ]
    first, second = found.tests[0].case, found.tests[3].case
    assert (first.request.n, dict(first.scores)) == (1, {"violence": 0.25})
    assert (second.request.n, dict(second.scores)) == (2, {"violence": None})
    assert second.now == datetime(2026, 7, 1, tzinfo=UTC)


def test_a_cell_sets_two_values_of_one_section(tmp_path: Path) -> None:
    found = suite(
        tmp_path, "matrix: {axes: {caller.tier: [pro], caller.tenant: [acme]}, expect: {pro: {acme: allow}}}\n"
    )
    (test,) = found.tests
    assert dict(test.case.caller.items()) == {"user": "u1", "tenant": "acme", "tier": "pro"}


def test_files_are_those_of_the_tests_folder(tmp_path: Path) -> None:
    suite(tmp_path, ONE)
    for name in ("b.yml", ".hidden.yaml", "notes.md"):
        (tmp_path / "tests" / name).write_text("x: 1")
    assert [file.name for file in suite_files(tmp_path)] == ["avatars.yaml", "b.yml"]
    assert suite_files(tmp_path / "nowhere") == []


@pytest.mark.parametrize("text", ["$1", "$0.000001", "0 images", "1 image", "20 images"])
def test_amounts(text: str) -> None:
    assert (
        amount(text)
        == {
            "$1": ("usd", 1_000_000),
            "$0.000001": ("usd", 1),
            "0 images": ("images", 0),
            "1 image": ("images", 1),
            "20 images": ("images", 20),
        }[text]
    )


@pytest.mark.parametrize("text", ["$", "1", "1 dollar", "$0.0000001", "-1 images", "$1e3", 5, None])
def test_what_is_no_amount(text: object) -> None:
    with pytest.raises(ValueError, match="written like"):
        amount(text)


@pytest.mark.parametrize("text", ["2026-12-24", "2026-12-24T12:00:00", "1999-01-01T00:00:00Z", "noon", 5])
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(ValueError, match="with its zone"):
        instant(text)


# ---- what is wrong ----------------------------------------------------------------------------------------

# name of the mistake: what stands below GIVEN (5 lines), and each problem as code, line, column, a part of its words
WRONG: dict[str, tuple[str, list[tuple[str, int, int, str]]]] = {
    "nothing is tested": ("", [("PG601", 1, 1, "this file tests nothing")]),
    "empty lists test nothing": ("tests: []\n", [("PG601", 1, 1, "this file tests nothing")]),
    "a key": ("test: []\n", [("PG201", 5, 1, "did you mean `tests`?")]),
    "a key of a request": (
        "tests: [{name: a, request: {qualty: low}, expect: allow}]\n",
        [("PG201", 5, 29, "did you mean `quality`?")],
    ),
    "a key without a value": ("tests:\n", [("PG203", 5, 1, "`tests` has no value")]),
    "a name twice": (
        "tests:\n  - {name: a, expect: allow}\n  - {name: a, expect: deny}\n",
        [("PG207", 7, 12, "in line 6")],
    ),
    "no expectation": ("tests: [{name: a}]\n", [("PG202", 5, 9, "`expect` is missing")]),
    "an outcome": ("tests: [{name: a, expect: dney}]\n", [("PG204", 5, 27, "did you mean `deny`?")]),
    "an outcome in braces": (
        "tests: [{name: a, expect: {outcome: block}}]\n",
        [("PG204", 5, 37, "there is `allow`, `flag`, `review`, `deny`")],
    ),
    "a denial without reasons": (
        "tests: [{name: a, expect: {outcome: deny}}]\n",
        [("PG202", 5, 27, "`deny` always has reasons")],
    ),
    "an allowance with reasons": (
        "tests: [{name: a, expect: {outcome: allow, reasons: [long]}}]\n",
        [("PG208", 5, 44, "listed as `shadow`")],
    ),
    "a reason": (
        "tests: [{name: a, expect: {outcome: deny, reasons: [pro-qality]}}]\n",
        [("PG206", 5, 53, "did you mean `pro-quality`?")],
    ),
    "a built-in reason": (
        "tests: [{name: a, expect: {outcome: allow, shadow: [budget.user-dya]}}]\n",
        [("PG206", 5, 53, "did you mean `budget.user-day`?")],
    ),
    "a caller value": (
        "tests: [{name: a, caller: {teir: free}, expect: allow}]\n",
        [("PG206", 5, 28, "did you mean `tier`?")],
    ),
    "a budget": (
        "tests: [{name: a, spent: {mnth: $1}, expect: allow}]\n",
        [("PG206", 5, 27, "did you mean `month`?")],
    ),
    "an amount in another unit": (
        "tests: [{name: a, spent: {month: 1 image}, expect: allow}]\n",
        [("PG208", 5, 34, "budget `month` counts dollars")],
    ),
    "an amount": ("tests: [{name: a, spent: {month: 5}, expect: allow}]\n", [("PG205", 5, 34, "`$12.50`")]),
    "a category": (
        "tests: [{name: a, scores: {violense: 0.5}, expect: deny}]\n",
        [("PG204", 5, 28, "did you mean `violence`?")],
    ),
    "a score that is too high": (
        "tests: [{name: a, scores: {violence: 30}, expect: deny}]\n",
        [("PG204", 5, 38, "at most 1")],
    ),
    "a score in quotes": (
        'tests: [{name: a, scores: {violence: "0.3"}, expect: deny}]\n',
        [("PG203", 5, 38, "without quotes")],
    ),
    "a score that is a word": (
        "tests: [{name: a, scores: {violence: unavailabel}, expect: deny}]\n",
        [("PG204", 5, 38, "did you mean `unavailable`?")],
    ),
    "a time without a zone": (
        "tests: [{name: a, now: 2026-12-24T12:00:00, expect: allow}]\n",
        [("PG205", 5, 24, "with its zone")],
    ),
    "a pause": ("tests: [{name: a, paused: tenent, expect: deny}]\n", [("PG204", 5, 27, "did you mean `tenant`?")]),
    "taking away what is not there": (
        "tests: [{name: a, without: [caller.usr], expect: deny}]\n",
        [("PG206", 5, 29, "did you mean `caller.user`?")],
    ),
    "a size": (
        "tests: [{name: a, request: {size: big}, expect: deny}]\n",
        [("PG602", 5, 35, "must be `auto` or like `1024x1536`")],
    ),
    "an edit without pictures": (
        "tests: [{name: a, request: {operation: edit, input_images: 0}, expect: deny}]\n",
        [("PG602", 5, 28, "at least one input image")],
    ),
    "a generation with pictures": (
        "tests: [{name: a, request: {operation: generate, input_images: 1}, expect: deny}]\n",
        [("PG602", 5, 40, "with an edit only")],
    ),
    "a picture that no memory holds": (
        "tests: [{name: a, request: {input_images: 1, image_bytes: 900000000GB}, expect: deny}]\n",
        [("PG602", 5, 59, "at most 64,000,000 bytes")],
    ),
    "no prompt": (
        "tests: [{name: a, without: [request.prompt], expect: deny}]\n",
        [("PG602", 5, 9, "write one under `given`")],
    ),
    "an axis": (
        "matrix: {axes: {request.qualty: [low]}, expect: {low: allow}}\n",
        [("PG201", 5, 34, "did you mean `quality`?")],
    ),
    "an axis of a caller": (
        "matrix: {axes: {caller.teir: [a, b]}, expect: {a: allow, b: allow}}\n",
        [("PG206", 5, 17, "did you mean `tier`?")],
    ),
    "an axis that is a section": (
        "matrix: {axes: {request: [a]}, expect: {a: allow}}\n",
        [("PG205", 5, 17, "an axis is one value")],
    ),
    "an axis that is nothing": (
        "matrix: {axes: {reqest.n: [1]}, expect: {'1': allow}}\n",
        [("PG201", 5, 28, "did you mean `request`?")],
    ),
    "an axis without values": (
        "matrix: {axes: {request.n: []}, expect: {}}\n",
        [("PG204", 5, 28, "this list is empty")],
    ),
    "no axes": ("matrix: {axes: {}, expect: {}}\n", [("PG204", 5, 16, "this list is empty")]),
    "a value of an axis": (
        "matrix: {axes: {request.n: [1, 11]}, expect: {}}\n",
        [("PG204", 5, 32, "at most 10")],
    ),
    "a value of an axis twice": (
        'matrix: {axes: {caller.tenant: [a, a]}, expect: {a: allow}}\n',
        [("PG207", 5, 36, "is a value of this axis already")],
    ),
    "a value of an axis that is a list": (
        "matrix: {axes: {request.n: [[1]]}, expect: {}}\n",
        [("PG203", 5, 29, "a text or a number")],
    ),
    "a cell without an expectation": (
        "matrix: {axes: {request.n: [1, 2]}, expect: {'1': allow}}\n",
        [("PG603", 5, 37, "`request.n` has no expectation for `2`")],
    ),
    "a cell that is not there": (
        "matrix: {axes: {caller.tier: [free]}, expect: {free: allow, fre: deny}}\n",
        [("PG604", 5, 61, "did you mean `free`?")],
    ),
    "an expectation before the last axis": (
        "matrix: {axes: {request.n: [1], caller.tier: [free, pro]}, expect: {'1': deny}}\n",
        [("PG603", 5, 74, "one for each of `free`, `pro`")],
    ),
    "an expectation behind the last axis": (
        "matrix: {axes: {request.n: [1]}, expect: {'1': {free: deny}}}\n",
        [("PG202", 5, 48, "`outcome` is missing"), ("PG201", 5, 49, "there is no key `free` here")],
    ),
    "an outcome of a cell": (
        "matrix: {axes: {request.n: [1]}, expect: {'1': dney}}\n",
        [("PG204", 5, 48, "did you mean `deny`?")],
    ),
    "an amount of an axis": (
        "matrix: {axes: {spent.user-day: [$1, $2]}, expect: {$1: allow, $2: deny}}\n",
        [("PG208", 5, 33, "counts images")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_found_where_it_stands(tmp_path: Path, mistake: str) -> None:
    text, expected = WRONG[mistake]
    found = suite(tmp_path, text)
    assert [(p.code, p.line, p.column) for p in found.problems] == [row[:3] for row in expected]
    for problem, (*_, words) in zip(found.problems, expected, strict=True):
        assert words in f"{problem.message} {problem.hint}"
    assert found.tests == ()


def test_an_unknown_surface_is_found_and_all_else_is_not_guessed(tmp_path: Path) -> None:
    found = suite(tmp_path, "tests: [{name: a, expect: {outcome: deny, reasons: [x]}}]\n", given="surface: avatar\n")
    assert [(p.code, p.line, p.column, p.hint) for p in found.problems] == [("PG206", 1, 10, "did you mean `avatars`?")]


@pytest.mark.parametrize(
    ("raw", "code"),
    [(b"", "PG107"), (b"- a\n", "PG203"), (b"surface: [", "PG102"), (b"a: 1\na: 2\n", "PG103"), (b"\xff", "PG101")],
)
def test_a_file_that_is_none_is_a_problem(tmp_path: Path, raw: bytes, code: str) -> None:
    file = tmp_path / "tests.yaml"
    file.write_bytes(raw)
    found = read_suite(file, loaded(tmp_path / "policies"))
    assert code in [problem.code for problem in found.problems]
    assert found.tests == ()


def test_a_folder_that_is_called_like_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    assert [p.code for p in read_suite(tmp_path / "a.yaml", loaded(tmp_path / "policies")).problems] == ["PG101"]


def test_all_problems_of_a_file_come_at_once(tmp_path: Path) -> None:
    found = suite(tmp_path, "tests: [{name: a, paused: x, now: y, scores: {z: 1}, expect: w}]\n")
    assert [problem.code for problem in found.problems] == ["PG204", "PG205", "PG204", "PG204"]


# Anything that YAML can hold, and anything that looks like a suite.
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 20) | st.sampled_from(["deny", "low", "unavailable", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["request", "n", "quality", "caller", "user", "scores", "hate", "name", "expect", "outcome"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
SUITES = st.fixed_dictionaries(
    {"surface": st.just("avatars")},
    optional={
        "given": VALUES,
        "tests": VALUES,
        "matrix": st.fixed_dictionaries(
            {
                "axes": st.dictionaries(
                    st.sampled_from(["request.n", "now", "scores", "caller.user"]), VALUES, max_size=2
                ),
                "expect": VALUES,
            }
        ),
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PolicySet]:
    path = tmp_path_factory.mktemp("policies")
    return path, loaded(path)


@settings(max_examples=150, deadline=None)
@given(document=SUITES)
def test_whatever_a_file_says_it_is_read_or_refused(folder: tuple[Path, PolicySet], document: Any) -> None:
    path, policies = folder
    file = path / "suite.txt"
    file.write_bytes(orjson.dumps(document))
    assert read(str(file), file.read_bytes()).problems == []
    found = read_suite(file, policies)
    assert bool(found.tests) != bool(found.problems)
