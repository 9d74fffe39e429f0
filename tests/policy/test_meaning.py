"""The digest changes with the meaning, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ORG, SURFACE, policies

from policyguard.policy.meaning import canonical

RULES = [
    '{id: a, when: caller.tier == "a  b" || request.n > 1, then: flag}',
    "{id: b, when: 'size(request.prompt) > 10', then: deny}",
    "{id: c, when: request.n > 1, then: deny, mode: shadow}",
]
BUDGETS = ["{id: x, limit: $5 / day}", "{id: y, limit: 9 images / day, per: caller.user}"]
SECTIONS = ["audit: {prompt: none}", "moderation: {check: [prompt], deny_at: {hate: 0.4, sexual: 0.3}}"]
OPEN = ORG.replace("values: [free, pro], default: free", "default: free")
OWN = "  - {{route: POST /x, fields: {{prompt: body.t, n: {n}}}, constants: {{model: gpt-image-2-2026-04-21, size: 1024x1024, quality: low}}, usage: {usage}}}\n"  # noqa: E501


def digest(text: str, *, org: str = OPEN, file: str = "avatars") -> str:
    with TemporaryDirectory() as folder:
        return policies(Path(folder), org=org, **{file: text}).digest


def surface(rules: list[str], budgets: list[str], sections: list[str]) -> str:
    return SURFACE + "\n".join([f"rules: [{', '.join(rules)}]", f"budgets: [{', '.join(budgets)}]", *sections]) + "\n"


BASE = surface(RULES, BUDGETS, SECTIONS)


@settings(deadline=None, max_examples=25)
@given(st.permutations(RULES), st.permutations(BUDGETS), st.permutations(SECTIONS))
def test_the_order_of_rules_budgets_and_keys_has_no_meaning(
    rules: list[str], budgets: list[str], last: list[str]
) -> None:
    assert digest(surface(rules, budgets, last)) == digest(BASE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: Profile pictures", "title: Other  # and a comment"),
        ("owner: growth@example.com", "owner: other@example.com"),
        ("[low, medium, high]", "[high, low, medium]"),
        ("{hate: 0.4, sexual: 0.3}", "{sexual: 0.30, hate: 4.0e-1}"),
        ("when: request.n > 1,", 'when: "request.n   >  1 // why\\n",'),
        ("$5 / day", "$5.00/day"),
    ],
)
def test_what_changes_no_decision_changes_no_digest(old: str, new: str) -> None:
    assert old in BASE
    assert digest(BASE.replace(old, new)) == digest(BASE)


def test_the_name_of_a_file_has_no_meaning() -> None:
    assert digest(BASE, file="zebra") == digest(BASE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a  b", "a b"),
        ("request.n > 1, then: deny", "request.n > 2, then: deny"),
        ("mode: shadow", "mode: enforce"),
        ("per: caller.user", "per: caller.tenant"),
        ("$5 / day", "$6 / day"),
        ("hate: 0.4", "hate: 0.41"),
        ("check: [prompt]", "check: [prompt, input_images]"),
        ("stakes: low", "stakes: low\nreasons_on_wire: false"),
        ("prompt: none", "prompt: encrypted"),
        ("POST /v1/images/edits", "POST /v2/images/edits"),
    ],
)
def test_what_changes_a_decision_changes_the_digest(old: str, new: str) -> None:
    assert old in BASE
    assert digest(BASE.replace(old, new)) != digest(BASE)


def test_paths_of_a_route_keep_their_order() -> None:
    def own(n: str, usage: str) -> str:
        routes = "routes:\n" + OWN.format(n=n, usage=usage)
        return digest(SURFACE.replace("routes: [POST /v1/images/generations, POST /v1/images/edits]\n", routes))

    assert len({own("body.a.b", "response.c.d"), own("body.b.a", "response.c.d"), own("body.a.b", "response.d.c")}) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("127.0.0.1/32", "10.0.0.0/8"),
        ("x-tenant", "x-team"),
        ("deny_at: {default: 0.50}", "deny_at: {default: 0.40}"),
    ],
)
def test_what_the_organisation_says_is_part_of_the_meaning(old: str, new: str) -> None:
    assert digest(BASE, org=OPEN.replace(old, new)) != digest(BASE)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("  a  &&\n\n b ", "a && b"),
        ('a // x "y\n && c', "a && c"),
        ('x == "a  // b"', 'x == "a  // b"'),
        ("x == r'\\'  &&  y", "x == r'\\' && y"),
        ('"""a\n "  b"""  == c', '"""a\n "  b""" == c'),
        ('x == "a \\"  b"  || y', 'x == "a \\"  b" || y'),
    ],
)
def test_a_condition_is_compared_without_comments_and_spacing(written: str, meant: str) -> None:
    assert canonical(written) == meant
