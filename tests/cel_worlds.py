"""Generated inputs of conditions: who asks for what, with values absent, scores down or not all assessed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from policyguard.policy.expr import CallerType, Environment
from policyguard.request import AUTO, CATEGORIES, ImageRequest, InputImage

ENVIRONMENT = Environment(
    {
        "user": CallerType(False),
        "tier": CallerType(False, ("free", "pro")),
        "team": CallerType(True),
        "cohort": CallerType(True, ("a", "b")),
    }
)
MOMENTS = (
    datetime(2026, 3, 29, 0, 59, 30, tzinfo=UTC),  # before Berlin's clocks change
    datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2028, 2, 29, 12, tzinfo=UTC),
)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    images = draw(st.integers(0, 2))
    text = st.text("aAx12é狐🦊\n\x00", max_size=4) | st.sampled_from(
        ["fox 1", "12", "-9223372036854775808", "a\u200bb"]
    )
    scores = {category: draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])) for category in CATEGORIES[:4]}
    scores |= dict.fromkeys(CATEGORIES[4:], draw(st.sampled_from([0.0, 0.5, 1e-300])))
    if draw(st.integers(0, 3)) == 0:
        del scores["hate"]
    names = {"user": draw(text), "tier": draw(st.sampled_from(["free", "pro"]))}
    optional = {"team": draw(st.none() | st.sampled_from(["x", ""])), "cohort": draw(st.sampled_from([None, "a", "b"]))}
    return {
        "request": ImageRequest(
            operation="edit" if images and draw(st.booleans()) else "generate",
            prompt=draw(text.filter(str.strip)),
            model="gpt-image-2",
            size=draw(st.sampled_from([AUTO, "1024x1024", "1x1", "99999x99999"])),
            quality=draw(st.sampled_from(["low", "high"])),
            n=draw(st.integers(1, 4)),
            images=(InputImage(b"", "image/png"),) * images,
            mask=draw(st.sampled_from([None, InputImage(b"", "image/png")])),
        ),
        "caller": {**names, **{name: value for name, value in optional.items() if value is not None}},
        "scores": scores if draw(st.integers(0, 3)) else None,
        "surface": "avatars",
        "now": draw(st.sampled_from(MOMENTS)),
    }
