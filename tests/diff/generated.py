"""Policies of one surface as people write them, a few values of which were changed, and requests that come to them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from support import MODEL, NOW, ORG, policies

from policyguard.diff.witness import Side
from policyguard.policy.world import NO_IMAGES, Images
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES

FLARE = "gpt-image-2.5-flare-2026-09-08"
SIZES = ["1024x1024", "1024x1536", "2048x2048"]
CONDITIONS = [
    "request.n > 1",
    "request.n >= 2",
    "request.pixels > 1048576",
    'request.quality == "high"',
    'caller.tier == "free"',
    'caller.tier == "pro" && request.n > 2',
    'has(caller.feature) && caller.feature == "beta"',
    '!has(caller.feature) || caller.feature != "beta"',
    "scores.hate > 0.3",
    "scores.hate >= 0.3",
    "scores.hate > 0.3 && request.n > 1",
    "scores.violence > 0.2 || request.input_images > 2",
    "size(request.prompt) > 50",
    'request.prompt.contains("fox")',
    "request.has_mask",
    "request.obfuscated",
    "answers.logo > 0.6",
    "answers.logo > 0.3 && scores.hate > 0.3",
    'request.output_format == "webp" || request.background == "transparent"',
]
OF_OUTPUT = ["output.violence > 0.3", "output.sexual > 0.2 && request.n > 1"]
RULES = st.lists(
    st.tuples(
        st.sampled_from(CONDITIONS),
        st.sampled_from(["deny", "review", "flag"]),
        st.sampled_from(["enforce", "enforce", "shadow"]),
    ),
    max_size=3,
)
PICTURES = (
    "  input_images: {max: 2, types: [png, webp], max_pixels: 1000}",
    "  input_images: {max: 2, max_edge: 50, hosts: [a.example.com]}",
)
_TABLES: dict[str, st.SearchStrategy[Any]] = {
    "models": st.sampled_from([[MODEL], [MODEL, FLARE]]),
    "sizes": st.sampled_from([SIZES[:1], SIZES[:2], SIZES]),
    "qualities": st.sampled_from([["low"], ["low", "high"], ["low", "medium", "high"]]),
    "n": st.sampled_from([1, 2, 4]),
    "on_excess": st.sampled_from(["deny", "deny", "adjust"]),
    "formats": st.sampled_from(["", "  formats: {allow: [png]}", "  formats: {allow: [png, webp]}"]),
    "prompt": st.sampled_from(["", "  prompt: {max_chars: 40}", "  prompt: {max_chars: 60}"]),
    "images": st.sampled_from(["", "  input_images: {max: 0}", "  input_images: {max: 3, max_bytes: 1kB}", *PICTURES]),
    "deny_at": st.sampled_from(["{default: 0.5}", "{default: 0.5, hate: 0.4}", "{default: 0.4}"]),
    "review_at": st.sampled_from(["", ", review_at: {violence: 0.2}"]),
    "check": st.sampled_from(["[prompt, input_images]", "[prompt, input_images]", "[prompt]"]),
    "unanswered": st.sampled_from(["deny", "review"]),
    "down": st.sampled_from(["deny", "review"]),
    "mode": st.sampled_from(["enforce", "enforce", "enforce", "shadow"]),
    "required": st.sampled_from(["false", "false", "true"]),
    "exempt": st.sampled_from(["", "2026-11-01", "2026-12-01"]),
    "rules": RULES,
}
TABLES = st.fixed_dictionaries(_TABLES)

# The same, where users may be unknown, answers are looked at and held, budgets count and the organisation has limits.
WIDE = st.fixed_dictionaries(
    {
        **_TABLES,
        "required": st.sampled_from(["false", "false", "false", "false", "true"]),
        "user": st.sampled_from(["required: true", "required: false", "required: false"]),
        "hold": st.sampled_from(["request", "request", "request", "output"]),
        "output": st.sampled_from(["", ", output_images", ", output_images"]),
        "of_output": st.lists(
            st.tuples(st.sampled_from(OF_OUTPUT), st.sampled_from(["deny", "review", "flag"]), st.just("enforce")),
            max_size=1,
        ),
        "flagged": st.sampled_from(["", "", 'caller.tier == "pro"', "request.n == 1"]),
        "budgets": st.sampled_from(
            [
                "",
                "",
                "",
                "{id: many, limit: 9000 images / day, per: caller.feature}",
                "{id: few, limit: 3 images / day}",
            ]
        ),
        "limits": st.sampled_from(
            [
                "{}",
                "{}",
                "{review: {required: true}}",
                "{review: {hold: output}}",
                "{moderation: {check: [prompt], deny_at: {hate: 0.5}}}",
                "{moderation: {check: [output_images], review_at: {violence: 0.35}}}",
                "{request: {formats: {allow: [png, webp]}, quality: {allow: [low, medium, high]}}}",
            ]
        ),
    }
)


def written(tables: dict[str, Any]) -> str:
    def listed(values: list[str]) -> str:
        return f"{{allow: [{', '.join(values)}], default: {values[0]}}}"

    check, output = tables["check"], tables.get("output", "")
    lines = [
        "version: 1\nsurface: avatars\ntitle: t\nowner: o\nstakes: low",
        f"mode: {tables['mode']}\nrequest:\n  models: {listed(tables['models'])}\n  sizes: {listed(tables['sizes'])}",
        f"  quality: {listed(tables['qualities'])}\n  n: {{max: {tables['n']}}}\n  on_excess: {tables['on_excess']}",
        *(tables[name] for name in ("formats", "prompt", "images") if tables[name]),
        f"moderation: {{check: {check[:-1]}{output}], deny_at: {tables['deny_at']}{tables['review_at']},"
        f" when_unavailable: {tables['down']}}}",
        f"review: {{reviewers: [group:trust]{_reviewed(tables)}}}",
        f"questions: {{logo: {{ask: Is there a logo?, when_unavailable: {tables['unanswered']}}}}}",
    ]
    rules = [*tables["rules"], *(tables.get("of_output", ()) if output else ())]
    rules += [(tables["flagged"], "flag", "enforce")] if tables.get("flagged") else []
    if rules:
        lines.append("rules:")
    for index, (when, then, mode) in enumerate(rules):
        lines.append(f"  - {{id: r{index}, when: '{when}', then: {then}, mode: {mode}}}")
    if rules and tables["exempt"]:
        when = 'caller.tier == "pro"'
        lines.append(f"exempt: [{{rules: [r0], when: '{when}', until: {tables['exempt']}, by: a, why: b}}]")
    if tables.get("budgets"):
        lines.append(f"budgets: [{tables['budgets']}]")
    return "\n".join(lines) + "\n"


def _reviewed(tables: dict[str, Any]) -> str:
    """Only what is so: the organisation may require what a surface says nothing of."""
    required = ", required: true" if tables["required"] == "true" else ""
    return required + (", hold: output" if tables.get("hold") == "output" else "")


def organisation(tables: dict[str, Any]) -> str:
    org = ORG.replace("required: true", tables.get("user", "required: true"))
    return f"{org}limits: {tables['limits']}\n" if "limits" in tables else org


@contextmanager
def both(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[Side, Side]]:
    with tempfile.TemporaryDirectory() as space:
        folder = Path(space)
        yield tuple(  # type: ignore[misc]
            Side(policies(folder / name, org=organisation(tables), avatars=written(tables)), f"{name}/")
            for name, tables in (("old", old), ("new", new))
        )


@st.composite
def changes(
    draw: st.DrawFn, tables: st.SearchStrategy[dict[str, Any]] = TABLES
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A policy, and the same with a few of its values exchanged."""
    old, other = draw(tables), draw(tables)
    differ = sorted(name for name in old if old[name] != other[name])
    assume(differ)
    names = draw(st.lists(st.sampled_from(differ), min_size=1, max_size=3, unique=True))
    return old, {**old, **{name: other[name] for name in names}}


