"""A small folder with one suite that many tests start from."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from support import ORG, SURFACE, policies, write_policies

from policyguard.policy.model import PolicySet
from policyguard.testing.read import Suite, read_suite

RULES = """
moderation: {review_at: {violence: 0.3}}
review: {reviewers: [group:trust]}
budgets:
  - {id: user-day, per: caller.user, limit: 20 images / day}
  - {id: month, limit: $1 / month}
  - {id: tried, limit: 1 images / day, mode: shadow}
rules:
  - id: pro-quality
    when: caller.tier == "free" && request.quality == "high"
    then: deny
  - {id: long, when: size(request.prompt) > 20, then: flag, message: A long prompt.}
  - {id: trial, when: request.n == 2, then: deny, mode: shadow}
  - {id: risky, when: scores.hate > 0.4 && request.n == 2, then: review}
exempt:
  - {rules: [pro-quality], when: caller.tenant == "acme", until: 2026-06-30, by: ada@example.com, why: a pilot}
"""
AVATARS = SURFACE + RULES
GIVEN = """
surface: avatars
given:
  request: {prompt: a cat, quality: low, n: 1}
  caller: {user: u1, tenant: shop}
"""


def folder(path: Path, text: str = "", *, avatars: str = AVATARS, given: str = GIVEN) -> Path:
    """A policies folder with `tests/avatars.yaml`: what every test starts from, and `text` below it."""
    write_policies(path, org=ORG, avatars=avatars)
    (path / "tests").mkdir(exist_ok=True)
    (path / "tests" / "avatars.yaml").write_text(given.lstrip("\n") + dedent(text).lstrip("\n"))
    return path


def loaded(path: Path, avatars: str = AVATARS) -> PolicySet:
    return policies(path, org=ORG, avatars=avatars)


def suite(path: Path, text: str = "", *, avatars: str = AVATARS, given: str = GIVEN) -> Suite:
    where = folder(path, text, avatars=avatars, given=given)
    return read_suite(where / "tests" / "avatars.yaml", loaded(where, avatars))
