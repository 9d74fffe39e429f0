"""What must hold for every organisation, surface and request: generated as people write them, judged by hand here.

Nothing below asks the engine what a limit means: an allowed request is held against the limits as they are written.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import MODEL, NOW

from policyguard.decision import Effect, Reason, combine
from policyguard.engine import decide
from policyguard.engine.callers import resolve_caller
from policyguard.engine.decide import Screened
from policyguard.errors import PolicyError
from policyguard.policy.load import load
from policyguard.policy.model import Policy, PolicySet
from policyguard.request import CATEGORIES, Caller, ImageRequest, InputImage, Size, Verdict, parse_size

FLARE = "gpt-image-2.5-flare-2026-09-08"
MODELS = [MODEL, FLARE]
SIZES = ["1024x1024", "1024x1536", "1536x1024", "2048x2048", "auto"]
QUALITIES = ["low", "medium", "high", "auto"]
HOSTS = ["a.example.com", "b.example.com"]
SCORES = [0.0, 0.1, 0.3, 0.5, 0.8, 1.0]
SEEN = ["violence", "sexual", "sexual/minors"]  # the categories that are talked about; the others stay at 0
Document = dict[str, Any]

# Conditions, and what they mean in Python; None: something that it reads is not known.
Meaning = Callable[[ImageRequest, Mapping[str, str], Mapping[str, float] | None], bool | None]
CONDITIONS: Mapping[str, Meaning] = {
    "request.n > 2": lambda r, c, s: (r.n or 1) > 2,
    'request.quality == "high"': lambda r, c, s: r.quality == "high",
    'caller.tier == "free" && request.n > 1': lambda r, c, s: c["tier"] == "free" and (r.n or 1) > 1,
    "request.input_images > 0": lambda r, c, s: len(r.images) > 0,
    "scores.violence > 0.3": lambda r, c, s: None if s is None or "violence" not in s else s["violence"] > 0.3,
    "scores.violence > 0.3 || request.n > 2": lambda r, c, s: (
        True if (r.n or 1) > 2 else None if s is None or "violence" not in s else s["violence"] > 0.3
    ),
}


# ---- documents --------------------------------------------------------------------------------------------


def some(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.one_of(st.just(values), st.lists(st.sampled_from(values), min_size=1, unique=True))


def perhaps(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries({}, optional=keys)


def bounds(*, named: bool) -> st.SearchStrategy[Document]:
    """What both limits and surfaces may say of a request."""
    top = st.sampled_from
    keys: dict[str, st.SearchStrategy[Any]] = {
        "n": st.fixed_dictionaries({"max": top([1, 2, 3, 10])}),
        "formats": st.fixed_dictionaries({"allow": some(["png", "webp", "jpeg"])}),
        "prompt": st.fixed_dictionaries({"max_chars": top([3, 10, 100])}),
        "input_images": perhaps(
            max=top([0, 1, 2]),
            max_bytes=top(["8B", "1kB"]),
            types=some(["png", "jpeg"]),
            max_pixels=top([100, 10_000]),
            max_edge=top([10, 100]),
            hosts=some(HOSTS),
        ),
        "partial_images": st.fixed_dictionaries({"max": top([0, 1])}),
        "models": st.fixed_dictionaries({"allow": some(MODELS)}),
        "quality": st.fixed_dictionaries({"allow": some(QUALITIES)}),
        "sizes": st.one_of(
            st.fixed_dictionaries({"allow": some(SIZES)}),
            perhaps(max_pixels=top([1_048_576, 1_572_864, 4_194_304]), max_edge=top([1024, 1536, 2048])),
        ),
    }
    if named:
        keys |= {"on_excess": top(["deny", "adjust"]), "unknown_parameters": top(["deny", "pass"])}
    lists = ("models", "sizes", "quality") if named else ()
    whole = {name: keys[name] for name in lists}
    rest = {name: one for name, one in keys.items() if name not in lists}
    return st.one_of(st.fixed_dictionaries(whole, optional=rest), st.fixed_dictionaries({}, optional=keys))


THRESHOLDS = st.dictionaries(st.sampled_from([*SEEN, "default"]), st.sampled_from(SCORES[1:]), max_size=3)
MODERATION = {
    "check": st.lists(st.sampled_from(["prompt", "input_images"]), min_size=1, unique=True),
    "deny_at": THRESHOLDS,
    "review_at": THRESHOLDS,
    "when_unavailable": st.sampled_from(["deny", "review"]),
}


def rules(prefix: str) -> st.SearchStrategy[list[Document]]:
    rule = st.fixed_dictionaries(
        {
            "when": st.sampled_from(sorted(CONDITIONS)),
            "then": st.sampled_from(["deny", "review", "flag"]),
            "mode": st.sampled_from(["enforce", "enforce", "shadow"]),
        }
    )
    return st.lists(rule, max_size=3).map(lambda found: [{"id": f"{prefix}{i}", **r} for i, r in enumerate(found)])


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "request": bounds(named=False),
        "moderation": perhaps(**MODERATION),
        "review": perhaps(required=st.just(True)),
    },
)
ORGANISATION = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "organisation": st.just("Example Corp"),
        "caller": st.just({"user": {}, "tier": {"values": ["free", "pro"], "default": "free"}}),
        "groups": st.just({"trust": ["ada@example.com"]}),
        "limits": LIMITS,
        "high_stakes": LIMITS,
        "rules": rules("org-"),
    }
)
SURFACE = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "surface": st.just("avatars"),
        "title": st.just("t"),
        "owner": st.just("o"),
        "stakes": st.sampled_from(["low", "high"]),
        "mode": st.sampled_from(["enforce", "enforce", "shadow"]),
        "request": bounds(named=True),
        "moderation": perhaps(**MODERATION),
        "review": st.fixed_dictionaries({"reviewers": st.just(["group:trust"])}, optional={"required": st.booleans()}),
        "rules": rules("own-"),
    }
)


@st.composite
def exempted(draw: st.DrawFn) -> Document:
    """A surface, perhaps with exemptions from its rules."""
    surface = draw(SURFACE)
    ids = [rule["id"] for rule in surface["rules"]]
    if ids and draw(st.booleans()):
        when, until = draw(st.sampled_from(sorted(CONDITIONS))), draw(st.sampled_from(["2026-11-23", "2026-11-24"]))
        surface["exempt"] = [{"rules": draw(some(ids)), "when": when, "until": until, "by": "ada", "why": "a pilot"}]
    return surface


# ---- requests ---------------------------------------------------------------------------------------------

Asked = tuple[ImageRequest, Caller, Verdict]
PICTURES = [
    InputImage(bytes(8), "image/png"),
    InputImage(bytes(9), "image/png", size=Size(10, 10)),
    InputImage(bytes(8), "image/jpeg", size=Size(101, 1)),
    InputImage(b"", "", url="https://a.example.com/a.png"),
]
OTHER: Mapping[str, list[Any]] = {
    "prompt": ["a cat", "a cat " * 3],
    "model": [FLARE, None],
    "size": [*SIZES, "3840x2160", None],
    "quality": [*QUALITIES, None],
    "n": [2, 3, 10, None],
    "output_format": ["png", "webp", "jpeg"],
    "moderation": ["auto", "low"],
    "partial_images": [0, 1],
    "stream": [False, True],
    "extra": [{"style": "vivid"}],
}


def some_asked(random: Random, count: int = 12) -> list[Asked]:
    """Plain requests with a few values exchanged, so that one refusal does not hide all others."""
    return [(_request(random), Caller.of(random.choice(CALLERS)), _verdict(random)) for _ in range(count)]


CALLERS: list[dict[str, str | None]] = [{"user": "u1"}, {"user": "u1", "tier": "free"}, {"user": "u1", "tier": "pro"}]


def _request(random: Random) -> ImageRequest:
    values = {"prompt": "cat", "model": MODEL, "size": "1024x1024", "quality": "low", "n": 1}
    for name in random.sample(sorted(OTHER), random.choice([0, 0, 1, 1, 2, 4])):
        values[name] = random.choice(OTHER[name])
    if random.random() < 0.25:
        values["images"] = tuple(random.choices(PICTURES, k=random.randint(1, 3)))
        values |= {"operation": "edit", "mask": random.choice([None, *PICTURES])}
    return ImageRequest(**values)


def _verdict(random: Random) -> Verdict:
    """Mostly whole; some miss categories, or have lower bounds."""
    scores = dict.fromkeys(CATEGORIES, 0.0)
    for category in random.sample(SEEN, random.choice([0, 0, 1, 2])):
        scores[category] = random.choice(SCORES)
    gone = random.choice([(), (), (), random.sample(SEEN, 1), CATEGORIES])
    unsure = random.choice([(), (), (), random.sample(SEEN, 1)])
    whole = {category: score for category, score in scores.items() if category not in gone}
    return Verdict(model="m", scores=whole, incomplete=frozenset(unsure))


def loaded(folder: Path, org: Document, **surfaces: Document) -> PolicySet | None:
    """None where a surface goes beyond a limit by name, or contradicts itself."""
    for name, document in {"org": org, **surfaces}.items():
        (folder / f"{name}.yaml").write_text(json.dumps(document))
    try:
        return load(folder)
    except PolicyError:
        return None


def policy_of(org: Document, surface: Document) -> tuple[PolicySet, Policy] | None:
    with tempfile.TemporaryDirectory() as space:
        policies = loaded(Path(space), org, avatars=surface)
    return None if policies is None else (policies, policies.surfaces["avatars"])


def decided(
    policies: PolicySet, policy: Policy, asked: ImageRequest, who: Caller, said: Verdict
) -> tuple[Screened, tuple[Reason, ...], Verdict | None]:
    """As the flow does it: moderation is only asked where the policy has something looked at."""
    caller, unknown = resolve_caller(policies.caller, who)
    screened = decide.screen(policy, asked, caller, NOW)
    verdict = said if screened.check_prompt or screened.check_images else None
    judged = decide.judge(screened, verdict)
    return judged, (*unknown, *judged.reasons), verdict


TRIES = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


# ---- what a surface allows, the organisation allows -------------------------------------------------------


@settings(max_examples=200, **TRIES)
@given(ORGANISATION, exempted(), st.randoms())
def test_whatever_a_surface_allows_the_organisations_limits_and_rules_allow(
    org: Document, surface: Document, random: Random
) -> None:
    found = policy_of(org, surface)
    for request, who, said in some_asked(random) if found else ():
        judged, reasons, verdict = decided(*found, request, who, said)
        effect = combine(reasons)
        if effect in (Effect.ALLOW, Effect.FLAG):
            for limits in (org["limits"], org["high_stakes"] if surface["stakes"] == "high" else {}):
                assert broken_limits(limits, judged.request, verdict) == []
        unmet = broken_rules(org["rules"], judged, verdict)
        assert effect >= max(unmet, default=Effect.ALLOW)


def broken_limits(limits: Document, sent: ImageRequest, verdict: Verdict | None) -> list[str]:
    """The limits that a request beyond them was let through with."""
    request, moderation = limits.get("request", {}), limits.get("moderation", {})
    wrong = [
        name for name, is_within in REQUEST_LIMITS.items() if name in request and not is_within(request[name], sent)
    ]
    if limits.get("review", {}).get("required"):
        wrong.append("review")
    looked = moderation.get("check", [])
    if verdict is None and ("prompt" in looked or ("input_images" in looked and sent.images)):
        wrong.append("check")
    for at in ("deny_at", "review_at"):
        named = moderation.get(at, {})
        for category in CATEGORIES if verdict is not None else ():
            top = named.get(category, named.get("default", 2))
            if (verdict.scores.get(category) or 0) >= top:
                wrong.append(f"{at} {category}")
            if at == "deny_at" and top <= 1 and verdict.score(category) is None:
                wrong.append(f"{category} not assessed")
    return wrong


def _size_within(limit: Document, sent: ImageRequest) -> bool:
    size = parse_size(sent.size or "")
    if size is None:
        return "auto" in limit.get("allow", []) or not limit
    top_pixels, top_edge = limit.get("max_pixels", size.pixels), limit.get("max_edge", size.edge)
    return sent.size in limit.get("allow", [sent.size]) and size.pixels <= top_pixels and size.edge <= top_edge


def _images_within(limit: Document, sent: ImageRequest) -> bool:
    most = {"8B": 8, "1kB": 1000}.get(limit.get("max_bytes", ""), 10**9)
    seen: list[InputImage] = [i for i in sent.input_images if not i.url]
    within = [
        len(i.data) <= most
        and (i is sent.mask or i.media_type.removeprefix("image/") in limit.get("types", ["png", "jpeg"]))
        and (i.size is None or i.size.pixels <= limit.get("max_pixels", i.size.pixels))
        and (i.size is None or i.size.edge <= limit.get("max_edge", i.size.edge))
        for i in seen
    ]
    unbounded = limit.keys() <= {"max"}  # what bounds the bytes of a picture bounds what nobody sees, too
    hosts = {i.host for i in sent.images if i.url}
    return (
        len(sent.images) <= limit.get("max", 16)
        and all(within)
        and hosts <= set(limit.get("hosts", hosts if unbounded else ()))
    )


REQUEST_LIMITS: Mapping[str, Callable[[Document, ImageRequest], bool]] = {
    "n": lambda limit, sent: (sent.n or 1) <= limit["max"],
    "formats": lambda limit, sent: (sent.output_format or "png") in limit["allow"],
    "prompt": lambda limit, sent: len(sent.prompt) <= limit["max_chars"],
    "input_images": _images_within,
    "partial_images": lambda limit, sent: (sent.partial_images or 0) <= limit["max"],
    "models": lambda limit, sent: sent.model in limit["allow"],
    "quality": lambda limit, sent: sent.quality in limit["allow"],
    "sizes": _size_within,
}


def broken_rules(rows: list[Document], judged: Screened, verdict: Verdict | None) -> list[Effect]:
    """What the organisation's enforced rules ask for, at least, by their meaning in Python."""
    known = {c: verdict.score(c) for c in CATEGORIES} if verdict else {}
    scores = {c: score for c, score in known.items() if score is not None} if verdict else None
    effects = []
    for rule in rows:
        value = CONDITIONS[rule["when"]](judged.request, judged.caller.values, scores)
        if rule["mode"] == "enforce" and value is not False:
            wanted = Effect[rule["then"].upper()]
            effects.append(wanted if value else min(wanted, Effect.REVIEW))
    return effects


