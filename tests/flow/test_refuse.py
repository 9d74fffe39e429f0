"""What the message of each refusal says in the JSON body: what was wrong and what is allowed, or nothing of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support import NOW, ORG, SURFACE, caller, request, write_policies

from policyguard.decision import (
    REFUSALS,
    Admitted,
    Decision,
    Effect,
    Kind,
    Reason,
    Refused,
    combine,
    refused_error,
)
from policyguard.errors import InvalidRequest
from policyguard.flow.reasons import no_surface_reason
from policyguard.flow.refuse import refuse
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Answer, InputImage, MainModel, Outcome, Output, Size, Usage
from policyguard.wire.refusals import render

GPT, FLARE = "gpt-image-2-2026-04-21", "gpt-image-2.5-flare-2026-09-08"
STRICT = """
  formats: {allow: [png]}
  prompt: {max_chars: 2000}
  input_images: {max: 2, max_bytes: 1kB, types: [png], max_pixels: 2000000, max_edge: 2000}
  responses: {models: [gpt-6-luna], max_output_tokens: 500}
rules:
  - {id: no-cats, when: 'request.prompt.contains("no cats")', then: deny, message: We draw no cats.}
  - {id: dogs, when: 'request.prompt.contains("dogs")', then: deny, message: We draw no dogs.}
  - {id: quiet, when: 'request.prompt.contains("quiet")', then: deny}
  - {id: tried, when: request.n > 0, then: deny, mode: shadow, message: A secret trial.}
"""
BOUNDED = SURFACE.replace(
    "  sizes:   {allow: [1024x1024, 1024x1536, 1536x1024], default: 1024x1024}", "  sizes: {max_edge: 1536}"
)
BOUNDED = BOUNDED.replace("  quality: {allow: [low, medium, high], default: low}\n", "")
OPEN = SURFACE.replace(", default: gpt-image-2-2026-04-21", "").replace(
    "{max: 2}", "{max: 2}\n  partial_images: {max: 1}"
)
BUDGETS = """budgets:
  - {id: pictures, per: caller.user, limit: 2 images / day}
  - {id: money, limit: $0.007 / month}
"""
TOTAL = "budgets: [{id: all, limit: 1 requests / total}]\n"
MINUTE = "budgets: [{id: rate, limit: 1 requests / minute}]\n"
REVIEW = "review: {required: true, reviewers: [group:trust]}\n"
LOOKS = "moderation: {check: [prompt, output_images]}\n"
TRIED = "rules: [{id: tried, when: request.n > 0, then: deny, mode: shadow, message: A secret trial.}]\n"
QUIET = "reasons_on_wire: false\n"
MAIN_PRICE = """
version: 1
prices:
  gpt-6-luna:
    {family: text, text_in: $1.25, text_out: $10, status: current, date: 2026-11-01, source: x, confidence: contract}
