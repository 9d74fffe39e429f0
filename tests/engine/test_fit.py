"""Parameters under rules: adjusting only goes down, and what a surface allows the limits allow, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support import MODEL, request

from policyguard import pricing
from policyguard.engine.fit import fit, with_defaults
from policyguard.policy.model import RequestRules
from policyguard.request import ImageRequest, parse_size

SIZES = ["1024x1024", "1024x1536", "1536x1024", "816x816", "2048x2048", "2048x1152", "480x1408"]
QUALITIES = ["low", "medium", "high", "xhigh", "max"]
MODELS = [MODEL, "gpt-image-2.5-flare", "gpt-image-2.6-sunburst"]
some = st.lists


@st.composite
def rules(draw: Any, on_excess: str | None = None) -> RequestRules:
    return RequestRules(
        models=tuple(draw(some(st.sampled_from(MODELS), min_size=1, unique=True))),
        sizes=tuple(draw(some(st.sampled_from(SIZES), min_size=1, unique=True))),
        qualities=tuple(draw(some(st.sampled_from(QUALITIES), min_size=1, unique=True))),
        max_n=draw(st.integers(1, 10)),
        max_pixels=draw(st.none() | st.sampled_from([1_048_576, 4_194_304])),
        on_excess=on_excess or draw(st.sampled_from(["deny", "adjust"])),
    )


@st.composite
def requests(draw: Any) -> ImageRequest:
    return request(
        model=draw(st.sampled_from(MODELS)),
        size=draw(st.sampled_from([*SIZES, "auto"])),
        quality=draw(st.sampled_from([*QUALITIES, "auto"])),
        n=draw(st.integers(1, 10)),
    )


@given(rules(on_excess="adjust"), requests())
def test_what_comes_out_of_adjusting_is_allowed_and_never_dearer(allowed: RequestRules, asked: ImageRequest) -> None:
    fitted = fit(allowed, asked, "enforce")
    if fitted.reasons:
        return
    given_ = fitted.request
    assert fit(allowed, given_, "enforce").adjustments == []
    assert (given_.n or 1) <= (asked.n or 1)
    small, big = parse_size(given_.size or ""), parse_size(asked.size or "")
    if small and big:
        assert small.width <= big.width
        assert small.height <= big.height
    try:
        before = pricing.ceiling(asked).ceiling_micros
    except pricing.UnknownPrice:
        return  # what was asked has no price to compare with
    assert pricing.ceiling(given_).ceiling_micros <= before


@given(rules(), requests())
def test_without_adjusting_a_request_passes_as_it_is_or_not_at_all(allowed: RequestRules, asked: ImageRequest) -> None:
    fitted = fit(allowed, asked, "enforce")
    if allowed.on_excess == "deny":
        assert (fitted.request, fitted.adjustments) == (asked, [])


@given(rules(), requests(), st.integers(1, 10))
def test_a_stricter_maximum_never_allows_more(allowed: RequestRules, asked: ImageRequest, top: int) -> None:
    strict = replace(allowed, on_excess="deny", max_n=min(top, allowed.max_n or 10))
    loose = replace(allowed, on_excess="deny")
    if not fit(strict, asked, "enforce").reasons:
        assert not fit(loose, asked, "enforce").reasons


def test_names_of_unknown_parameters_are_repeated_only_where_they_are_plain() -> None:
    asked = request(extra={"style": 1, "my secret prompt": 2})
    messages = [r.message for r in fit(RequestRules(), asked, "enforce").reasons if r.id == "request.extra"]
    assert len(messages) == 2
    assert not any("secret" in message for message in messages)


def test_unknown_parameters_pass_only_as_single_values_and_only_where_the_policy_lets_them() -> None:
    extra = {
        "seed": 7,
        "steps": {"a": 1},
        "negative_prompt": "x",
        "Prompt": "x",
        "N": 9,
        "image_url": "x",
        "input": "x",
    }
    asked = request(extra=extra)
    passing = RequestRules(sizes=("1024x1024",), qualities=("low",), unknown_parameters="pass")
    assert [r.param for r in fit(passing, asked, "enforce").reasons] == [
        "steps",
        "negative_prompt",
        "an unnamed parameter",
        "an unnamed parameter",
        "image_url",
        "input",
    ]


def test_defaults_fill_only_what_is_missing() -> None:
    filled = with_defaults(RequestRules(default_model=MODEL, default_size="816x816"), ImageRequest(prompt="a"))
    assert (filled.model, filled.size, filled.quality, filled.n) == (MODEL, "816x816", "auto", 1)
    assert filled.partial_images is None


def test_a_stream_that_does_not_say_has_no_partial_images() -> None:
    assert with_defaults(RequestRules(), request(stream=True)).partial_images == 0
    assert with_defaults(RequestRules(), request(stream=True, partial_images=2)).partial_images == 2


@given(rules(on_excess="adjust"), requests(), st.data())
def test_auto_is_the_policys_own_choice_where_it_is_not_listed(
    allowed: RequestRules, asked: ImageRequest, data: Any
) -> None:
    allowed = replace(
        allowed,
        max_pixels=None,
        default_size=data.draw(st.sampled_from(allowed.sizes)),
        default_quality=data.draw(st.sampled_from(allowed.qualities)),
    )
    said, silent = replace(asked, size="auto", quality="auto"), replace(asked, size=None, quality=None)
    fitted = fit(allowed, said, "enforce")
    assert fitted.request == fit(allowed, with_defaults(allowed, silent), "enforce").request
    changed = {str(a) for a in fitted.adjustments if a.param != "n"}
    assert changed == {f"size=auto->{allowed.default_size}", f"quality=auto->{allowed.default_quality}"}


def test_partial_images_are_brought_down_like_images() -> None:
    asked = request(stream=True, partial_images=3)
    lists: dict[str, Any] = {"sizes": (asked.size,), "qualities": ("low",)}
    fitted = fit(RequestRules(**lists, max_partial_images=1, on_excess="adjust"), asked, "enforce")
    assert ([str(a) for a in fitted.adjustments], fitted.reasons) == (["partial_images=3->1"], [])
    assert pricing.ceiling(fitted.request).ceiling_micros < pricing.ceiling(asked).ceiling_micros


def test_auto_stays_where_it_is_listed_and_is_denied_without_a_default_or_without_adjusting() -> None:
    asked = request(size="auto", quality="auto")
    listed = RequestRules(sizes=("auto", "816x816"), qualities=("auto",), default_size="816x816", on_excess="adjust")
    assert (fit(listed, asked, "enforce").adjustments, fit(listed, asked, "enforce").reasons) == ([], [])
    lists: dict[str, Any] = {"sizes": ("816x816",), "qualities": ("low",)}
    defaults = {"default_size": "816x816", "default_quality": "low"}
    strict, adrift = RequestRules(**lists, **defaults), RequestRules(**lists, on_excess="adjust")
    adjusting = RequestRules(**lists, **defaults, on_excess="adjust")
    for fitted in (
        fit(strict, asked, "enforce"),
        fit(adrift, asked, "enforce"),
        fit(adjusting, asked, "enforce", fixed=frozenset({"size", "quality"})),
    ):
        assert [r.id for r in fitted.reasons] == ["request.quality", "request.size"]
        assert fitted.adjustments == []