# ---- shortcuts, shadow, unavailability --------------------------------------------------------------------


@settings(max_examples=100, **TRIES)
@given(ORGANISATION, exempted(), st.randoms())
def test_what_is_prepared_for_speed_changes_no_decision(org: Document, surface: Document, random: Random) -> None:
    found = policy_of(org, surface)
    if found is None:
        return
    policies, policy = found
    slow = replace(policy)
    always = tuple((category, 0.0) for category in CATEGORIES)
    object.__setattr__(slow, "prepared", replace(policy.prepared, plain=None, alarms=always))
    for one in some_asked(random):
        (judged, reasons, _), (carefully, all_reasons, _) = (
            decided(policies, policy, *one),
            decided(policies, slow, *one),
        )
        assert (judged.request, judged.adjustments, reasons) == (carefully.request, carefully.adjustments, all_reasons)


@settings(max_examples=100, **TRIES)
@given(ORGANISATION, exempted(), st.randoms())
def test_under_shadow_a_surface_refuses_and_changes_nothing_by_itself(
    org: Document, surface: Document, random: Random
) -> None:
    """What is enforced is what a surface that says nothing would have enforced by its organisation alone."""
    found, alone = policy_of(org, {**surface, "mode": "shadow"}), policy_of(org, without_own_part(surface))
    for request, who, said in some_asked(random) if found and alone else ():
        judged, reasons, _ = decided(*found, request, who, said)
        own = {rule["id"] for rule in surface["rules"]}
        assert [r.id for r in reasons if r.enforced and r.id in own] == []
        assert {a.param for a in judged.adjustments} <= {"moderation"}
        _, others, _ = decided(*alone, request, who, said)
        assert {r.id for r in reasons if r.enforced} >= {r.id for r in others if r.enforced and r.id.startswith("org-")}


