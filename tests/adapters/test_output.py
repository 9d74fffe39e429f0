"""Output at every door: withheld, held and released alike, settled whatever is found, and never seen before that."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from adapters import output_doors
from adapters.output_doors import ANSWER, COMPLETED, CONSTANTS, DOORS, ENCODED, OWN, PARTIAL, App, Seen, through_app
from adapters.test_asgi import ask, ends
from adapters.upstream import rows
from support import ORG, SURFACE

import policyguard
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.wire import image_header, output

pytestmark = pytest.mark.anyio
LOOKED_AT = SURFACE.replace("images/edits]", f"images/edits, {OWN}]") + (
    "moderation:\n  check: [prompt, input_images, output_images]\n  review_at: {sexual: 0.3}\n"
    "review: {reviewers: [group:trust], expires: 4h}\n"
)
HELD = LOOKED_AT.replace("expires: 4h", "expires: 4h, hold: output")
DOORS_PATH = "/v1/images/generations"


def inspected(guard: Guard) -> list[tuple[str | None, list[str]]]:
    return [(e.outcome, [r["id"] for r in e.body["reasons"]]) for e in rows(guard, "output.")]


def approve(guard: Guard, review_id: str) -> None:
    guard.store.vote(review_id, "ada@example.com", "approve", "", guard.clock())


# ---- the matrix -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
async def test_what_passes_is_released_and_settled(open_guard: Callable[..., Guard], door: str) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    assert await DOORS[door](guard, None) == Seen(200, picture=True)
    assert inspected(guard) == [("release", [])]
    assert ends(guard) == [("leg.settled", None)]


@pytest.mark.parametrize("door", DOORS)
async def test_what_is_denied_is_withheld_and_charged(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator, door: str
) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    moderator.output_scores["violence"] = 0.9
    assert await DOORS[door](guard, None) == Seen(400, "moderation_blocked", "output")
    assert inspected(guard) == [("withhold", ["output.violence"])]
    (end,) = rows(guard, "leg.")
    assert (end.type, end.body["charged_micros"] > 0) == ("leg.settled", True)


@pytest.mark.parametrize("door", DOORS)
async def test_what_cannot_be_looked_at_is_withheld(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator, door: str
) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    moderator.output_error = "timeout"
    assert await DOORS[door](guard, None) == Seen(503, "policy_unavailable")
    assert inspected(guard) == [("withhold", ["output.unavailable"])]
    assert ends(guard) == [("leg.settled", None)]
    moderator.output_error = None
    assert await DOORS[door](guard, None) == Seen(200, picture=True)


@pytest.mark.parametrize("door", DOORS)
async def test_what_is_reviewed_is_held_and_released_after_the_approval(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator, door: str
) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    moderator.output_scores["sexual"] = 0.4
    held = await DOORS[door](guard, None)
    assert held == Seen(403, "policy_review_required", review_id=held.review_id)
    assert held.review_id is not None
    assert await DOORS[door](guard, held.review_id) == Seen(403, "policy_review_required", review_id=held.review_id)
    approve(guard, held.review_id)
    for _ in range(2):  # a connection can break on the way
        assert await DOORS[door](guard, held.review_id) == Seen(200, picture=True)
    assert inspected(guard) == [("hold", ["output.sexual"])]
    assert ends(guard) == [("leg.settled", None)]  # paid once
    assert [e.outcome for e in rows(guard, "request.decided")] == ["allow", "deny", "release", "release"]


@pytest.mark.parametrize("door", DOORS)
async def test_a_rejected_answer_is_destroyed(open_guard: Callable[..., Guard], door: str) -> None:
    guard = open_guard(avatars=HELD)
    held = await DOORS[door](guard, None)
    assert held.review_id is not None
    assert guard.store.private(f"output:{held.review_id}", by="ada@example.com", now=guard.clock()) is not None
    guard.store.vote(held.review_id, "ada@example.com", "reject", "", guard.clock())
    assert guard.store.private(f"output:{held.review_id}", by="ada@example.com", now=guard.clock()) is None
    assert await DOORS[door](guard, held.review_id) == Seen(403, "policy_review_required", review_id=held.review_id)


@pytest.mark.parametrize("door", DOORS)
async def test_in_shadow_everything_passes_and_what_was_found_is_recorded(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator, door: str
) -> None:
    guard = open_guard(avatars=HELD + "mode: shadow\n")
    moderator.output_scores["violence"] = 0.9
    seen = await DOORS[door](guard, None)
    assert (seen.status, seen.picture) == (200, True)
    assert inspected(guard) == [("release", ["output.violence", "review.output"])]
    assert ends(guard) == [("leg.settled", None)]


@pytest.mark.parametrize("door", DOORS)
async def test_a_limit_of_the_organisation_holds_in_shadow_too(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator, door: str
) -> None:
    org = ORG + "limits:\n  moderation: {check: [output_images], deny_at: {default: 0.8}}\n"
    guard = open_guard(avatars=LOOKED_AT + "mode: shadow\n", org=org)
    moderator.output_scores["violence"] = 0.9
    assert await DOORS[door](guard, None) == Seen(400, "moderation_blocked", "output")


# ---- what cannot be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"data": []}', "application/json"),
        (b'{"data": [{"url": "https://images.test/1.png"}]}', "application/json"),
        (b'{"data": [{"b64_json": "aGk="}]}', "application/json"),
        (json.dumps({"data": [{"b64_json": ENCODED}, {"b64_json": 7}]}).encode(), "application/json"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"not json", "application/json"),
        (PARTIAL, "text/event-stream"),
    ],
)
async def test_an_answer_whose_pictures_nobody_can_see_is_withheld(
    open_guard: Callable[..., Guard], body: bytes, kind: str
) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    seen = await through_app(guard, None, App(body, kind), DOORS_PATH, {"prompt": "a cat", "stream": True})
    assert (seen.status, seen.code) == (503, "policy_unavailable")
    assert inspected(guard) == [("withhold", ["output.unavailable"])]


@pytest.mark.parametrize("picture", ["aGk=", "no base64!", ENCODED[:40], ""], ids=["text", "odd", "cut", "empty"])
@pytest.mark.parametrize("door", DOORS)
async def test_a_picture_that_cannot_be_read_is_withheld_at_every_door(
    open_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch, door: str, picture: str
) -> None:
    for name in ("ANSWER", "OWN_ANSWER"):
        text = json.dumps(getattr(output_doors, name))
        assert ENCODED in text
        monkeypatch.setattr(output_doors, name, json.loads(text.replace(ENCODED, picture)))
    assert ENCODED.encode() in COMPLETED
    monkeypatch.setattr(output_doors, "COMPLETED", COMPLETED.replace(ENCODED.encode(), picture.encode()))
    guard = open_guard(avatars=LOOKED_AT)
    assert await DOORS[door](guard, None) == Seen(503, "policy_unavailable")
    assert inspected(guard) == [("withhold", ["output.unavailable"])]
    assert ends(guard) == [("leg.settled", None)]


async def test_a_picture_beside_its_place_is_looked_at_too(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator
) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    moderator.output_scores["violence"] = 0.9
    body = json.dumps({"error": {"message": "no", "thumbnail": f"data:image/png;base64,{ENCODED}"}}).encode()
    seen = await through_app(guard, None, App(body, status=500), DOORS_PATH, {"prompt": "a cat"})
    assert seen.code == "moderation_blocked"


async def test_an_error_of_the_app_passes_as_it_is(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    body = b'{"error": {"message": "no", "code": "server_error"}}'
    seen = await through_app(guard, None, App(body, status=500), DOORS_PATH, {"prompt": "a cat"})
    assert (seen.status, seen.code) == (500, "server_error")
    assert (inspected(guard), ends(guard)) == ([], [("leg.presumed", "error")])


async def test_an_answer_that_is_too_large_is_withheld_and_settled(
    open_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = open_guard(avatars=HELD)
    monkeypatch.setattr("policyguard.guard.leg.Kept.__init__.__defaults__", (100,))
    seen = await through_app(guard, None, App(json.dumps(ANSWER).encode()), DOORS_PATH, {"prompt": "a cat"})
    assert (seen.status, seen.picture) == (503, False)
    assert ends(guard) == [("leg.settled", None)]


# ---- what is asked upstream -------------------------------------------------------------------------------


async def test_no_partial_images_are_asked_for_or_paid(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    app = App(PARTIAL + COMPLETED, "text/event-stream")
    asked = {"prompt": "a cat", "stream": True, "partial_images": 2}
    seen = await through_app(guard, None, app, DOORS_PATH, asked)
    assert (seen.partial, json.loads(app.bodies[0])["partial_images"]) == (False, 0)
    (row,) = rows(guard, "request.decided")
    assert row.body["adjusted"] == ["partial_images=2->0"]


# ---- who may have it --------------------------------------------------------------------------------------


async def test_another_request_does_not_get_the_answer(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=HELD)
    app = App(json.dumps(ANSWER).encode())
    held = await through_app(guard, None, app, DOORS_PATH, {"prompt": "a cat"})
    approve(guard, held.review_id or "")
    seen = await through_app(guard, held.review_id, app, DOORS_PATH, {"prompt": "a dog"})
    assert (seen.status, seen.picture, len(app.bodies)) == (403, False, 1)


async def test_a_request_that_is_paused_does_not_get_the_answer(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=HELD)
    app = App(json.dumps(ANSWER).encode())
    held = await through_app(guard, None, app, DOORS_PATH, {"prompt": "a cat"})
    approve(guard, held.review_id or "")
    guard.store.pause("surface", "avatars", why="leak", by="ada@example.com", now=guard.clock())
    seen = await through_app(guard, held.review_id, app, DOORS_PATH, {"prompt": "a cat"})
    assert (seen.code, seen.picture) == ("policy_paused", False)


async def test_an_answer_runs_out_with_its_review(open_guard: Callable[..., Guard]) -> None:
    times = [datetime(2026, 11, 24, 12, 0, tzinfo=UTC)]
    guard = open_guard(avatars=HELD, clock=lambda: times[-1])
    app = App(json.dumps(ANSWER).encode())
    held = await through_app(guard, None, app, DOORS_PATH, {"prompt": "a cat"})
    approve(guard, held.review_id or "")
    await through_app(guard, held.review_id, app, DOORS_PATH, {"prompt": "a cat"})
    times.append(times[0] + timedelta(hours=4))
    seen = await through_app(guard, held.review_id, app, DOORS_PATH, {"prompt": "a cat"})
    assert (seen.status, seen.picture) == (403, False)
    guard.sweep()
    assert guard.store.private(f"output:{held.review_id}", by="ada@example.com", now=times[-1]) is None


async def test_a_request_without_a_user_is_refused_before_it_costs_anything(
    open_guard: Callable[..., Guard],
) -> None:
    org = ORG.replace(", required: true", "")
    guard, app = open_guard(avatars=HELD, org=org), App(json.dumps(ANSWER).encode())
    answer = await ask(PolicyGuardMiddleware(app, guard=guard), headers=[(b"content-type", b"application/json")])
    assert (answer.status, answer.code, app.bodies) == (403, "policy_caller_missing", [])


# ---- nothing leaks ----------------------------------------------------------------------------------------


async def test_a_picture_is_in_no_event_and_no_log_and_only_encrypted_in_the_store(
    open_guard: Callable[..., Guard], caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    caplog.set_level("DEBUG")
    guard = open_guard(avatars=HELD)
    app = App(json.dumps(ANSWER).encode())
    await through_app(guard, None, app, DOORS_PATH, {"prompt": "a cat"})
    said = repr([row.event for row in guard.store.events(limit=1000)]) + caplog.text
    assert ENCODED[:40] not in said
    guard.close()
    content = b"".join(path.read_bytes() for path in tmp_path.glob("record.sqlite3*"))
    assert ENCODED[:40].encode() not in content


# ---- a guarded call inside a guarded request --------------------------------------------------------------


class Calling(App):
    """Answers with what a guarded client gives it; `later` makes a call after the answer, as a background task does."""

    def __init__(self, guard: Guard, *, later: bool = False) -> None:
        super().__init__(json.dumps(ANSWER).encode())
        self.guard, self.later = guard, later
        self.seen: list[Seen] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self.later:
            self.seen.append(await DOORS["async client"](self.guard, None))
        await super().__call__(scope, receive, send)
        if self.later:
            self.seen.append(await DOORS["async client"](self.guard, None))


async def test_a_call_inside_leaves_the_output_to_the_request_around(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator
) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    moderator.output_scores["sexual"] = 0.4
    app = Calling(guard)
    seen = await through_app(guard, None, app, DOORS_PATH, {"prompt": "a cat"})
    assert (seen.status, seen.picture, [one.picture for one in app.seen]) == (403, False, [True])
    assert inspected(guard) == [("hold", ["output.sexual"])]
    assert ends(guard) == [("leg.settled", None)]
    approve(guard, seen.review_id or "")
    assert (await through_app(guard, seen.review_id, app, DOORS_PATH, {"prompt": "a cat"})).picture
    assert len(app.bodies) == 1


async def test_a_call_after_the_answer_looks_at_its_own_output(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator
) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    moderator.output_scores["violence"] = 0.9
    app = Calling(guard, later=True)
    await through_app(guard, None, app, DOORS_PATH, {"prompt": "a cat"})
    assert [(one.code, one.picture) for one in app.seen] == [("moderation_blocked", False)]
    assert [outcome for outcome, _ in inspected(guard)] == ["withhold", "withhold"]


# ---- how a leg ends, and where the work is done ------------------------------------------------------------


class _Odd(Exception):
    """As the SDK raises for an answer that it cannot read."""

    status_code = 200


async def test_what_a_function_raises_settles_its_leg_whatever_status_it_names(
    open_guard: Callable[..., Guard],
) -> None:
    guard = open_guard(avatars=LOOKED_AT)
    seen: dict[str, Any] = {"constants": CONSTANTS, "images": lambda result: [], "restore": lambda images: None}

    @guard.enforce("avatars", **seen)
    def draw(prompt: str) -> Any:
        raise _Odd

    @guard.enforce("avatars", **seen)
    async def adraw(prompt: str) -> Any:
        raise _Odd

    with policyguard.caller(user="u1"):
        with pytest.raises(_Odd):
            draw("a cat")
        with pytest.raises(_Odd):
            await adraw("a cat")
    assert ends(guard) == [("leg.presumed", "error")] * 2


@pytest.mark.parametrize("door", ["asgi", "asgi stream", "own route", "async client"])
async def test_pictures_are_not_read_on_the_event_loop(
    open_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    guard, loop, read = open_guard(avatars=LOOKED_AT), threading.get_ident(), []

    def elsewhere(data: bytes, *args: Any, **more: Any) -> Any:
        read.append(threading.get_ident())
        return image_header.input_image(data, *args, **more)

    monkeypatch.setattr(output, "input_image", elsewhere)
    assert await DOORS[door](guard, None) == Seen(200, picture=True)
    assert (len(read), loop in read) == (1, False)
