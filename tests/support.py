"""Small policies folders and values that many tests start from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

from policyguard.policy.load import load
from policyguard.policy.model import Policy, PolicySet
from policyguard.request import CATEGORIES, Caller, ImageRequest, Verdict

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MODEL = "gpt-image-2-2026-04-21"

ORG = """
version: 1
organisation: Example Corp
trusted_proxies: [127.0.0.1/32]
caller:
  user:    {from: 'http.headers["x-user-id"]', required: true}
  tenant:  {from: 'http.headers["x-tenant"]', default: public}
  tier:    {from: 'http.headers["x-plan"]', values: [free, pro], default: free}
  feature: {}
groups:
  trust: [ada@example.com, grace@example.com]
  oncall: [oncall@example.com]
defaults:
  moderation: {model: omni-moderation-latest, check: [prompt, input_images], deny_at: {default: 0.50}}
"""

SURFACE = """
version: 1
surface: avatars
title: Profile pictures
owner: growth@example.com
stakes: low
routes: [POST /v1/images/generations, POST /v1/images/edits]
request:
  models:  {allow: [gpt-image-2-2026-04-21, gpt-image-2.5-flare-2026-09-08], default: gpt-image-2-2026-04-21}
  sizes:   {allow: [1024x1024, 1024x1536, 1536x1024], default: 1024x1024}
  quality: {allow: [low, medium, high], default: low}
  n:       {max: 2}
"""

# The same with everything used that org.yaml has, so that lint says nothing either.
CLEAN = SURFACE + "review: {reviewers: [group:trust], escalate: [{after: 1h, to: [group:oncall]}]}\n"


def write_policies(folder: Path, *, org: str = ORG, **surfaces: str) -> Path:
    """A policies folder of `org.yaml` and one file per keyword."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "org.yaml").write_text(dedent(org))
    for name, text in surfaces.items():
        (folder / f"{name}.yaml").write_text(dedent(text))
    return folder


def policies(folder: Path, *, org: str = ORG, **surfaces: str) -> PolicySet:
    return load(write_policies(folder, org=org, **surfaces), now=NOW)


def policy(folder: Path, extra: str = "", *, org: str = ORG, base: str = SURFACE) -> Policy:
    """The one surface `avatars`, with lines added to its file."""
    return policies(folder, org=org, avatars=base + dedent(extra)).surfaces["avatars"]


def request(**changes: Any) -> ImageRequest:
    return ImageRequest(**{"prompt": "a cat", "model": MODEL, "size": "1024x1024", "quality": "low", "n": 1, **changes})


def caller(**changes: str | None) -> Caller:
    return Caller.of({"user": "u1", "tenant": "acme", "tier": "free", **changes})


def verdict(scores: Mapping[str, float] | None = None, **changes: Any) -> Verdict:
    """Everything assessed, 0 where the test says nothing."""
    return Verdict(
        model="omni-moderation-latest", scores={**dict.fromkeys(CATEGORIES, 0.0), **(scores or {})}, **changes
    )


# The same surface where the demo's app has its routes.
AVATARS = SURFACE.replace("POST /v1/", "POST /avatars/v1/")
