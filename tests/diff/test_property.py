"""For any two policies: witnesses are true, `exact` is true, and a change seen from the other side is its mirror."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import MODEL, NOW, ORG, policies

from policyguard.decision import Effect, combine
from policyguard.diff.diff import PolicyDiff, SurfaceDiff, diff, directions
from policyguard.diff.witness import Side, rule
from policyguard.engine import decide
from policyguard.engine.callers import resolve_caller
from policyguard.policy.model import PolicySet
from policyguard.policy.world import NO_IMAGES, Images, answered, caller, request, verdict
from policyguard.request import CATEGORIES

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
TABLES = st.fixed_dictionaries(
    {
        "models": st.sampled_from([[MODEL], [MODEL, FLARE]]),
        "sizes": st.sampled_from([SIZES[:1], SIZES[:2], SIZES]),
        "qualities": st.sampled_from([["low"], ["low", "high"], ["low", "medium", "high"]]),
        "n": st.sampled_from([1, 2, 4]),
        "on_excess": st.sampled_from(["deny", "deny", "adjust"]),
        "formats": st.sampled_from(["", "  formats: {allow: [png]}", "  formats: {allow: [png, webp]}"]),
        "prompt": st.sampled_from(["", "  prompt: {max_chars: 40}", "  prompt: {max_chars: 60}"]),
        "images": st.sampled_from(
            ["", "  input_images: {max: 0}", "  input_images: {max: 3, max_bytes: 1kB}", *PICTURES]
        ),
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
)


def written(tables: dict[str, Any]) -> str:
    def listed(values: list[str]) -> str:
        return f"{{allow: [{', '.join(values)}], default: {values[0]}}}"

    lines = [
        "version: 1\nsurface: avatars\ntitle: t\nowner: o\nstakes: low",
        f"mode: {tables['mode']}\nrequest:\n  models: {listed(tables['models'])}\n  sizes: {listed(tables['sizes'])}",
        f"  quality: {listed(tables['qualities'])}\n  n: {{max: {tables['n']}}}\n  on_excess: {tables['on_excess']}",
        *(tables[name] for name in ("formats", "prompt", "images") if tables[name]),
        f"moderation: {{check: {tables['check']}, deny_at: {tables['deny_at']}{tables['review_at']},"
        f" when_unavailable: {tables['down']}}}",
        f"review: {{required: {tables['required']}, reviewers: [group:trust]}}",
        f"questions: {{logo: {{ask: Is there a logo?, when_unavailable: {tables['unanswered']}}}}}",
    ]
    if tables["rules"]:
        lines.append("rules:")
    for index, (when, then, mode) in enumerate(tables["rules"]):
        lines.append(f"  - {{id: r{index}, when: '{when}', then: {then}, mode: {mode}}}")
    if tables["rules"] and tables["exempt"]:
        when = 'caller.tier == "pro"'
        lines.append(f"exempt: [{{rules: [r0], when: '{when}', until: {tables['exempt']}, by: a, why: b}}]")
    return "\n".join(lines) + "\n"


@contextmanager
def both(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[Side, Side]]:
    with tempfile.TemporaryDirectory() as space:
        folder = Path(space)
        yield tuple(  # type: ignore[misc]
            Side(policies(folder / name, org=ORG, avatars=written(tables)), f"{name}/")
            for name, tables in (("old", old), ("new", new))
        )


@st.composite
def changes(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A policy, and the same with a few of its values exchanged."""
    old, other = draw(TABLES), draw(TABLES)
    differ = sorted(name for name in old if old[name] != other[name])
    assume(differ)
    names = draw(st.lists(st.sampled_from(differ), min_size=1, max_size=3, unique=True))
    return old, {**old, **{name: other[name] for name in names}}


def decided(policies: PolicySet, world: Any) -> Effect:
    """By the engine alone."""
    policy = policies.surfaces["avatars"]
    who, unknown = resolve_caller(policies.caller, caller(world))
    screened = decide.screen(policy, request(world), who, world["now"])
    seen = verdict(world, "omni", prompt=screened.check_prompt, images=screened.check_images)
    return combine((*unknown, *decide.judge(screened, seen, answered(world)).reasons))


def some_world(random: Random) -> dict[str, Any]:
    """Mostly a plain request with a few values exchanged, so that one change is rarely hidden by another."""
    scores = {c: random.choice([0.1, 0.2, 0.3, 0.31, 0.4, 0.45, 0.5, 0.9]) for c in random.sample(CATEGORIES, 2)}
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
        "scores": [{}, scores, {"hate": random.choice([0.3, 0.31, 0.45])}, None],
    }
    exchanged = random.sample(sorted(values), random.randint(0, 4))
    world = {name: random.choice(found) if name in exchanged else found[0] for name, found in values.items()}
    return {**world, "surface": "avatars", "now": NOW}


def compared(old: Side, new: Side) -> tuple[PolicyDiff, SurfaceDiff]:
    found = diff(old, new, NOW, limit=3000)
    return found, found.surfaces[0]


TIMES = 20 if os.environ.get("POLICYGUARD_FUZZ") == "long" else 1
GENERATED = settings(max_examples=20 * TIMES)


@GENERATED
@given(changes())
def test_every_witness_is_decided_differently_by_the_engine(pair: Any) -> None:
    with both(*pair) as (old, new):
        _, surface = compared(old, new)
        for finding in surface.findings:
            world = finding.witness.world
            assert decided(old.policies, world).word == finding.old
            assert decided(new.policies, world).word == finding.new
            if not finding.upstream:
                assert finding.old != finding.new
            assert request(world) is not None


@settings(GENERATED, max_examples=30 * TIMES)
@given(changes(), st.integers(0, 2**32))
def test_where_nothing_is_found_and_that_is_exact_random_requests_are_decided_alike(pair: Any, seed: int) -> None:
    with both(*pair) as (old, new):
        _, surface = compared(old, new)
        if not surface.exact:
            return
        found = {finding.direction for finding in surface.findings}
        random = Random(seed)
        for _ in range(500):
            world = some_world(random)
            sides = [rule(side.policies, side.policies.surfaces["avatars"], world) for side in (old, new)]
            assert directions(*sides) <= found | {"neutral"}, world


@GENERATED
@given(changes())
def test_what_loosened_one_way_tightened_the_other_way(pair: Any) -> None:
    mirror = {"loosened": "tightened", "tightened": "loosened", "neutral": "neutral"}
    with both(*pair) as (old, new):
        _, there = compared(old, new)
        _, back = compared(new, old)
        forth, backwards = there.findings, back.findings
        seen = Counter((mirror[f.direction], f.new, f.old, f.new_reasons, f.old_reasons, f.cases) for f in forth)
        assert seen == Counter((f.direction, f.old, f.new, f.old_reasons, f.new_reasons, f.cases) for f in backwards)
        assert there.exact == back.exact


@GENERATED
@given(TABLES)
def test_a_policy_does_not_differ_from_itself(tables: Any) -> None:
    with both(tables, tables) as (old, new):
        found, surface = compared(old, new)
        assert (surface.status, found.directions()) == ("unchanged", set())
