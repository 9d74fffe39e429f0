"""The schema in a real editor's server: the loader's verdict about form, completion, and text under the pointer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from node.language_server import LanguageServer
from support import ORG, write_policies

from policyguard.cli.schema import first_line, write_schemas
from policyguard.errors import Diagnostic
from policyguard.policy.load import check, load
from policyguard.policy.source import read
from policyguard.testing.read import read_suite, suite_files

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "policies").glob("*.yaml"))
FULL = """
version: 1
surface: full
title: Every key there is
owner: a@example.com
stakes: low
mode: shadow
routes:
  - POST /full/v1/images/generations
  - route: PUT /own
    fields: {prompt: body.text.a, n: body.n}
    constants: {model: gpt-image-2-2026-04-21, size: 1024x1024, quality: low, output_compression: 3, moderation: auto}
    usage: response.usage
    images: response.data[].b64
request:
  models: {allow: [gpt-image-2-2026-04-21], default: gpt-image-2-2026-04-21}
  sizes: {allow: [1024x1024, 1024x1536], max_pixels: 4000000, max_edge: 4000, default: 1024x1024}
  quality: {allow: [low, high], default: low}
  n: {max: 2}
  formats: {allow: [png]}
  prompt: {max_chars: 100}
  input_images: {max: 1, max_bytes: 1000000, types: [png], max_pixels: 9, max_edge: 3, hosts: [a-1.example.com]}
  partial_images: {max: 1}
  moderation: auto
  on_excess: adjust
  unknown_parameters: pass
moderation:
  model: omni-moderation-latest
  check: [prompt]
  deny_at: {default: 0.5, sexual/minors: 0}
  review_at: {hate: 0.3}
  when_unavailable: review
  timeout: 5s
questions: {real_person: {ask: Is it a real person?, when_unavailable: review}}
budgets: [{id: b, limit: $1.5 / week, per: caller.user, time_zone: Europe/Berlin, mode: shadow}]
rules: [{id: r, when: request.n > 1, then: flag, message: hi, mode: shadow}]
review:
  required: false
  hold: request
  reviewers: [group:trust]
  approvals: 1
  escalate: [{after: 5m, to: [x@example.com]}]
  expires: 2h
exempt: [{rules: [r], when: request.n > 1, until: 2027-01-31, by: me, why: because}]
audit: {prompt: none, retain: {events: 400d, private: 30d, artefacts: 7d}}
reasons_on_wire: true
"""

RICH = (
    ORG
    + """
limits:
  request: {n: {max: 4}, sizes: {max_pixels: 4194304}, moderation: auto}
  moderation: {check: [prompt], deny_at: {default: 0.80, sexual/minors: 0.02}}
high_stakes:
  review: {required: true, approvals: 1, expires: 1d}
  moderation: {when_unavailable: deny}
budgets: [{id: company-month, limit: $20000 / month, time_zone: Europe/Berlin}]
rules: [{id: no-many, when: request.n > 3, then: deny, message: Too many.}]
"""
)

# What a schema of one file says, too. The rest is about other files, other keys or the network.
FORM = {"PG201", "PG202", "PG203", "PG204", "PG205", "PG206", "PG210"}
BEYOND = (
    "there is no group",
    "this file has no rule",
    "there is no such time zone",
    "org.yaml declares no",
    "is not allowed by this policy itself",
    "no allowed model",
    "a network is written",
)


@pytest.fixture(scope="module")
def server() -> Iterator[LanguageServer]:
    with LanguageServer() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    write_schemas(tmp_path)
    return tmp_path


def opened(name: str, text: str) -> str:
    return first_line(Path(name)) + text


def problems(folder: Path, name: str, text: str) -> list[Diagnostic]:
    """Why the loader refuses one file, beside the other of the two."""
    policies = write_policies(folder / "policies", full=FULL)
    (policies / name).write_text(text)
    return [p for p in check(policies) if p.file == str(policies / name) and p.severity == "error"]


def about_form(found: list[Diagnostic]) -> list[str]:
    """The messages of problems of form."""
    return [p.message for p in found if p.code in FORM and not any(words in p.message for words in BEYOND)]


# ---- right and wrong --------------------------------------------------------------------------------------


def test_what_is_shipped_and_every_key_there_is_have_no_problem(server: LanguageServer, folder: Path) -> None:
    texts = {folder / file.name: opened(file.name, file.read_text()) for file in SHIPPED}
    texts[folder / "full.yaml"] = opened("full.yaml", FULL)
    for file in suite_files(ROOT / "policies"):
        texts[folder / "tests" / file.name] = opened(file.name, file.read_text())
    assert server.diagnostics(texts) == {file: [] for file in texts}
    assert problems(folder, "full.yaml", FULL) == []


PRICES = """
version: 1
prices:
  gpt-image-2-2026-04-21: {family: gpt-image-2, image_out: $30, text_in: $5, image_in: $8, status: current,
    date: 2026-11-01, source: a contract, confidence: contract, note: ours}
  our-model: {family: fixed, tokens: {1024x1024: {low: 200, high: 4000}}, image_out: $30, text_in: $5.125,
    text_out: $40, status: deprecated, shutdown: 2027-06-30, date: 2026-11-01, source: measured, confidence: observed}