"""


def surface(name: str, text: str) -> str:
    return text.replace("surface: avatars", f"surface: {name}").replace("POST /v1/", f"POST /{name}/v1/")


SURFACES = {
    "strict": SURFACE + STRICT,
    "bounded": BOUNDED,
    "open": OPEN,
    "budget": SURFACE + BUDGETS,
    "total": SURFACE + TOTAL,
    "minute": SURFACE + MINUTE,
    "pictures": SURFACE + "budgets: [{id: pictures, per: caller.user, limit: 2 images / day}]\n",
    "looking": SURFACE + LOOKS,
    "quietlooking": SURFACE + LOOKS + QUIET,
    "paused": SURFACE,
    "review": SURFACE + REVIEW + TRIED,
    "quiet": SURFACE + STRICT + QUIET,
    "quietbudget": SURFACE + BUDGETS + QUIET,
    "quietreview": SURFACE + REVIEW + QUIET,
    "shadow": SURFACE.replace("stakes: low", "stakes: low\nmode: shadow") + STRICT,
}


MODERATOR = ScriptedModerator()


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    space = tmp_path_factory.mktemp("refusals")
    texts = {name: surface(name, text) for name, text in SURFACES.items()}
    folder = write_policies(space / "policies", org=ORG, prices=MAIN_PRICE, **texts)
    store = f"sqlite:///{space / 'record.sqlite3'}"
    opened = Guard.open(folder, store=store, moderator=MODERATOR, clock=lambda: NOW)
    yield opened
    opened.close()


def error(guard: Guard, answer: Any) -> dict[str, Any]:
    policy = guard.policies.surfaces.get(answer.decision.surface or "")
    body: dict[str, Any] = json.loads(render(answer, reasons=policy is None or policy.reasons_on_wire).body)
    return body["error"]


def said(guard: Guard, surface: str, who: Any = None, **changes: Any) -> str:
    """Nothing where the request is admitted."""
    answer = guard.admit(request(**changes), who or caller(), surface=surface)
    if isinstance(answer, Admitted):
        return ""
    message: str = error(guard, answer)["message"]
    return message


SMALL = Size(64, 64)


def picture(size: Size = SMALL, length: int = 8, kind: str = "image/png", url: str = "") -> dict[str, Any]:
    return {"operation": "edit", "images": (InputImage(bytes(length), kind, size=size, url=url),)}


MODELS = f"allowed are `{GPT}`, `{FLARE}`"
SIZES = "allowed are `1024x1024`, `1024x1536`, `1536x1024`"
PARAMETERS = [
    ("open", {"model": None}, f"the request names no model, and there is no default ({MODELS})"),
    ("strict", {"model": "dall-e-3"}, f"the model `dall-e-3` is not allowed here ({MODELS})"),
    (
        "strict",
        {"model": "gpt-image-2-2026-04-12"},
        f"the model `gpt-image-2-2026-04-12` is not allowed here (did you mean `{GPT}`? {MODELS})",
    ),
    ("strict", {"size": "2048x2048"}, f"the size `2048x2048` is not allowed here ({SIZES})"),
    ("strict", {"size": "auto"}, f"the size `auto` is not allowed here ({SIZES})"),
    (
        "bounded",
        {"size": "2048x2048"},
        "the size `2048x2048` is not allowed here (say one like `1024x1024`, edges of at most 1,536 pixels)",
    ),
    ("bounded", {"quality": "auto"}, "the quality `auto` is not allowed here (allowed are `low`, `medium`, `high`)"),
    (
        "strict",
        {"quality": "max"},
        f"the quality `max` is not allowed here (allowed are `low`, `medium`, `high`); "
        f"no price: `{GPT}` has no quality `max`",
    ),
    ("strict", {"n": 5}, "5 images in one request are too many (at most 2 are allowed here)"),
    ("strict", {"output_format": "webp"}, "the output format `webp` is not allowed here (allowed is `png`)"),
    ("strict", {"partial_images": 1, "stream": True}, "too many partial images (none are allowed here)"),
    ("open", {"partial_images": 2, "stream": True}, "too many partial images (at most 1 are allowed here)"),
    ("strict", {"prompt": "x" * 2500}, "the prompt has 2,500 characters (at most 2,000 are allowed here)"),
    ("strict", {"extra": {"style": 1}}, "`style` is not a parameter that this surface lets through (leave it out)"),
    (
        "strict",
        {"extra": {"a b": 1}},
        "an unnamed parameter is not a parameter that this surface lets through (leave it out)",
    ),
    (
        "strict",
        {"operation": "edit", "images": (InputImage(b"1", "image/png"),) * 3},
        "3 input images are too many (at most 2 are allowed here)",
    ),
    ("strict", picture(length=2000), "an input image has 2,000 bytes (at most 1,000 are allowed here)"),
    ("strict", picture(kind="image/webp"), "an input image of the type `webp` is not allowed here (allowed is `png`)"),
    ("strict", picture(Size(1500, 1500)), "an input image has 2,250,000 pixels (at most 2,000,000 are allowed here)"),
    ("strict", picture(Size(2100, 10)), "an edge of an input image has 2,100 pixels (at most 2,000 are allowed here)"),
    (
        "strict",
        picture(url="https://x.test/a.png"),
        "an input image is at a host that is not allowed here (send it as a data URL)",
    ),
    (
        "strict",
        {"main": MainModel("gpt-6-lunar", 5, "")},
        "the main model `gpt-6-lunar` may not ask for images here (did you mean `gpt-6-luna`? allowed is `gpt-6-luna`)",
    ),
    ("bounded", {"main": MainModel("gpt-6-luna", 5, "")}, "no main model may ask for images here"),
    (
        "strict",
        {"main": MainModel("gpt-6-luna", 5, ""), "max_output_tokens": 900},
        "too many output tokens of the main model (at most 500 are allowed here)",
    ),
    (
        "strict",
        {"size": "auto", "n": 3},
        f"the size `auto` is not allowed here ({SIZES}); "
        "3 images in one request are too many (at most 2 are allowed here)",
    ),
    (
        "strict",
        {"model": "dall-e-3", "extra": {"style": 1}},
        f"the model `dall-e-3` is not allowed here ({MODELS}); "
        "`style` is not a parameter that this surface lets through (leave it out)",
    ),
    ("bounded", {"model": FLARE, "size": "1000x1000"}, "no price: width and height must be multiples of 16"),
]


@pytest.mark.parametrize(("surface", "asked", "message"), PARAMETERS)
def test_a_parameter_is_told_with_what_is_allowed(guard: Guard, surface: str, asked: Any, message: str) -> None:
    assert said(guard, surface, **asked) == message


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("no cats", "We draw no cats."),
        ("dogs, no cats", "We draw no cats. We draw no dogs."),
        ("quiet", "this request is outside of what is allowed here"),
    ],
)
@pytest.mark.parametrize("surface", ["strict", "quiet"])
def test_a_rule_speaks_in_the_words_of_its_team(guard: Guard, surface: str, prompt: str, message: str) -> None:
    assert said(guard, surface, prompt=prompt) == message


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ({"user": None}, "the caller's `user` is missing"),
        ({"user": "x" * 300}, "the caller's `user` is no short printable text"),
        ({"tier": "gold"}, "the caller's `tier` is not one of the declared values (allowed are `free`, `pro`)"),
        (
            {"user": None, "tier": "gold"},
            "the caller's `user` is missing; the caller's `tier` is not one of the declared values "
            "(allowed are `free`, `pro`)",
        ),
    ],
)
def test_a_missing_caller_value_is_named(guard: Guard, who: dict[str, Any], message: str) -> None:
    assert said(guard, "strict", caller(**who)) == message
    assert said(guard, "quiet", caller(**who)) == "we could not identify the caller"


# ---- moderation -------------------------------------------------------------------------------------------

DOWN = "this request cannot be decided now, please try again later"
UNSEEN = "moderation did not assess every category"


@contextmanager
def scripted(**script: Any) -> Iterator[None]:
    """What moderation says for as long as this lasts."""
    before = dict(vars(MODERATOR))
    vars(MODERATOR).update(script)
    try:
        yield
    finally:
        vars(MODERATOR).update(before)


@pytest.mark.parametrize(
    ("script", "message", "quiet"),
    [
        (
            {"scores": {"violence": 0.9, "sexual/minors": 0.9}},
            "this request was rejected by the safety policy (sexual, violence)",
            "this request was rejected by the safety policy",
        ),
        ({"error": "down"}, f"{DOWN} ({UNSEEN})", DOWN),
    ],
)
def test_moderation_names_the_categories(guard: Guard, script: Any, message: str, quiet: str) -> None:
    with scripted(**script):
        assert (said(guard, "strict"), said(guard, "quiet")) == (message, quiet)


@pytest.mark.parametrize(
    ("script", "message", "quiet"),
    [
        (
            {"output_scores": {"violence": 0.9}},
            "the images were withheld by the safety policy (violence)",
            "this request was rejected by the safety policy",
        ),
        ({"output_error": "down"}, f"the images cannot be released ({UNSEEN})", DOWN),
    ],
)
def test_withheld_images_say_so(guard: Guard, script: Any, message: str, quiet: str) -> None:
    for surface, says in (("looking", message), ("quietlooking", quiet)):
        with scripted(**script):
            assert error(guard, withheld(guard, surface))["message"] == says


def withheld(guard: Guard, surface: str) -> Any:
    admitted = guard.admit(request(), caller(), surface=surface)
    assert isinstance(admitted, Admitted)
    guard.sent(admitted.ticket)
    output = Output(
        images=(InputImage(b"x", "image/png"),), answer=Answer(status=200, content_type="application/json", body=b"{}")
    )
    return guard.inspect(admitted.ticket, Outcome(status=200, usage=Usage()), output)


# ---- budgets, reviews, and what is no request -------------------------------------------------------------


def test_a_budget_says_which_and_when_it_opens_again_and_no_money(guard: Guard) -> None:
    pictures = "the budget `pictures` (images) has no room for this request"
    said_ = [
        said(guard, "budget", n=2, quality="high"),
        said(guard, "total"),
        said(guard, "total"),
        said(guard, "minute", caller(user="u2")),
        said(guard, "quietbudget", quality="high"),
    ]
    assert said_ == [
        "the budget `money` (money) has no room for this request (it is larger than the whole budget: ask for less)",
        "",
        "the budget `all` (requests) has no room for this request (it does not open again by itself)",
        "",
        "the budget for images is used up for now",
    ]
    assert said(guard, "minute", caller(user="u2")) == (
        "the budget `rate` (requests) has no room for this request (it opens again at 2026-11-24T12:01:00Z)"
    )
    assert said(guard, "pictures", n=2) == ""
    assert said(guard, "pictures", n=1) == f"{pictures} (it opens again at 2026-11-25T00:00:00Z)"


def test_a_review_says_what_to_do(guard: Guard) -> None:
    held = guard.admit(request(), caller(), surface="review")
    waits = "this request waits for a review"
    again = f"send the same request again with `x-policyguard-review: {held.review_id}` once it is approved"
    assert error(guard, held)["message"] == f"{waits} ({again})"
    assert str(refused_error(held)) == f"{waits} ({again})"
    assert said(guard, "quietreview") == waits
    anew = "send the request without it to ask for a new one"
    for review_id, changes, message in (
        (held.review_id, {}, "the review is not decided yet (send the same request again once it is approved)"),
        (
            held.review_id,
            {"n": 2},
            "the review is about another request"
            " (send exactly the request that was reviewed, with every field and the query unchanged)",
        ),
        ("rev_none", {}, f"no such review for this caller ({anew})"),
    ):
        answer = guard.admit(request(**changes), caller(), surface="review", review_id=review_id)
        assert error(guard, answer)["message"] == message
        quiet = guard.admit(request(), caller(), surface="quietreview", review_id="rev_none")
        assert error(guard, quiet)["message"] == waits


@pytest.mark.parametrize(
    ("what", "surface", "message"),
    [
        (InvalidRequest("`prompt` is missing", param="prompt"), "quiet", "`prompt` is missing"),
        (no_surface_reason(), None, "no surface claims this image route"),
    ],
)
def test_what_is_no_request_is_told_always(guard: Guard, what: Any, surface: str | None, message: str) -> None:
    refused = guard.reject(what, surface=surface, caller=caller(), door="python")
    assert error(guard, refused)["message"] == message


def test_a_pause_says_no_more_than_that(guard: Guard) -> None:
    guard.store.pause("surface", "paused", why="a secret", by="ada", now=NOW)
    assert said(guard, "paused") == "image generation is paused here"


# ---- what never speaks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [asked for _, asked, _ in PARAMETERS])
def test_reasons_off_the_wire_are_in_no_message(guard: Guard, asked: Any) -> None:
    answer = guard.admit(request(**asked), caller(), surface="quiet")
    if isinstance(answer, Refused):
        found = error(guard, answer)
        assert found["message"] == "this request is outside of what is allowed here"
        assert found["policy"]["reasons"] == []


def test_what_is_only_tried_speaks_neither_in_a_refusal_nor_in_a_review(guard: Guard) -> None:
    shadow = guard.admit(request(n=3, prompt="no cats"), caller(), surface="shadow")
    assert isinstance(shadow, Admitted)
    for surface in ("strict", "review"):
        body = json.dumps(error(guard, guard.admit(request(size="816x816"), caller(), surface=surface)))
        assert "secret" not in body
        assert "tried" not in body
    limited = error(guard, guard.admit(request(n=5, prompt="no cats"), caller(user=None), surface="shadow"))
    assert (limited["message"], len(limited["policy"]["reasons"])) == ("the caller's `user` is missing", 1)


def _spoken(*reasons: Reason) -> tuple[Any, ...]:
    decision = Decision(id="dec_1", surface=None, policy_digest="", effect=combine(reasons), reasons=reasons)
    refused = refuse(decision, policy=None, now=NOW)
    rendered = render(refused)
    return refused.status, refused.type, refused.code, refused.message, refused.param, rendered


@pytest.mark.parametrize("first", [True, False], ids=["before it", "behind it"])
@pytest.mark.parametrize("tried", [*REFUSALS], ids=lambda kind: f"tried {kind.name}")
@pytest.mark.parametrize("kind", [*REFUSALS], ids=lambda kind: kind.name)
def test_a_reason_in_shadow_changes_nothing_that_goes_out(kind: Kind, tried: Kind, first: bool) -> None:
    """However strong it is: status, type, code, message, hint, param, headers and body are those without it."""
    enforced = Reason("moderation.violence", kind, Effect.DENY, "it is so", param="n", hint="do this")
    shadow = Reason(
        "moderation.sexual", tried, Effect.DENY, "a secret trial", mode="shadow", param="size", hint="a secret hint"
    )
    both = (shadow, enforced) if first else (enforced, shadow)
    assert _spoken(*both) == _spoken(enforced)
    assert _spoken(*both)[:3] == tuple(REFUSALS[kind])


@pytest.mark.parametrize("tried", [*REFUSALS], ids=lambda kind: kind.name)
def test_a_denial_in_shadow_leaves_a_review_a_review(tried: Kind) -> None:
    shadow = Reason("tried", tried, Effect.DENY, "a secret trial", mode="shadow")
    asks = Reason("cats", Kind.RULE, Effect.REVIEW, "cats are looked at")
    decision = Decision(id="d", surface=None, policy_digest="", effect=combine((shadow, asks)), reasons=(shadow, asks))
    assert (decision.effect, decision.kind) == (Effect.REVIEW, Kind.RULE)
