"""No key is accepted as a wish: what is not enforced yet, and what has no value, are problems."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ORG, SURFACE, write_policies

from policyguard.policy.load import check

LATER = {
    "an app's own call inside a route": (
        "{route: POST /api/x, fields: {prompt: body.p}, inner: guarded, constants: {model: gpt-image-2-2026-04-21, "
        "size: 1024x1024, quality: low, n: 1}}",
        "routes[2].inner",
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_what_is_not_enforced_yet_is_the_only_problem(tmp_path: Path, name: str) -> None:
    route, path = LATER[name]
    routed = SURFACE.replace("images/edits]", f"images/edits, {route}]")
    write_policies(tmp_path, org=ORG, avatars=routed)
    assert [(p.code, p.path) for p in check(tmp_path)] == [("PG210", path)]
    assert "not enforced yet" in check(tmp_path)[0].message


EMPTY = {
    "a limit that was left half-written": ("limits: {request: {n: }}", "", ["limits.request.n"]),
    "a section": ("", "moderation:", ["moderation"]),
    "a word for nothing": ("", "audit: {prompt: null}", ["audit.prompt"]),
    "a key that is needed": ("", "rules: [{id: a, when: , then: deny}]", ["rules[0].when"]),
    "two of them": ("limits:", "review: {expires: ~}", ["review.expires", "limits"]),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_key_without_a_value_is_one_problem_and_never_no_limit(tmp_path: Path, name: str) -> None:
    org, surface, paths = EMPTY[name]
    write_policies(tmp_path, org=f"{ORG}{org}\n", avatars=f"{SURFACE}{surface}\n")
    assert [(p.code, p.path) for p in check(tmp_path)] == [("PG203", path) for path in paths]