"""
WRONG_PRICES = {
    "a misspelt key": ("image_out: $30, text_in: $5,", "images_out: $30, text_in: $5,"),
    "a missing key": ("source: measured, ", ""),
    "a price without a currency": ("text_in: $5,", "text_in: 5,"),
    "a price for one token": ("text_in: $5,", "text_in: $0.000005,"),
    "a family that is not there": ("family: gpt-image-2,", "family: gpt-image-9,"),
    "a quality that is not there": ("low: 200", "lowest: 200"),
    "no tokens": ("low: 200", "low: 0"),
    "a day in words": ("shutdown: 2027-06-30", "shutdown: next June"),
    "a status that is not there": ("status: current", "status: live"),
}


def test_prices_are_right_and_wrong_in_the_editor_as_for_the_loader(server: LanguageServer, folder: Path) -> None:
    texts = {"right": PRICES, **{name: PRICES.replace(*change) for name, change in WRONG_PRICES.items()}}
    line = opened("prices.yaml", "")
    found = server.diagnostics({folder / f"{name}.yaml": line + text for name, text in texts.items()})
    assert {file.stem for file, said in found.items() if not said} == {"right"}
    assert [name for name, text in texts.items() if not problems(folder, "prices.yaml", text)] == ["right"]


WRONG = {  # a text of `FULL` and what is written instead
    "a misspelt section": ("moderation:\n", "moderaton:\n"),
    "a misspelt key": ("on_excess", "on_exces"),
    "a misspelt category": ("sexual/minors", "sexual-minors"),
    "a misspelt parameter": ("n: body.n", "m: body.n"),
    "a missing key": ("owner: a@example.com\n", ""),
    "a missing key of a rule": (", then: flag", ""),
    "a version to come": ("version: 1", "version: 2"),
    "an id in upper case": ("id: r,", "id: R,"),
    "a mode that is not there": ("mode: shadow\nroutes", "mode: on\nroutes"),
    "an outcome that is not there": ("then: flag", "then: allow"),
    "a quality that is not there": ("quality: {allow: [low", "quality: {allow: [lowest"),
    "a model that is not there": ("allow: [gpt-image-2-2026-04-21]", "allow: [gpt-image-9]"),
    "a size in words": ("allow: [1024x1024", "allow: [large"),
    "a number in quotes": ("n: {max: 2}", 'n: {max: "2"}'),
    "a fraction": ("n: {max: 2}", "n: {max: 2.5}"),
    "too many images": ("n: {max: 2}", "n: {max: 11}"),
    "no image": ("n: {max: 2}", "n: {max: 0}"),
    "a score above one": ("hate: 0.3", "hate: 30"),
    "yes for true": ("required: false", "required: yes"),
    "one for a list": ("allow: [png]", "allow: png"),
    "an empty list": ("allow: [png]", "allow: []"),
    "no value": ("formats: {allow: [png]}", "formats:"),
    "a list for keys": ("retain: {events: 400d, private: 30d, artefacts: 7d}", "retain: [400d]"),
    "a text for keys": ("prompt: {max_chars: 100}", "prompt: 100"),
    "a duration without a unit": ("timeout: 5s", "timeout: 5"),
    "a duration in words": ("after: 5m", "after: 5 minutes"),
    "days in hours": ("events: 400d", "events: 9600h"),
    "a size of bytes in words": ("max_bytes: 1000000", "max_bytes: 1 MB"),
    "a host with a port": ("hosts: [a-1.example.com]", "hosts: ['a.example.com:443']"),
    "a host as an address": ("hosts: [a-1.example.com]", "hosts: ['https://a.example.com/']"),
    "a host in numbers": ("hosts: [a-1.example.com]", "hosts: [127.0.0.1]"),
    "a host in capitals": ("hosts: [a-1.example.com]", "hosts: [A.example.com]"),
    "a host for everybody": ("hosts: [a-1.example.com]", "hosts: ['*.example.com']"),
    "a budget without a period": ("$1.5 / week", "$1.5"),
    "a budget of nothing": ("$1.5 / week", "$0 / week"),
    "a caller value without its root": ("per: caller.user", "per: user"),
    "a method that brings no body": ("PUT /own", "GET /own"),
    "a route with a placeholder": ("PUT /own", "PUT /own/{id}"),
    "a path out of the body": ("body.text.a", "text.a"),
    "a day as people write it": ("until: 2027-01-31", "until: 31.1.2027"),
    "a key that is not enforced yet": ("reasons_on_wire: true", "inner: guarded"),
    "moderation turned down": ("moderation: auto\n  on", "moderation: low\n  on"),
}


def test_what_is_wrong_for_the_loader_is_wrong_in_the_editor(server: LanguageServer, folder: Path) -> None:
    texts = {}
    for name, (right, wrong) in WRONG.items():
        assert FULL.count(right) == 1, name
        texts[folder / f"{name}.yaml"] = FULL.replace(right, wrong)
        assert about_form(problems(folder, "full.yaml", texts[folder / f"{name}.yaml"])), name
    said = server.diagnostics({file: opened("full.yaml", text) for file, text in texts.items()})
    assert [file.stem for file, messages in said.items() if not messages] == []


def test_the_editor_says_the_loaders_words_about_how_a_value_is_written(server: LanguageServer, folder: Path) -> None:
    texts = {
        folder / f"{wrong}.yaml": FULL.replace(right, wrong) for right, wrong in (("5m,", "5 minutes,"), ("$1.5", "€1"))
    }
    said = server.diagnostics({file: opened("full.yaml", text) for file, text in texts.items()})
    for file, text in texts.items():
        assert said[file] == [problem.message for problem in problems(folder, "full.yaml", text)]


# ---- any change -------------------------------------------------------------------------------------------

VALUES = [True, 3.5, -1, "some text", "", [], {}, ["a"], {"a": 1}, None, "30m", "30d", "$5 / day", "1024x1024", "deny"]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from paths(item, (*path, key))


def changed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = deepcopy(data)
    at = copy
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    return copy


def changes(data: Any) -> Iterator[Any]:
    """Every value replaced by values of other kinds, a key added to every mapping."""
    for path in paths(data):
        if path:
            yield from (changed(data, path, value) for value in VALUES)
        at = data
        for part in path:
            at = at[part]
        if isinstance(at, dict):
            yield from (changed(data, (*path, key), 1) for key in ("unknown", "Upper case", "default"))


@pytest.mark.parametrize("name", ["full.yaml", "org.yaml"])
def test_the_two_verdicts_agree_on_changes_of_every_kind(server: LanguageServer, folder: Path, name: str) -> None:
    """Every fifth of all changes: what the server refuses does not load, and form that does not load is refused."""
    data = read(name, (FULL if name == "full.yaml" else RICH).encode()).data
    texts = {
        folder / f"{name}-{number}.yaml": json.dumps(change, ensure_ascii=False)
        for number, change in enumerate(islice(changes(data), 0, None, 5))
    }
    said = server.diagnostics({file: opened(name, text) for file, text in texts.items()})
    for file, text in texts.items():
        found = problems(folder, name, text)
        assert not (said[file] and not found), (text, said[file])
        assert not (about_form(found) and not said[file]), (text, about_form(found))


# ---- help -------------------------------------------------------------------------------------------------

COMPLETED = {
    "the keys of a file": ("", ["mode", "moderation", "owner", "request", "rules", "stakes", "surface"]),
    "the keys of a section": ("request:\n  ", ["models", "on_excess", "partial_images", "quality", "sizes"]),
    "the values of a list": ("request:\n  quality: {allow: [low, ", ["auto", "high", "low", "max", "medium", "xhigh"]),
    "models": ("request:\n  models:\n    default: ", ["gpt-image-2-2026-04-21", "gpt-image-2.5-flare-2026-09-08"]),
    "sizes": ("request:\n  sizes:\n    default: ", ["1024x1024", "auto"]),
    "categories": ("moderation:\n  deny_at:\n    ", ["default", "sexual", "sexual/minors", "violence/graphic"]),
    "outcomes": ("rules:\n  - then: ", ["deny", "flag", "review"]),
    "how a budget is written": ("budgets:\n  - limit: ", ["$2000 / month", "20 images / day"]),
    "parameters of a route": ("routes:\n  - constants:\n      ", ["model", "moderation", "n", "size"]),
}


@pytest.mark.parametrize("what", COMPLETED)
def test_what_is_possible_is_offered(server: LanguageServer, folder: Path, what: str) -> None:
    text, expected = COMPLETED[what]
    offered = server.completions(folder / f"{what}.yaml", opened("a.yaml", text))
    assert set(expected) <= set(offered)
    assert not [name for name in offered if "schema" in name or "policyguard" in name]


def test_the_keys_of_the_organisation_are_offered(server: LanguageServer, folder: Path) -> None:
    offered = server.completions(folder / "org.yaml", opened("org.yaml", "caller:\n  user:\n    "))
    assert offered == ["default", "from", "required", "values"]


WRONG_TESTS = {
    "a misspelt key": "givn: {}",
    "a misspelt parameter": "given: {request: {sise: auto}}",
    "an outcome that is not there": "tests: [{name: a, expect: refuse}]",
    "no expectation": "tests: [{name: a}]",
    "a score above one": "given: {scores: {sexual: 3}}",
    "a misspelt category": "given: {scores: {sexul: 0.3}}",
    "a word for a score": "given: {scores: {sexual: down}}",
    "an amount without a currency": "given: {spent: {b: ten}}",
    "a time without a zone": "given: {now: 2026-12-24T12:00:00}",
}


def test_what_is_wrong_in_a_file_of_tests_is_wrong_in_the_editor(server: LanguageServer, folder: Path) -> None:
    policies = load(write_policies(folder / "policies", full=FULL))
    texts = {folder / "tests" / f"{name}.yaml": f"surface: full\n{text}\n" for name, text in WRONG_TESTS.items()}
    for file, text in texts.items():
        file.write_text(text)
        assert about_form(list(read_suite(file, policies).problems)), file.stem
    said = server.diagnostics({file: opened(file.name, text) for file, text in texts.items()})
    assert [file.stem for file, messages in said.items() if not messages] == []


def test_outcomes_of_tests_are_offered(server: LanguageServer, folder: Path) -> None:
    text = "surface: full\ntests:\n  - name: a\n    expect: "
    assert {"allow", "deny"} <= set(server.completions(folder / "tests/new.yaml", opened("new.yaml", text)))


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("deny_at", "From which score on a request is denied, by category; `default` covers all that are not named."),
        ("sexual/minors", "From which score on a request is denied, by category;"),
        (
            "on_excess",
            "What happens to n, quality, size and partial images beyond the policy: deny, or bring them down.",
        ),
        ("when_unavailable", "* `review`"),
        ("limit:", "Like `$2000 / month`, `20 images / day` or `100 requests / minute`."),
    ],
)
def test_a_key_explains_itself_under_the_pointer(server: LanguageServer, folder: Path, word: str, text: str) -> None:
    shown = server.hover(folder / f"{word.strip(':').replace('/', '-')}.yaml", opened("full.yaml", FULL), word)
    assert text in shown
    assert not shown.startswith("#")
