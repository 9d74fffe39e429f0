"""The decorator on functions and coroutines: what it forces into arguments, what it raises, how legs end."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image
from support import SURFACE

import policyguard
from policyguard.decision import BudgetExceeded, PolicyDenied, PolicyUnavailable, ReviewRequired
from policyguard.errors import ConfigError
from policyguard.guard import files
from policyguard.guard.guard import Guard

RESULT = {"usage": {"input_tokens": 10, "output_tokens": 196}}
FORCED = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": 1}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def ends(guard: Guard) -> list[tuple[str, Any]]:
    rows = [row.event for row in guard.store.events(limit=100) if row.event.type.startswith("leg.")]
    return [(event.type, event.body["failure"]) for event in rows]


def test_the_function_runs_with_what_was_decided(open_guard: Callable[..., Guard]) -> None:
    guard, seen = open_guard(), []

    @guard.enforce("avatars")
    def draw(
        prompt: str,
        model: Any = None,
        size: Any = None,
        quality: Any = None,
        n: Any = None,
        moderation: str = "low",
        safety_identifier: Any = None,
    ) -> Any:
        seen.append({"model": model, "size": size, "quality": quality, "n": n, "moderation": moderation})
        assert safety_identifier is not None
        assert "u1" not in safety_identifier
        return RESULT

    with policyguard.caller(user="u1"):
        assert draw("a cat") == RESULT
    assert seen == [{**FORCED, "moderation": "auto"}]
    assert ends(guard) == [("leg.settled", None)]
    assert draw.__name__ == "draw"


def test_adjusted_values_reach_the_function(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=SURFACE.replace("{max: 2}", "{max: 2}\n  on_excess: adjust"))
    made: list[int] = []

    @guard.enforce(
        "avatars",
        constants={"model": FORCED["model"], "size": "1024x1024", "quality": "low"},
        fields={"prompt": "text", "n": "count"},
    )
    def draw(text: str, count: int) -> Any:
        made.append(count)
        return RESULT

    with policyguard.caller(user="u1"):
        draw("a cat", 5)
        draw(text="a cat", count=1)
    assert made == [2, 1]


def test_a_constant_beyond_the_policy_is_denied_because_it_cannot_be_brought_down(
    open_guard: Callable[..., Guard],
) -> None:
    """Admitted at two images, the function would make its four."""
    guard = open_guard(avatars=SURFACE.replace("{max: 2}", "{max: 2}\n  on_excess: adjust"))

    @guard.enforce("avatars", constants={**FORCED, "n": 4})  # type: ignore[arg-type]
    def draw(prompt: str) -> Any:
        return RESULT

    with policyguard.caller(user="u1"), pytest.raises(PolicyDenied) as caught:
        draw("a cat")
    assert [reason.id for reason in caught.value.decision.reasons] == ["request.n"]


@pytest.mark.anyio
async def test_coroutines_and_methods_are_guarded_the_same(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    class Studio:
        @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
        async def draw(self, prompt: str) -> Any:
            await anyio.lowlevel.checkpoint()
            return RESULT

    with policyguard.caller(user="u1"):
        assert await Studio().draw("a cat") == RESULT
    assert ends(guard) == [("leg.settled", None)]


@pytest.mark.anyio
async def test_a_plain_function_that_hands_on_a_coroutine_is_settled_when_that_ends(
    open_guard: Callable[..., Guard],
) -> None:
    guard = open_guard()

    async def later() -> Any:
        return RESULT

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def draw(prompt: str) -> Any:
        return later()

    with policyguard.caller(user="u1"):
        answer = draw("a cat")
        assert ends(guard) == []
        assert await answer == RESULT
    assert ends(guard) == [("leg.settled", None)]


@pytest.mark.anyio
async def test_a_cancelled_coroutine_is_presumed(open_guard: Callable[..., Guard]) -> None:
    guard, started = open_guard(), anyio.Event()

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    async def draw(prompt: str) -> Any:
        started.set()
        await anyio.sleep_forever()

    async def run() -> None:
        with policyguard.caller(user="u1"):
            await draw("a cat")

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await started.wait()
        group.cancel_scope.cancel()
    assert ends(guard) == [("leg.presumed", "cancelled")]


@pytest.mark.parametrize(
    ("result", "end"),
    [
        ({}, ("leg.presumed", "no_usage")),
        (None, ("leg.presumed", "no_usage")),
        (RuntimeError("boom"), ("leg.presumed", "error")),
        (TimeoutError(), ("leg.presumed", "timeout")),
    ],
)
def test_without_usage_the_call_is_presumed(open_guard: Callable[..., Guard], result: Any, end: Any) -> None:
    guard = open_guard()

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def draw(prompt: str) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    with policyguard.caller(user="u1"):
        if isinstance(result, Exception):
            with pytest.raises(type(result)):
                draw("a cat")
        else:
            draw("a cat")
    assert ends(guard) == [end]


def test_usage_can_be_read_by_a_function_of_yours(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    @guard.enforce("avatars", constants={**FORCED}, usage=lambda result: result[1])  # type: ignore[arg-type]
    def draw(prompt: str) -> Any:
        return ("picture", RESULT["usage"])

    with policyguard.caller(user="u1"):
        draw("a cat")
    assert ends(guard) == [("leg.settled", None)]


def test_each_refusal_raises_its_own_error_and_the_function_does_not_run(
    open_guard: Callable[..., Guard], moderator: Any
) -> None:
    guard = open_guard(avatars=SURFACE + "budgets: [{id: one, limit: 1 images / day}]\n")
    runs: list[str] = []

    @guard.enforce("avatars", constants={"model": FORCED["model"], "size": "1024x1024", "quality": "low"})
    def draw(prompt: str, n: int = 1) -> Any:
        runs.append(prompt)
        return RESULT

    with pytest.raises(PolicyDenied, match="the caller's `user` is missing"):
        draw("a cat")
    with policyguard.caller(user="u1"):
        with pytest.raises(PolicyDenied) as caught:
            draw("a cat", n=3)
        assert (caught.value.code, caught.value.status) == ("policy_violation", 400)
        with pytest.raises(PolicyDenied) as caught:
            draw("", n=1)
        assert caught.value.code == "invalid_request"
        moderator.error = "timeout"
        with pytest.raises(PolicyUnavailable):
            draw("a cat")
        moderator.error = None
        draw("a cat")
        with pytest.raises(BudgetExceeded):
            draw("a dog")
    assert runs == ["a cat"]


def test_a_held_call_resumes_once_after_approval(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=SURFACE + "review: {required: true, reviewers: [group:trust]}\n")

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def draw(prompt: str) -> Any:
        return RESULT

    with policyguard.caller(user="u1"):
        with pytest.raises(ReviewRequired) as caught:
            draw("a cat")
        review_id = caught.value.review_id or ""
        guard.store.vote(review_id, "ada@example.com", "approve", "fine", guard.clock())
        with policyguard.resume(review_id):
            assert draw("a cat") == RESULT
            with pytest.raises(ReviewRequired):
                draw("a cat")


@pytest.mark.parametrize("kind", ["bytes", "path", "file", "tuple", "list"])
def test_pictures_in_any_form_are_seen_and_still_readable(
    open_guard: Callable[..., Guard], tmp_path: Path, kind: str
) -> None:
    guard, seen = open_guard(), []
    (tmp_path / "a.png").write_bytes(png())
    given: Any = {
        "bytes": png(),
        "path": tmp_path / "a.png",
        "file": io.BytesIO(png()),
        "tuple": ("a.png", png(), "image/png"),
        "list": [png(), png()],
    }[kind]

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def edit(prompt: str, image: Any, mask: Any = None) -> Any:
        seen.append(image)
        return RESULT

    with policyguard.caller(user="u1"):
        edit("a hat", given)
    sent = seen[0] if isinstance(seen[0], list) else [seen[0]]
    assert all((data, media_type) == (png(), "image/png") for _, data, media_type in sent)
    body = guard.store.events(type="request.decided")[0].event.body
    assert (body["request"]["operation"], body["input_images"]) == ("edit", len(sent))


def test_an_open_file_can_be_sent_again_after_a_hold(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=SURFACE + "review: {required: true, reviewers: [group:trust]}\n")
    photo = io.BytesIO(png())

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def edit(prompt: str, image: Any) -> Any:
        return RESULT

    with policyguard.caller(user="u1"):
        with pytest.raises(ReviewRequired) as caught:
            edit("a hat", photo)
        review_id = caught.value.review_id or ""
        guard.store.vote(review_id, "ada@example.com", "approve", "fine", guard.clock())
        with policyguard.resume(review_id):
            assert edit("a hat", photo) == RESULT


def test_a_picture_is_read_up_to_the_apis_limit_only(
    open_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    guard, asked = open_guard(), []

    class Endless:
        def read(self, size: int = -1) -> bytes:
            asked.append(size)
            return b"\0" * size

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def edit(prompt: str, image: Any) -> Any:
        return RESULT

    with policyguard.caller(user="u1"), pytest.raises(PolicyDenied) as caught:
        edit("a hat", Endless())
    assert (asked, caught.value.code) == ([1001], "invalid_request")


def test_a_user_object_of_the_apps_own_is_left_alone(open_guard: Callable[..., Guard]) -> None:
    guard, account = open_guard(), object()

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def draw(prompt: str, user: Any) -> Any:
        assert user is account
        return RESULT

    with policyguard.caller(user="u1"):
        assert draw("a cat", account) == RESULT


def test_a_member_of_an_enumeration_counts_as_its_value(open_guard: Callable[..., Guard]) -> None:
    quality_type: Any = Enum("Quality", {"LOW": "low"}, type=str)
    guard = open_guard()

    @guard.enforce("avatars", constants={"model": FORCED["model"], "size": "1024x1024", "n": 1})
    def draw(prompt: str, quality: Any) -> Any:
        return RESULT

    with policyguard.caller(user="u1"):
        draw("a cat", quality_type.LOW)
    assert guard.store.events(type="request.decided")[0].event.body["request"]["quality"] == "low"


def test_what_was_made_is_in_the_record(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def draw(prompt: str) -> Any:
        return {**RESULT, "size": "1024x1024", "quality": "low", "data": [{"b64_json": "eA=="}, {"b64_json": "\u00e9"}]}

    with policyguard.caller(user="u1"):
        draw("a cat")
    body = guard.store.events(type="leg.settled")[0].event.body
    assert (body["rendered_size"], body["rendered_quality"]) == ("1024x1024", "low")
    assert body["image_digests"] == [hashlib.sha256(b"x").hexdigest()]


def test_a_broken_picture_is_refused_and_recorded(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def edit(prompt: str, image: Any) -> Any:
        return RESULT

    with policyguard.caller(user="u1"), pytest.raises(PolicyDenied) as caught:
        edit("a hat", b"no picture")
    assert caught.value.code == "invalid_request"
    assert len(guard.store.events(type="request.decided")) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"image": "https://example.com/a.png"},
        {"image": object()},
        {"n": 1.0},
        {"stream": 1},
        {"stream": True},
        {"background": 5},
        {"reference": png()},
    ],
)
def test_what_cannot_be_looked_at_does_not_pass(open_guard: Callable[..., Guard], given: dict[str, Any]) -> None:
    guard, runs = open_guard(), []

    @guard.enforce("avatars", constants={"model": FORCED["model"], "size": "1024x1024", "quality": "low"})
    def draw(
        prompt: str, n: Any = 1, image: Any = None, stream: Any = None, background: Any = None, reference: Any = None
    ) -> Any:
        runs.append(prompt)
        return RESULT

    with policyguard.caller(user="u1"), pytest.raises(PolicyDenied) as caught:
        draw("a cat", **given)
    assert (caught.value.code, runs) == ("invalid_request", [])


def test_an_argument_that_cannot_be_looked_at_is_named_and_can_be_declared(open_guard: Callable[..., Guard]) -> None:
    guard, session = open_guard(), object()

    def draw(prompt: str, session: Any, *, default: Any = session, user: Any = None) -> Any:
        return RESULT

    guarded = guard.enforce("avatars", constants={**FORCED})(draw)  # type: ignore[arg-type]
    declared = guard.enforce("avatars", constants={**FORCED}, not_sent=["session"])(draw)  # type: ignore[arg-type]
    with policyguard.caller(user="u1"):
        assert declared("see https://example.com/a.png", session, user=object()) == RESULT
        with pytest.raises(PolicyDenied) as caught:
            guarded("a cat", session)
        with pytest.raises(PolicyDenied):
            declared("a cat", session, user=png())
        with pytest.raises(PolicyDenied):
            declared("a cat", session, default=object())
    reason = caught.value.decision.reasons[0]
    assert (reason.param, "declare it with `not_sent=['session']`" in reason.message) == ("session", True)


def test_only_the_object_of_a_method_passes_by_its_name(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    class Studio:
        @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
        def draw(self, prompt: str, cls: Any = None) -> Any:
            return RESULT

    with policyguard.caller(user="u1"):
        assert Studio().draw("a cat") == RESULT
        with pytest.raises(PolicyDenied):
            Studio().draw("a cat", png())


@pytest.mark.parametrize(
    ("not_sent", "message"),
    [
        (["sesion"], "did you mean `session`"),
        ("session", "write a list of names"),
        (["prompt"], "`prompt` is what the policy reads"),
        (["image"], "`image` is what the policy reads"),
    ],
)
def test_what_is_declared_as_not_sent_is_an_argument_that_the_policy_does_not_read(
    open_guard: Callable[..., Guard], not_sent: Any, message: str
) -> None:
    def draw(prompt: str, session: Any, image: Any = None) -> Any:
        return RESULT

    with pytest.raises(ConfigError, match=message):
        open_guard().enforce("avatars", constants={**FORCED}, not_sent=not_sent)(draw)  # type: ignore[arg-type]


def test_the_sdks_marks_for_what_is_not_given_count_as_absent(open_guard: Callable[..., Guard]) -> None:
    from openai import NOT_GIVEN, omit

    guard = open_guard()

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def draw(prompt: str, background: Any = NOT_GIVEN, image: Any = omit) -> Any:
        return RESULT

    with policyguard.caller(user="u1"):
        assert draw("a cat") == RESULT


def test_an_exception_with_odd_attributes_is_settled_and_goes_on(open_guard: Callable[..., Guard]) -> None:
    class Odd(Exception):
        status_code = "500"
        request_id = None

        def code(self) -> str:
            return "UNAVAILABLE"

    guard = open_guard()

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def draw(prompt: str) -> Any:
        raise Odd

    with policyguard.caller(user="u1"), pytest.raises(Odd):
        draw("a cat")
    assert ends(guard) == [("leg.presumed", "error")]


def test_a_whole_number_is_a_user_and_its_digits_are_the_same_one(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def draw(prompt: str) -> Any:
        return RESULT

    for user in (42, "42"):
        with policyguard.caller(user=user):
            draw("a cat")
    users = {row.event.dimensions["user"] for row in guard.store.events(type="request.decided")}
    assert users == {guard.vault.pseudonym("user", "42")}


def test_a_misspelt_caller_value_is_an_error_that_names_the_one_that_was_meant(
    open_guard: Callable[..., Guard],
) -> None:
    guard, runs = open_guard(), []

    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def draw(prompt: str) -> Any:
        runs.append(prompt)
        return RESULT

    with policyguard.caller(user="u1", tennant="acme"), pytest.raises(ConfigError, match="did you mean `tenant`"):
        draw("a cat")
    assert (runs, guard.store.events()) == ([], [])


def test_arguments_that_go_past_the_policy_are_an_error_at_decoration(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    def anything(prompt: str, **more: Any) -> Any:
        return RESULT

    def body(prompt: str, extra_body: Any = None) -> Any:
        return RESULT

    def parts(prompt: str) -> Any:
        yield RESULT

    async def stream(prompt: str) -> Any:
        yield RESULT

    for function, message in (
        (anything, "takes any argument"),
        (body, "extra_body"),
        (parts, "generator"),
        (stream, "generator"),
    ):
        with pytest.raises(ConfigError, match=message):
            guard.enforce("avatars", constants={**FORCED})(function)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["extra_body", "extra_query", "messages"])
def test_each_argument_that_goes_past_the_policy_is_refused_by_its_name(
    open_guard: Callable[..., Guard], name: str
) -> None:
    guard, found = open_guard(), {}
    exec(f"def draw(prompt, {name}=None): ...", found)
    with pytest.raises(ConfigError, match=f"`draw` has the argument `{name}`, which goes past the policy"):
        guard.enforce("avatars", constants={**FORCED})(found["draw"])  # type: ignore[arg-type]


def test_what_is_not_known_is_an_error_at_decoration(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    def draw(prompt: str, n: int = 1) -> Any:
        return RESULT

    def blind(text: str) -> Any:
        return RESULT

    for surface, function, constants, message in (
        ("avatar", draw, {}, "did you mean `avatars`"),
        ("avatars", draw, {"size": "1024x1024", "quality": "low"}, "which model"),
        ("avatars", blind, FORCED, "no argument `prompt`"),
        ("avatars", draw, {**FORCED, "size": "big"}, "`size` must be"),
        ("avatars", draw, {**FORCED, "moderation": "low"}, "`moderation` is `auto`"),
        ("avatars", draw, {**FORCED, "style": "vivid"}, "`style` can be no constant"),
    ):
        with pytest.raises(ConfigError, match=message):
            guard.enforce(surface, constants=constants)(function)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no argument `words`"):
        guard.enforce("avatars", constants={**FORCED}, fields={"prompt": "words"})(draw)  # type: ignore[arg-type]
