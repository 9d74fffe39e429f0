"""Wrong policies: each with the code, line and column that its author sees. And the right ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import MODEL, NOW, ORG, SURFACE, policies, write_policies

from policyguard.errors import PolicyError
from policyguard.policy.diagnostics import render
from policyguard.policy.load import check, load
from policyguard.policy.source import read
from policyguard.request import CATEGORIES

ROOT = Path(__file__).parents[2]
LIMITED = ORG + "limits:\n  request: {n: {max: 2}, models: {allow: [gpt-image-2-2026-04-21]}}\n"

BLOCK = "rules:\n  - id: a\n    when: >-\n      request.n > 1\n      && reqest.n > 1\n    then: deny"

# name: (added to the surface's file, code, line after the surface's own 12 lines, column)
ADDED: dict[str, tuple[str, str, int, int]] = {
    "an unknown key": ("moderaton: {deny_at: {sexual: 0.3}}", "PG201", 1, 1),
    "an unknown key inside": ("moderation: {deny_att: {sexual: 0.3}}", "PG201", 1, 14),
    "an unknown category": ("moderation: {deny_at: {sexul: 0.3}}", "PG204", 1, 24),
    "a threshold as a text": ("moderation: {deny_at: {sexual: '0.3'}}", "PG203", 1, 32),
    "a threshold beyond 1": ("moderation: {deny_at: {sexual: 30}}", "PG204", 1, 32),
    "an unknown moderation model": ("moderation: {model: omni}", "PG204", 1, 21),
    "a way to let requests pass": ("moderation: {when_unavailable: allow}", "PG204", 1, 32),
    "a duration without a unit": ("moderation: {timeout: 30}", "PG205", 1, 23),
    "a budget in words": ("budgets: [{id: b, limit: 20 dollars a day}]", "PG205", 1, 26),
    "a budget of nothing": ("budgets: [{id: b, limit: $0 / day}]", "PG205", 1, 26),
    "a budget per nobody": ("budgets: [{id: b, limit: $1 / day, per: caller.shoe}]", "PG206", 1, 41),
    "a budget in no zone": ("budgets: [{id: b, limit: $1 / day, time_zone: Berlin}]", "PG206", 1, 47),
    "two budgets of one id": ("budgets: [{id: b, limit: $1 / day}, {id: b, limit: $2 / day}]", "PG207", 1, 42),
    "an id with a dot": ("rules: [{id: a.b, when: 'true', then: deny}]", "PG205", 1, 14),
    "two rules of one id": (
        "rules: [{id: a, when: request.n > 1, then: flag}, {id: a, when: request.n > 1, then: flag}]",
        "PG207",
        1,
        56,
    ),
    "an allow verb": ("rules: [{id: a, when: request.n > 1, then: allow, message: m}]", "PG204", 1, 44),
    "a rule without an effect": ("rules: [{id: a, when: request.n > 1}]", "PG202", 1, 9),
    "a misspelt variable": ("rules: [{id: a, when: reqest.n > 1, then: deny}]", "PG402", 1, 23),
    "a mistake in a quoted condition": ("rules: [{id: a, when: 'true || reqest.n > 1', then: deny}]", "PG402", 1, 32),
    "a mistake in a block": (BLOCK.replace(">-", "|"), "PG402", 5, 10),
    "a mistake in a folded block": (BLOCK.replace(">-", ">"), "PG402", 5, 10),
    "an exemption of another file's rule": (
        "exempt: [{rules: [other], when: request.n > 1, until: 2027-01-31, by: a, why: b}]",
        "PG206",
        1,
        19,
    ),
    "an exemption without an end": (
        "exempt: [{rules: [a], when: request.n > 1, until: someday, by: a, why: b}]",
        "PG205",
        1,
        51,
    ),
    "a review without reviewers": ("review: {required: true}", "PG209", 1, 9),
    "an unknown group": ("review: {required: true, reviewers: [group:trsut]}", "PG206", 1, 38),
    "more approvals than people": ("review: {required: true, reviewers: [a@b.c], approvals: 2}", "PG208", 1, 9),
    "an escalation after the end": (
        "review: {required: true, reviewers: [a@b.c], expires: 1h, escalate: [{after: 2h, to: [d@e.f]}]}",
        "PG208",
        1,
        78,
    ),
    "a question without its text": ("questions: {real: {}}", "PG202", 1, 19),
    "a hold of the output that nobody decides": ("review: {hold: output}", "PG209", 1, 9),
    "output images that the moderator cannot see": (
        "moderation: {model: keyword, check: [prompt, output_images]}",
        "PG208",
        1,
        46,
    ),
    "a rule over output that nobody scores": (
        "rules: [{id: blood, when: output.violence > 0.2, then: flag}]",
        "PG209",
        1,
        27,
    ),
    "an exemption over output that nobody scores": (
        "rules: [{id: many, when: request.n > 1, then: deny}]\n"
        "exempt: [{rules: [many], when: output.sexual < 0.1, until: 2030-01-01, by: ada, why: pilot}]",
        "PG209",
        2,
        10,
    ),
    "an alert beyond the limit": ("budgets: [{id: b, limit: $1 / day, alert_at: [101%]}]", "PG205", 1, 47),
    "an alert of nothing": ("budgets: [{id: b, limit: $1 / day, alert_at: [0.5]}]", "PG205", 1, 47),
    "a duplicate key": ("mode: enforce\nmode: shadow", "PG103", 2, 1),
    "an anchor": ("mode: &a enforce", "PG105", 1, 7),
    "a tag": ("mode: !!str enforce", "PG105", 1, 7),
    "a merge key": ("audit: {<<: {prompt: none}}", "PG104", 1, 9),
    "a second document": ("---\nversion: 1", "PG107", 1, 1),
    "broken YAML": ("audit: {prompt: none", "PG102", 2, 1),
    "a long number": ("audit: 1234567890123456789012", "PG106", 1, 8),
    "retention in hours": ("audit: {retain: {events: 5h}}", "PG205", 1, 26),
}  # fmt: skip

# name: (replaced, by, code, line, column)
REPLACED: dict[str, tuple[str, str, str, int, int]] = {
    "an unknown model": ("gpt-image-2.5-flare-2026-09-08]", "gpt-image-3]", "PG206", 9, 45),
    "a model that is shut down": ("gpt-image-2.5-flare-2026-09-08]", "gpt-image-1]", "PG206", 9, 45),
    "a size that no model draws": ("1536x1024]", "512x512]", "PG204", 10, 43),
    "a size with a cross": ("1536x1024]", "1024×1024]", "PG205", 10, 43),
    "a quality that no model knows": ("[low, medium, high]", "[low, ultra]", "PG204", 11, 26),
    "a default that is not in the list": ("default: low", "default: max", "PG303", 11, 50),
    "n as a text": ("{max: 2}", "{max: '2'}", "PG203", 12, 18),
    "n of nothing": ("{max: 2}", "{max: 0}", "PG204", 12, 18),
    "an unknown stake": ("stakes: low", "stakes: medium", "PG204", 6, 9),
    "an own route without its fields": ("POST /v1/images/edits", "POST /api/x", "PG209", 7, 39),
    "a route with dots": ("POST /v1/images/edits", "POST /v1/../images/edits", "PG205", 7, 39),
    "a route twice": ("POST /v1/images/edits", "POST /v1/images/generations", "PG504", 7, 39),
    "an inner client": ("POST /v1/images/edits", "{route: POST /x, inner: guarded, fields: {}}", "PG210", 7, 56),
    "a constant beyond the policy": (
        "POST /v1/images/edits",
        "{route: POST /x, fields: {prompt: body.t, n: body.n}, constants: {model: gpt-image-2, size: auto}}",
        "PG204",
        7,
        112,
    ),
}


def found(folder: Path, **files: str) -> list[tuple[str, int, int]]:
    write_policies(folder, **files)
    return [(d.code, d.line, d.column) for d in check(folder)]


@pytest.mark.parametrize("name", ADDED)
def test_what_is_wrong_in_a_surface_is_said_with_its_place(tmp_path: Path, name: str) -> None:
    added, code, line, column = ADDED[name]
    own_lines = SURFACE.count("\n")
    assert (code, own_lines + line, column) in found(tmp_path, avatars=SURFACE + added + "\n")


@pytest.mark.parametrize("name", REPLACED)
def test_what_is_replaced_by_something_wrong_is_said_with_its_place(tmp_path: Path, name: str) -> None:
    old, new, code, line, column = REPLACED[name]
    assert SURFACE.count(old) == 1
    assert (code, line, column) in found(tmp_path, avatars=SURFACE.replace(old, new))


ORG_WRONG: dict[str, tuple[str, str, int, int]] = {
    "a header without trusted proxies": (ORG.replace("trusted_proxies: [127.0.0.1/32]\n", ""), "PG209", 5, 19),
    "a network in words": (ORG.replace("127.0.0.1/32", "localhost"), "PG205", 4, 19),
    "another source": (ORG.replace('http.headers["x-tenant"]', "http.query.tenant"), "PG205", 7, 19),
    "a default that is no value": (ORG.replace("default: free", "default: gold"), "PG303", 8, 75),
    "an unknown key": (ORG.replace("organisation:", "organization:"), "PG201", 3, 1),
}


@pytest.mark.parametrize("name", ORG_WRONG)
def test_what_is_wrong_in_the_organisation_is_said_with_its_place(tmp_path: Path, name: str) -> None:
    org, code, line, column = ORG_WRONG[name]
    assert (code, line, column) in found(tmp_path, org=org, avatars=SURFACE)


def test_a_named_value_beyond_a_limit_names_both_places(tmp_path: Path) -> None:
    org = LIMITED + "  moderation: {deny_at: {default: 0.4}}\n"
    write_policies(
        tmp_path, org=org, avatars=SURFACE.replace("{max: 2}", "{max: 4}") + "moderation: {deny_at: {hate: 0.9}}\n"
    )
    problems = check(tmp_path)
    assert [(p.code, p.line) for p in problems] == [("PG301", 9), ("PG301", 12), ("PG301", 13)]
    assert all("org.yaml:" in p.message for p in problems)


def test_a_default_is_brought_to_the_limit(tmp_path: Path) -> None:
    org = LIMITED + "  moderation: {deny_at: {default: 0.4, sexual/minors: 0.02}}\n"
    base = SURFACE.replace("gpt-image-2-2026-04-21, gpt-image-2.5-flare-2026-09-08", "gpt-image-2-2026-04-21")
    policy = policies(tmp_path, org=org, avatars=base).surfaces["avatars"]
    at = {t.category: t.at for t in policy.moderation.deny_at}
    assert at == {c: 0.02 if c == "sexual/minors" else 0.4 for c in CATEGORIES}


def test_a_surfaces_default_threshold_meets_what_the_organisation_says_of_a_category(tmp_path: Path) -> None:
    org = ORG.replace("deny_at: {default: 0.50}", "deny_at: {default: 0.50, sexual: 0.9, sexual/minors: 0.02}")
    surface = SURFACE + "moderation: {deny_at: {default: 0.1}}\n"
    policy = policies(tmp_path, org=org, avatars=surface).surfaces["avatars"]
    at = {t.category: t.at for t in policy.moderation.deny_at}
    assert (at["sexual"], at["sexual/minors"], at["hate"]) == (0.1, 0.02, 0.1)


def test_high_stakes_add_limits_of_their_own(tmp_path: Path) -> None:
    org = ORG + "high_stakes: {review: {required: true, approvals: 2}}\n"
    high = SURFACE.replace("stakes: low", "stakes: high") + "review: {reviewers: [group:trust]}\n"
    policy = policies(tmp_path / "a", org=org, avatars=high).surfaces["avatars"]
    assert (policy.review.required, policy.review.approvals, policy.limit_review) == (True, 2, True)
    loose = high.replace("review: {", "review: {required: false, approvals: 1, ")
    assert [code for code, *_ in found(tmp_path / "b", org=org, avatars=loose)] == ["PG301", "PG301"]


def test_nothing_left_of_a_list_is_an_error(tmp_path: Path) -> None:
    org = ORG.replace("defaults:\n", "defaults:\n  request: {models: {allow: [gpt-image-2]}}\n") + LIMITED[len(ORG) :]
    base = SURFACE.replace(f"allow: [{MODEL}, gpt-image-2.5-flare-2026-09-08], default: {MODEL}", "")
    assert "PG302" in [code for code, *_ in found(tmp_path, org=org, avatars=base.replace("  models:  {}\n", ""))]


def test_all_problems_of_all_files_come_in_one_run(tmp_path: Path) -> None:
    problems = found(
        tmp_path,
        org=ORG.replace("organisation", "organization"),
        avatars=SURFACE + "modes: shadow\n",
        other="version: 1\nno: [\n",
    )
    assert [code for code, *_ in problems] == ["PG201", "PG201", "PG102"]


def test_a_folder_needs_an_organisation_and_a_surface(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert [d.code for d in check(tmp_path / "empty")] == ["PG501"]
    assert [d.code for d in check(write_policies(tmp_path / "org"))] == ["PG502"]


def test_two_files_cannot_be_one_surface_or_claim_one_route(tmp_path: Path) -> None:
    assert "PG503" in [code for code, *_ in found(tmp_path / "a", avatars=SURFACE, again=SURFACE)]
    other = SURFACE.replace("surface: avatars", "surface: other")
    assert [code for code, *_ in found(tmp_path / "b", avatars=SURFACE, other=other)] == ["PG504", "PG504"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\xff\xfe", "PG101"),
        (b"a: \x00", "PG108"),
        ("a: b\u2028c".encode(), "PG108"),
        (b"", "PG107"),
        (b"# only a comment\n", "PG107"),
        (b"[" * 200_000, "PG106"),
        (b"a: 1\n" * 250_000, "PG106"),
        (b"? [a]\n: b\n", "PG109"),
        (b"*a", "PG105"),
        (b"a: 1e999", "PG106"),
    ],
)
def test_hostile_files_are_refused_quickly(raw: bytes, code: str) -> None:
    assert [d.code for d in read("x.yaml", raw).problems] == [code]


def test_yaml_guesses_nothing() -> None:
    text = (
        "a: 16:9\nb: 010\nc: no\nd: 1024x1024\ne: 2026-11-24\nf: 1_000\ng: on\nh: 0x10\ni: 3\nj: 0.5\nk: true\nl: ~\n"
    )
    assert read("x.yaml", text.encode()).data == {
        "a": "16:9",
        "b": "010",
        "c": "no",
        "d": "1024x1024",
        "e": "2026-11-24",
        "f": "1_000",
        "g": "on",
        "h": "0x10",
        "i": 3,
        "j": 0.5,
        "k": True,
        "l": None,
    }


@given(st.binary(max_size=200) | st.text("ab:-[]{}|>&*!#'\"\n 1.", max_size=80).map(str.encode))
def test_no_bytes_escape_the_reader_with_another_exception(raw: bytes) -> None:
    source = read("x.yaml", raw)
    assert source.data is not None or source.problems or raw.strip() in (b"~", b"null", b"") or source.text


def test_a_diagnostic_shows_its_line_with_a_caret_under_it() -> None:
    source = read("x.yaml", "äö漢: {a: 1, a: 2}\n".encode())
    shown = render(source.problems[0], source.text).split("\n")
    assert shown[0] == "error PG103: `a` is there twice, first in line 1"
    assert shown[3] == "1 | äö漢: {a: 1, a: 2}"
    assert shown[4].index("^") == shown[3].index("a: 2") + 1  # the wide character takes two columns


# ---- what loads -------------------------------------------------------------------------------------------


def test_the_shipped_policies_load_without_diagnostics() -> None:
    assert check(ROOT / "policies") == []
    assert sorted(load(ROOT / "policies").surfaces) == ["avatars", "id-photos", "marketing", "storefront"]


def test_the_designs_example_loads_as_it_stands() -> None:
    assert [d for d in check(Path(__file__).parent / "design") if d.severity == "error"] == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25)
@given(st.permutations(SURFACE.strip().split("\n")[:5]), st.integers(0, 3))
def test_the_order_of_keys_and_comments_never_change_the_digest(tmp_path: Path, head: list[str], blank: int) -> None:
    rest = SURFACE.strip().split("\n")[5:]
    text = "\n".join([*head, *["# a comment"] * blank, *rest]) + "\n"
    assert _digest(tmp_path / "a", text) == _digest(tmp_path / "b", SURFACE)


def test_a_changed_meaning_changes_the_digest_a_changed_title_does_not(tmp_path: Path) -> None:
    base = _digest(tmp_path / "a", SURFACE)
    assert _digest(tmp_path / "b", SURFACE.replace("Profile pictures", "Pictures")) == base
    assert _digest(tmp_path / "c", SURFACE.replace("{max: 2}", "{max: 3}")) != base
    assert _digest(tmp_path / "d", SURFACE + "moderation: {deny_at: {hate: 0.4}}\n") != base


def _digest(folder: Path, text: str) -> str:
    return policies(folder, avatars=text).surfaces["avatars"].digest


def test_a_hundred_loads_are_one_meaning(tmp_path: Path) -> None:
    write_policies(tmp_path, avatars=SURFACE)
    assert len({load(tmp_path, now=NOW).digest for _ in range(100)}) == 1


def test_an_error_lists_every_diagnostic(tmp_path: Path) -> None:
    write_policies(tmp_path, avatars=SURFACE + "modes: shadow\n")
    with pytest.raises(PolicyError) as caught:
        load(tmp_path)
    assert [d.code for d in caught.value.diagnostics] == ["PG201"]
    assert "did you mean `mode`?" in str(caught.value)
