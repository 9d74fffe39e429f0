"""Routes: OpenAI's by their ending, an app's own with every parameter in sight."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import MODEL, SURFACE, policies, write_policies

from policyguard.policy.load import check

ROUTES = "routes: [POST /v1/images/generations, POST /v1/images/edits]"
CONSTANTS = f"model: {MODEL}, size: 1024x1024, quality: low"
OWN = "{route: POST /x, fields: {prompt: body.t, n: body.n}, constants: {" + CONSTANTS + "}}"


def surface(route: str) -> str:
    assert ROUTES in SURFACE
    return SURFACE.replace(ROUTES, f"routes:\n  - {route}")


def said(folder: Path, route: str) -> list[tuple[str, str]]:
    write_policies(folder, avatars=surface(route))
    return [(p.code, p.path.removeprefix("routes[0]").removeprefix(".")) for p in check(folder)]


NO_N = OWN.replace(", n: body.n", "")
NO_PROMPT = OWN.replace("prompt: body.t, ", "")

WRONG: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "another method": ("GET /v1/images/generations", [("PG205", "")]),
    "a method that OpenAI does not have there": ("PUT /v1/images/generations", [("PG204", "")]),
    "a placeholder": ('"POST /u/{id}/images/edits"', [("PG205", "")]),
    "a star": ("POST /u/*/images/edits", [("PG205", "")]),
    "dots at the end": ("POST /v1/images/..", [("PG205", "")]),
    "an own route without fields": ("POST /api/x", [("PG209", "")]),
    "OpenAI's path as an own route": (OWN.replace("/x", "/v1/images/edits"), [("PG208", "route")]),
    "no prompt": (NO_PROMPT, [("PG209", "")]),
    "a constant prompt": (NO_PROMPT.replace("model:", "prompt: a cat, model:"), [("PG209", "")]),
    "a parameter in neither": (OWN.replace(", quality: low", ""), [("PG209", "")]),
    "a parameter in both": (OWN.replace("quality: low", "quality: low, n: 1"), [("PG208", "constants.n")]),
    "an unknown parameter": (OWN.replace("n: body.n", "n: body.n, sise: body.s"), [("PG206", "fields.sise")]),
    "an unknown constant": (OWN.replace("quality: low", "quality: low, seed: 1"), [("PG206", "constants.seed")]),
    "two fields at one place": (OWN.replace("body.n", "body.t"), [("PG208", "fields.n")]),
    "a field inside another": (OWN.replace("body.n", "body.t.n"), [("PG208", "fields.n")]),
    "a list as a field": (OWN.replace("body.n", "'body.items[].n'"), [("PG205", "fields.n")]),
    "a field elsewhere": (OWN.replace("body.n", "query.n"), [("PG205", "fields.n")]),
    "a model beyond the policy": (OWN.replace(MODEL, "gpt-image-2"), [("PG204", "constants.model")]),
    "a model that nobody knows": (OWN.replace(MODEL, "gpt-9"), [("PG204", "constants.model")]),
    "a size beyond the policy": (OWN.replace("1024x1024", "2048x2048"), [("PG204", "constants.size")]),
    "a size of auto": (OWN.replace("1024x1024", "auto"), [("PG204", "constants.size")]),
    "a quality beyond the policy": (OWN.replace("quality: low", "quality: max"), [("PG204", "constants.quality")]),
    "another moderation": (
        OWN.replace("quality: low", "quality: low, moderation: low"),
        [("PG204", "constants.moderation")],
    ),
    "n as a text": (NO_N.replace("quality: low", "quality: low, n: '2'"), [("PG204", "constants.n")]),
    "n beyond the policy": (NO_N.replace("quality: low", "quality: low, n: 3"), [("PG204", "constants.n")]),
    "usage in the body": (OWN[:-1] + ", usage: body.usage}", [("PG205", "usage")]),
    "an unknown key": (OWN[:-1] + ", usge: response.usage}", [("PG201", "usge")]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_route_that_would_not_be_guarded_does_not_load(tmp_path: Path, name: str) -> None:
    route, expected = WRONG[name]
    assert said(tmp_path, route) == expected


def test_a_constant_is_held_against_every_part_of_the_policy(tmp_path: Path) -> None:
    base = surface(OWN.replace("quality: low", "quality: low, output_format: jpeg"))
    free = base.split("request:\n")[0]
    write_policies(tmp_path / "a", avatars=free + "request: {formats: {allow: [png]}, sizes: {max_edge: 512}}\n")
    assert [p.path for p in check(tmp_path / "a")] == ["routes[0].constants.size", "routes[0].constants.output_format"]
    write_policies(tmp_path / "b", avatars=free + "request: {sizes: {max_pixels: 1048576}, formats: {allow: [jpeg]}}\n")
    assert [p for p in check(tmp_path / "b") if p.severity == "error"] == []


def test_an_own_route_keeps_its_paths_and_constants(tmp_path: Path) -> None:
    text = OWN.replace("body.t", "body.ask.text")[:-1] + ", usage: response.usage, images: 'response.data[].b64_json'}"
    (route,) = policies(tmp_path, avatars=surface(text)).surfaces["avatars"].routes
    assert (route.method, route.path, route.shape) == ("POST", "/x", "custom")
    assert route.fields == {"prompt": ("ask", "text"), "n": ("n",)}
    assert route.constants == {"model": MODEL, "size": "1024x1024", "quality": "low"}
    assert (route.usage, route.images) == (("usage",), ("data", "[]", "b64_json"))


def test_openais_routes_have_their_shape(tmp_path: Path) -> None:
    routes = policies(tmp_path, avatars=SURFACE).surfaces["avatars"].routes
    assert [(r.method, r.path, r.shape) for r in routes] == [
        ("POST", "/v1/images/generations", "generations"),
        ("POST", "/v1/images/edits", "edits"),
    ]
