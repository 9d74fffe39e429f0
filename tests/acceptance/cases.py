"""The cases of the matrix: a surface for each, what is asked of it, and what must come of it at every door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from acceptance.forms import FORMS, Asked
from support import SURFACE
from tool_bodies import MAIN

FORCED = "moderation=low->auto"  # everybody asks for less of it
REQUEST = f"  partial_images: {{max: 2}}\n  responses: {{models: [{MAIN}], max_output_tokens: 500}}\n"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A surface of its own, a request for it, and what must come of it.

    `policy` are lines of the surface's file. `reasons` are ids, effects and modes of the record. `sent` is what the
    sandbox must have got; None: nothing. `after` are the rows of the record behind the leg's. `down` is the path of
    what fails meanwhile.
    """

    policy: str = ""
    asked: Asked = field(default_factory=Asked)
    status: int = 200
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry: str | None = None
    outcome: str = "allow"
    reasons: tuple[tuple[str, str, str], ...] = ()
    adjusted: tuple[str, ...] = (FORCED,)
    sent: Mapping[str, Any] | None = None
    after: tuple[str, ...] = ()
    down: str | None = None
    paused: bool = False


QUESTION = """
questions: {real: {ask: Is it a real person?}}
rules: [{id: real-people, when: answers.real > 0.7, then: deny}]
"""
OUTPUT = "moderation: {check: [prompt, input_images, output_images]}\n"
PLAIN = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": 1}
CASES: Mapping[str, Case] = {
    "allowed": Case(sent=PLAIN),
    "flagged": Case(
        policy="rules: [{id: cats, when: request.prompt.contains('cat'), then: flag}]",
        outcome="flag",
        reasons=(("cats", "flag", "enforce"),),
        sent=PLAIN,
    ),
    "parameter-denied": Case(
        asked=Asked(more={"quality": "high"}),
        status=400,
        type="invalid_request_error",
        code="policy_violation",
        param="quality",
        retry="false",
        outcome="deny",
        reasons=(("request.quality", "deny", "enforce"),),
    ),
    "rule-denied": Case(
        policy="rules: [{id: no-cats, when: request.prompt.contains('cat'), then: deny, message: No cats here.}]",
        status=400,
        type="invalid_request_error",
        code="policy_violation",
        retry="false",
        outcome="deny",
        reasons=(("no-cats", "deny", "enforce"),),
    ),
    "adjusted": Case(
        policy="  on_excess: adjust",
        asked=Asked(more={"quality": "high", "size": "auto", "n": 4}),
        adjusted=(FORCED, "quality=high->medium", "size=auto->1024x1024", "n=4->2"),
        sent={**PLAIN, "quality": "medium", "n": 2},
    ),
    "moderation-denied": Case(
        asked=Asked(prompt="a swordfight at dawn"),
        status=400,
        type="image_generation_user_error",
        code="moderation_blocked",
        retry="false",
        outcome="deny",
        reasons=(("moderation.violence", "deny", "enforce"),),
    ),
    "over-budget": Case(
        policy="budgets: [{id: cent, limit: $0.001 / day}]",
        status=429,
        type="insufficient_quota",
        code="policy_budget_exceeded",
        retry="false",
        outcome="deny",
        reasons=(("budget.cent", "deny", "enforce"),),
    ),
    "held": Case(
        policy="review: {required: true, reviewers: [group:trust]}",
        status=403,
        type="permission_error",
        code="policy_review_required",
        retry="false",
        outcome="hold",
        reasons=(("review.required", "review", "enforce"),),
    ),
    "shadow": Case(
        policy="mode: shadow\nrules: [{id: no-cats, when: request.prompt.contains('cat'), then: deny}]",
        asked=Asked(more={"quality": "high", "n": 3}),
        reasons=(
            ("no-cats", "deny", "shadow"),
            ("request.n", "deny", "shadow"),
            ("request.quality", "deny", "shadow"),
        ),
        sent={**PLAIN, "quality": "high", "n": 3, "size": "auto"},  # nothing of the surface is applied
    ),
    "moderation-down": Case(
        status=503,
        type="service_unavailable_error",
        code="policy_unavailable",
        outcome="deny",
        reasons=(("moderation.unavailable", "deny", "enforce"),),
        down="/v1/moderations",
    ),
    "question-denied": Case(
        policy=QUESTION,
        asked=Asked(prompt="a cat [sandbox: real=0.9]"),
        status=400,
        type="invalid_request_error",
        code="policy_violation",
        retry="false",
        outcome="deny",
        reasons=(("real-people", "deny", "enforce"),),
    ),
    "question-refused": Case(
        policy=QUESTION,
        asked=Asked(prompt="a cat [sandbox: real=refusal]"),
        status=503,
        type="service_unavailable_error",
        code="policy_unavailable",
        outcome="deny",
        reasons=(("real-people", "deny", "enforce"),),
    ),
    "questions-down": Case(
        policy=QUESTION,
        status=503,
        type="service_unavailable_error",
        code="policy_unavailable",
        outcome="deny",
        reasons=(("real-people", "deny", "enforce"),),
        down="/v1/decisions",
    ),
    "obfuscated": Case(
        policy="rules: [{id: hidden, when: request.obfuscated, then: deny}]",
        asked=Asked(prompt="a s\u0455\u200bw\u200bo\u200brd\u200bf\u200big\u200bht"),
        status=400,
        type="invalid_request_error",
        code="policy_violation",
        retry="false",
        outcome="deny",
        reasons=(("hidden", "deny", "enforce"),),
    ),
    "paused": Case(
        paused=True,
        status=403,
        type="permission_error",
        code="policy_paused",
        retry="false",
        outcome="deny",
        reasons=(("paused.surface", "deny", "enforce"),),
    ),
    "unknown-parameter": Case(
        asked=Asked(more={"complexity": "high"}),
        status=400,
        type="invalid_request_error",
        code="policy_violation",
        param="complexity",
        retry="false",
        outcome="deny",
        reasons=(("request.extra", "deny", "enforce"),),
    ),
    "malformed": Case(
        asked=Asked(more={"n": 99}),
        status=400,
        type="invalid_request_error",
        code="invalid_request",
        param="n",
        retry="false",
        outcome="deny",
        reasons=(("request.malformed", "deny", "enforce"),),
    ),
    "output-released": Case(policy=OUTPUT, sent=PLAIN, after=("output.inspected",)),
    "output-denied": Case(
        policy=OUTPUT,
        asked=Asked(prompt="a cat [sandbox output: violence=0.9]"),
        status=400,
        type="image_generation_user_error",
        code="moderation_blocked",
        retry="false",
        sent=PLAIN,
        after=("output.inspected",),
    ),
    "output-held": Case(
        policy=OUTPUT + "review: {reviewers: [group:trust], hold: output}",
        status=403,
        type="permission_error",
        code="policy_review_required",
        retry="false",
        sent=PLAIN,
        after=("output.inspected", "review.held"),
    ),
    "image-too-large": Case(
        policy="  input_images: {max_pixels: 1000}",
        asked=Asked(picture=True),
        status=400,
        type="invalid_request_error",
        code="policy_violation",
        param="image",
        retry="false",
        outcome="deny",
        reasons=(("request.input_images", "deny", "enforce"),),
    ),
}


def surface(name: str, policy: str) -> str:
    """The file of a surface with every route, below its name."""
    routes = ", ".join(f"POST /{name}/v1{path}" for path in sorted({form.path for form in FORMS.values()}))
    text = SURFACE.replace("surface: avatars", f"surface: {name}").replace("low, medium, high", "low, medium")
    return text.replace("POST /v1/images/generations, POST /v1/images/edits", routes) + REQUEST + policy + "\n"