def without_own_part(surface: Document) -> Document:
    kept = ("version", "surface", "title", "owner", "stakes", "review")
    return {"mode": "shadow", **{name: surface[name] for name in kept}}


@settings(max_examples=100, **TRIES)
@given(ORGANISATION, exempted(), st.randoms())
def test_what_was_not_assessed_never_passes(org: Document, surface: Document, random: Random) -> None:
    found = policy_of(org, {**surface, "mode": "enforce"})
    for request, who, said in some_asked(random) if found else ():
        _, reasons, verdict = decided(*found, request, who, said)
        if verdict is not None and any(verdict.score(category) is None for category in CATEGORIES):
            assert combine(reasons) >= Effect.REVIEW


# ---- order and repetition ---------------------------------------------------------------------------------


def shuffled(value: Any, random: Random) -> Any:
    """The same, with every key, rule and item of a list in another order."""
    if isinstance(value, dict):
        keys = random.sample(sorted(value), len(value))
        return {key: shuffled(value[key], random) for key in keys}
    if isinstance(value, list):
        return [shuffled(item, random) for item in random.sample(value, len(value))]
    return value


@settings(max_examples=60, **TRIES)
@given(ORGANISATION, exempted(), exempted(), st.randoms())
def test_the_order_of_files_keys_rules_and_items_changes_nothing(
    org: Document,
    first: Document,
    second: Document,
    random: Random,
) -> None:
    second["surface"] = "banners"
    second["rules"] = [{**rule, "id": f"second-{rule['id']}"} for rule in second["rules"]]
    second.pop("exempt", None)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        before = loaded(Path(one), org, a=first, b=second)
        after = loaded(
            Path(other),
            *(shuffled(document, random) for document in (org,)),
            a=shuffled(second, random),
            b=shuffled(first, random),
        )
    assert (before is None) == (after is None)
    if before is None or after is None:
        return
    assert before.digest == after.digest
    for name in ("avatars", "banners"):
        for one_ in some_asked(random, 4):
            was = decided(before, before.surfaces[name], *one_)
            now = decided(after, after.surfaces[name], *one_)
            assert meant(*was) == meant(*now)


def meant(judged: Screened, reasons: tuple[Reason, ...], verdict: Verdict | None) -> Any:
    """A decision without the places of what decided it."""
    listed = sorted((r.id, r.effect, r.mode, r.kind) for r in reasons)
    return combine(reasons), listed, judged.request, judged.adjustments, verdict is None
