"""Models, sizes, qualities and their defaults: what cannot be asked for does not load."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ORG, SURFACE, policies, write_policies

from policyguard.policy.load import check

REQUEST = SURFACE.split("request:\n")[0]


def org(defaults: str = "", limits: str = "", high_stakes: str = "") -> str:
    text = ORG.replace("defaults:\n", f"defaults:\n  request: {{{defaults}}}\n") if defaults else ORG
    text += f"limits: {{request: {{{limits}}}}}\n" if limits else ""
    return text + (f"high_stakes: {{request: {{{high_stakes}}}}}\n" if high_stakes else "")


def said(folder: Path, surface: str, org: str = ORG) -> list[tuple[str, str, str]]:
    write_policies(folder, org=org, avatars=surface)
    return [(Path(p.file).stem, p.code, p.path) for p in check(folder)]


SURFACES: dict[str, tuple[str, str, str]] = {
    "an unknown default model without a list": ("models: {default: gpt-image-9}", "PG206", "request.models.default"),
    "a default model that is shut down": ("models: {default: dall-e-3}", "PG206", "request.models.default"),
    "a default size without a list that is no size": ("sizes: {default: big}", "PG205", "request.sizes.default"),
    "a default size beyond the bound": (
        "sizes: {max_pixels: 100000, default: 1024x1024}",
        "PG303",
        "request.sizes.default",
    ),
    "a default edge beyond the bound": (
        "sizes: {max_edge: 1000, default: 1024x1024}",
        "PG303",
        "request.sizes.default",
    ),
    "a default size of auto that is not listed": ("sizes: {default: auto}", "PG303", "request.sizes.default"),
    "a default quality of auto that is not listed": ("quality: {default: auto}", "PG303", "request.quality.default"),
    "a listed size beyond the surface's own bound": (
        "sizes: {allow: [1024x1024, 2048x2048], max_edge: 1024}",
        "PG208",
        "request.sizes.allow[1]",
    ),
    "auto beside a bound": ("sizes: {allow: [auto], max_pixels: 4194304}", "PG208", "request.sizes.allow[0]"),
}


@pytest.mark.parametrize("name", SURFACES)
def test_what_no_request_could_have_does_not_load(tmp_path: Path, name: str) -> None:
    request, code, path = SURFACES[name]
    assert said(tmp_path, f"{REQUEST}request: {{{request}}}\n") == [("avatars", code, path)]


ORGANISATIONS: dict[str, tuple[str, str, str]] = {
    "an unknown default model": (org(defaults="models: {default: gpt-9}"), "PG206", "defaults.request.models.default"),
    "an unknown model in a limit": (
        org(limits="models: {allow: [gpt-image-2, gpt-9]}"),
        "PG206",
        "limits.request.models.allow[1]",
    ),
    "an unknown model for high stakes": (
        org(high_stakes="models: {allow: [gpt-9]}"),
        "PG206",
        "high_stakes.request.models.allow[0]",
    ),
    "a size that is none in a limit": (
        org(limits="sizes: {allow: [1024×1024]}"),
        "PG205",
        "limits.request.sizes.allow[0]",
    ),
    "a default outside its list": (
        org(defaults="quality: {allow: [low], default: high}"),
        "PG303",
        "defaults.request.quality.default",
    ),
    "a default in a limit": (
        org(limits="models: {default: gpt-image-2}"),
        "PG201",
        "limits.request.models.default",
    ),
    "a list with nothing within the limit": (
        org(defaults="formats: {allow: [png]}", limits="formats: {allow: [webp]}"),
        "PG302",
        "defaults.request.formats.allow",
    ),
    "sizes with nothing within the limit": (
        org(defaults="sizes: {allow: [1024x1024]}", limits="sizes: {max_edge: 1000}"),
        "PG302",
        "defaults.request.sizes.allow",
    ),
}


@pytest.mark.parametrize("name", ORGANISATIONS)
def test_a_mistake_of_the_organisation_is_said_once_and_in_its_file(tmp_path: Path, name: str) -> None:
    text, code, path = ORGANISATIONS[name]
    write_policies(tmp_path, org=text, one=REQUEST, two=REQUEST.replace("avatars", "two").replace("/v1/", "/v2/"))
    assert [(Path(p.file).stem, p.code, p.path) for p in check(tmp_path)] == [("org", code, path)]


def test_a_listed_default_size_beyond_the_limit_is_dropped_and_a_named_one_is_an_error(tmp_path: Path) -> None:
    limited = org(defaults="sizes: {allow: [1024x1024, auto, 2048x2048]}", limits="sizes: {max_edge: 1536}")
    rules = policies(tmp_path / "a", org=limited, avatars=REQUEST).surfaces["avatars"].request
    assert rules.sizes == ("1024x1024",)
    named = REQUEST + "request: {sizes: {allow: [1024x1024, auto, 2048x2048]}}\n"
    assert said(tmp_path / "b", named, limited) == [
        ("avatars", "PG301", "request.sizes.allow[1]"),
        ("avatars", "PG301", "request.sizes.allow[2]"),
    ]


def test_a_limit_is_no_grant(tmp_path: Path) -> None:
    """Where neither a surface nor the defaults say anything, what is built in holds within the limit."""
    limited = (
        ORG + "limits: {request: {n: {max: 4}, partial_images: {max: 3}}, moderation: {deny_at: {default: 0.9}}}\n"
    )
    policy = policies(
        tmp_path, org=limited.split("defaults:")[0] + limited[limited.index("limits:") :], avatars=REQUEST
    )
    avatars = policy.surfaces["avatars"]
    assert (avatars.request.max_n, avatars.request.max_partial_images) == (1, 0)
    assert (avatars.limits.max_n, avatars.limits.max_partial_images) == (4, 3)
    assert {t.at for t in avatars.moderation.deny_at} == {0.5}
    assert {t.at for t in avatars.limit_moderation.deny_at} == {0.9}


def test_every_value_of_a_list_beyond_the_limit_is_said(tmp_path: Path) -> None:
    limited = org(limits="quality: {allow: [low]}, formats: {allow: [png]}")
    named = REQUEST + "request: {quality: {allow: [low, medium, high]}, formats: {allow: [webp]}}\n"
    assert said(tmp_path, named, limited) == [
        ("avatars", "PG301", "request.quality.allow[1]"),
        ("avatars", "PG301", "request.quality.allow[2]"),
        ("avatars", "PG301", "request.formats.allow[0]"),
    ]
