from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyguard.errors import InvalidRequest
from policyguard.request import Caller, ImageRequest, InputImage, Size, Verdict, parse_size


@pytest.mark.parametrize(
    "text", ["1024×1024", "-1x99999", "1024X1024", "1024x", "01024x1024", "auto", "1e3x1", "１x１", ""]
)
def test_what_is_no_size_is_none(text: str) -> None:
    assert parse_size(text) is None


@given(st.integers(1, 99_999), st.integers(1, 99_999))
def test_sizes_round_trip(width: int, height: int) -> None:
    assert str(parse_size(f"{width}x{height}")) == f"{width}x{height}"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "  \n"}, "prompt"),
        ({"prompt": "a" * 32_001}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"prompt": ["a cat"]}, "prompt"),
        ({"model": 5}, "model"),
        ({"model": "x" * 200}, "model"),
        ({"size": "1024×1024"}, "size"),
        ({"size": "-1x99999"}, "size"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": True}, "n"),
        ({"n": "2"}, "n"),
        ({"n": 2.0}, "n"),
        ({"partial_images": 4}, "partial_images"),
        ({"output_compression": 101}, "output_compression"),
        ({"stream": "yes"}, "stream"),
        ({"user": 5}, "user"),
        ({"images": tuple(InputImage(b"", "image/png") for _ in range(17))}, "image"),
        ({"operation": "edit"}, "image"),
    ],
)
def test_a_request_is_valid_by_construction(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ImageRequest(**{"prompt": "a cat", **changes})
    assert caught.value.param == param


def test_prompts_images_and_users_never_show_in_a_repr() -> None:
    image = InputImage(b"CANARY", "image/png")
    shown = repr(ImageRequest(prompt="CANARY", user="CANARY", images=(image,), extra={"x": "CANARY"}))
    assert "CANARY" not in shown
    assert "CANARY" not in repr(Caller(user="CANARY", engineer="CANARY", attributes={"x": "CANARY"}))


def test_a_caller_gives_named_values_and_declared_attributes_alike() -> None:
    caller = Caller.of({"user": "u1", "tenant": None, "desk": "12"})
    assert (caller.get("user"), caller.get("desk"), caller.get("tenant"), caller.get("nothing")) == (
        "u1",
        "12",
        None,
        None,
    )
    assert dict(caller.items()) == {"user": "u1", "desk": "12"}


def test_an_incomplete_score_is_only_a_lower_bound() -> None:
    verdict = Verdict(model="m", scores={"sexual": 0.2, "hate": 0.1}, incomplete=frozenset({"sexual"}))
    assert (verdict.score("sexual"), verdict.score("hate"), verdict.score("violence")) == (None, 0.1, None)


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.1, True, "0.5", None])
def test_a_score_is_a_number_from_0_to_1(score: Any) -> None:
    with pytest.raises(ValueError, match="a score is a number from 0 to 1"):
        Verdict(model="m", scores={"sexual": score})


@pytest.mark.parametrize("error", ["", "the prompt said a cat", "Timeout", "x" * 41])
def test_why_nothing_was_assessed_is_one_word(error: str) -> None:
    with pytest.raises(ValueError, match="one word"):
        Verdict(model="m", error=error)


def test_the_mask_is_an_input_image_too() -> None:
    image, mask = InputImage(b"a", "image/png", size=Size(1, 1)), InputImage(b"b", "image/png")
    request = ImageRequest(prompt="a cat", operation="edit", images=(image,), mask=mask)
    assert list(request.input_images) == [image, mask]