def some_world(random: Random) -> dict[str, Any]:
    """Mostly a plain request with a few values exchanged, so that one change is rarely hidden by another."""
    scores = {c: random.choice([0.1, 0.2, 0.3, 0.31, 0.4, 0.45, 0.5, 0.9]) for c in random.sample(CATEGORIES, 2)}
    seen = {c: random.choice([0.1, 0.25, 0.31, 0.45, 0.5, 0.9, None]) for c in random.sample(IMAGE_CATEGORIES, 2)}
    images = Images("edit", random.randint(1, 4), random.random() < 0.3)
    values: dict[str, list[Any]] = {
        "prompt": ["a cat", "a fox", "x" * 41, "x" * 55, "x" * 70, "a fox" * 12],
        "model": [MODEL, None, FLARE, "gpt-image-1.5"],
        "size": [SIZES[0], None, "auto", *SIZES, "1536x1024", "3840x2160", "1000x1000"],
        "quality": ["low", None, "auto", "medium", "high", "max"],
        "n": [1, None, 2, 3, 4, 5, 10],
        "background": ["auto", "transparent"],
        "output_format": [None, "png", "webp", "jpeg"],
        "partial_images": [None, 0, 1],
        "images": [NO_IMAGES, images],
        "image_bytes": [8, 1001, 2000],
        "scored": ["prompt", "image"],
        "caller.user": ["u1", "u2", None],
        "caller.tier": ["pro", "free", None, "gold"],
        "caller.feature": ["beta", None, "other"],
        "answers.logo": [0.0, 0.2, 0.31, 0.5, 0.61, 0.9, None],
        "scores": [{}, scores, {"hate": random.choice([0.3, 0.31, 0.45])}, {"hate": None, "violence": 0.25}, None],
        "output": [{}, seen, {"violence": random.choice([0.31, 0.36, 0.45])}, None],
    }
    exchanged = random.sample(sorted(values), random.randint(0, 4))
    world = {name: random.choice(found) if name in exchanged else found[0] for name, found in values.items()}
    return {**world, "surface": "avatars", "now": NOW}
