"""Over both lines to OpenAI: the SDK, and the upstream of the proxy."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import anyio
import httpx2
import pytest
from moderation.upstream import CANARY, DATED, MODEL, Side, answer, ask, error, image, is_image, moderator, ok
from moderation.upstream import step as question
from patience import HANGS_S

from policyguard.moderation.answers import MAX_IMAGE_BYTES
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, Verdict

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("line")]


def unavailable(verdict: Verdict) -> set[str]:
    return {c for c in CATEGORIES if verdict.score(c) is None}


# ---- what is sent -----------------------------------------------------------------------------------------


async def test_the_prompt_goes_out_once_as_it_is_to_the_model_of_the_policy(side: Side) -> None:
    seen: list[httpx2.Request] = []
    made = moderator(lambda request: seen.append(request) or ok(answer(request)))  # type: ignore[func-returns-value]
    verdict = await ask(side, made, question(model=DATED))
    assert [request.url.path for request in seen] == ["/v1/moderations"]
    assert [json.loads(request.content) for request in seen] == [{"model": DATED, "input": f"a cat {CANARY}"}]
    assert (verdict.calls, verdict.request_ids, verdict.model) == (1, ("req_1",), DATED)


async def test_each_image_goes_out_in_a_call_of_its_own(side: Side) -> None:
    inputs: list[Any] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        inputs.append(json.loads(request.content)["input"])
        return ok(answer(request), request_id=f"req_{len(inputs)}")

    verdict = await ask(side, moderator(handler), question(image(b"one"), image(b"two")))
    urls = sorted(sent[0]["image_url"]["url"] for sent in inputs if not isinstance(sent, str))
    assert urls == ["data:image/png;base64,b25l", "data:image/png;base64,dHdv"]
    assert [len(sent) for sent in inputs if not isinstance(sent, str)] == [1, 1]
    assert (verdict.calls, sorted(verdict.request_ids), unavailable(verdict)) == (3, ["req_1", "req_2", "req_3"], set())


async def test_the_calls_of_one_request_run_at_the_same_time(side: Side) -> None:
    together = threading.Barrier(3)

    def handler(request: httpx2.Request) -> httpx2.Response:
        together.wait(HANGS_S)
        return ok(answer(request))

    arrived = anyio.Event()
    waiting = 0

    async def ahandler(request: httpx2.Request) -> httpx2.Response:
        nonlocal waiting
        waiting += 1
        if waiting == 3:
            arrived.set()
        await arrived.wait()
        return ok(answer(request))

    made = moderator(handler if side == "sync" else ahandler)
    verdict = await ask(side, made, question(image(), image()))
    assert (verdict.error, unavailable(verdict)) == (None, set())


async def test_an_image_over_20_mb_is_not_sent_and_leaves_its_categories_incomplete(side: Side) -> None:
    seen: list[bool] = []
    made = moderator(lambda request: seen.append(is_image(request)) or ok(answer(request)))  # type: ignore[func-returns-value]
    verdict = await ask(side, made, question(image(bytes(MAX_IMAGE_BYTES + 1))))
    assert (seen, verdict.calls, verdict.error) == ([False], 1, "image_too_large")
    assert unavailable(verdict) == verdict.incomplete == frozenset(IMAGE_CATEGORIES)
    assert verdict.scores["sexual"] == 0.01  # of the prompt: a lower bound


# ---- what is read -----------------------------------------------------------------------------------------


async def test_the_highest_score_of_prompt_and_images_counts(side: Side) -> None:
    pictures = {"b25l": 0.4, "dHdv": 0.9}

    def handler(request: httpx2.Request) -> httpx2.Response:
        if not is_image(request):
            return ok(answer(request, {"violence": 0.5, "hate/threatening": 0.25}))
        sent = json.loads(request.content)["input"][0]["image_url"]["url"]
        return ok(answer(request, {"violence": pictures[sent.rsplit(",", 1)[1]]}))

    verdict = await ask(side, moderator(handler), question(image(b"one"), image(b"two")))
    assert (verdict.score("violence"), verdict.score("hate/threatening")) == (0.9, 0.25)


async def test_a_category_that_only_text_can_have_is_not_assessed_by_an_image(side: Side) -> None:
    made = moderator(lambda request: ok(answer(request)))
    verdict = await ask(side, made, question(image(), prompt=False))
    assert unavailable(verdict) == set(CATEGORIES) - frozenset(IMAGE_CATEGORIES)
    assert set(verdict.scores) == frozenset(IMAGE_CATEGORIES)


async def test_an_image_category_that_was_not_looked_at_is_incomplete(side: Side) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        body = answer(request)
        if is_image(request):
            body["results"][0]["category_applied_input_types"]["violence"] = ["text"]
        return ok(body)

    verdict = await ask(side, moderator(handler), question(image()))
    assert (unavailable(verdict), verdict.error) == ({"violence"}, "partial")


@pytest.mark.parametrize("change", ["missing", "null"])
async def test_a_missing_or_null_score_is_not_assessed_and_the_others_are(side: Side, change: str) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        body = answer(request, {"illicit": None}, categories={**dict.fromkeys(CATEGORIES, False), "illicit": None})
        if change == "missing":
            del body["results"][0]["category_scores"]["illicit"]
        return ok(body)

    verdict = await ask(side, moderator(handler), question())
    assert (unavailable(verdict), verdict.error) == ({"illicit"}, "partial")


async def test_a_null_flag_beside_a_score_changes_nothing(side: Side) -> None:
    made = moderator(lambda request: ok(answer(request, categories={"illicit": None, "illicit/violent": None})))
    verdict = await ask(side, made, question())
    assert (unavailable(verdict), verdict.error) == (set(), None)


@pytest.mark.parametrize("score", ["-0.1", "1.01", "NaN", "Infinity", "1e999", '"0.1"', "true", "[]", "{}"])
async def test_a_score_that_is_none_spoils_the_whole_answer(side: Side, score: str) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        return ok(json.dumps(answer(request, {"sexual": "@"})).replace('"@"', score).encode())

    verdict = await ask(side, moderator(handler), question())
    assert (verdict.scores, unavailable(verdict), verdict.error) == ({}, set(CATEGORIES), "malformed")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>gateway</html>",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"results": null}',
        b'{"results": []}',
        b'{"results": [1]}',
        b'{"results": [{}, {}]}',
        b'{"results": [{"category_scores": []}]}',
        b'{"results": [{"category_scores": {}}]}',
        b'{"results": [{"category_scores": {"sexual": 0}, "category_applied_input_types": []}]}',
        b"[" * 100_000,
        b" " * 2_000_000,
    ],
    ids=lambda body: body[:24],
)
async def test_nonsense_is_unavailable(side: Side, body: bytes) -> None:
    verdict = await ask(side, moderator(lambda request: ok(body)), question())
    assert (verdict.scores, unavailable(verdict), verdict.error) == ({}, set(CATEGORIES), "malformed")


async def test_a_body_without_end_is_cut_off(side: Side) -> None:
    class Endless(httpx2.SyncByteStream, httpx2.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b" " * 65_536

        async def __aiter__(self) -> Any:
            while True:
                await anyio.lowlevel.checkpoint()
                yield b" " * 65_536

    made = moderator(lambda request: httpx2.Response(200, stream=Endless()))
    assert (await ask(side, made, question())).error == "malformed"


async def test_two_results_for_one_question_are_nonsense(side: Side) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        body = answer(request)
        return ok({**body, "results": body["results"] * 2})

    assert (await ask(side, moderator(handler), question())).error == "malformed"


@pytest.mark.parametrize("model", [None, 7, "x" * 1000, "two\nlines"])
async def test_a_strange_model_name_is_not_repeated(side: Side, model: Any) -> None:
    made = moderator(lambda request: ok({**answer(request), "model": model}))
    verdict = await ask(side, made, question())
    assert (verdict.model, verdict.error) == (MODEL, None)


# ---- when it breaks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "word", "calls"),
    [
        (400, "refused", 1),
        (401, "status_401", 1),
        (404, "status_404", 1),
        (413, "refused", 1),
        (429, "rate_limited", 2),
        (500, "status_500", 2),
        (503, "status_503", 2),
    ],
)
async def test_an_error_is_one_word_and_is_asked_again_only_where_that_helps(
    side: Side, status: int, word: str, calls: int
) -> None:
    seen: list[httpx2.Request] = []
    made = moderator(lambda request: seen.append(request) or error(status))  # type: ignore[func-returns-value]
    verdict = await ask(side, made, question())
    assert (verdict.error, verdict.calls, len(seen)) == (word, calls, calls)
    assert (verdict.request_ids, unavailable(verdict)) == ((f"req_{status}",), set(CATEGORIES))


async def test_one_retry_after_a_stumble_is_counted(side: Side) -> None:
    answers = iter([error(500), None])
    made = moderator(lambda request: next(answers) or ok(answer(request)))
    verdict = await ask(side, made, question())
    assert (verdict.error, verdict.calls, unavailable(verdict)) == (None, 2, set())


async def test_a_lost_connection_is_tried_once_more(side: Side) -> None:
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        raise httpx2.ConnectError(CANARY)

    verdict = await ask(side, moderator(handler), question())
    assert (verdict.error, verdict.calls, len(seen)) == ("connection", 2, 2)


async def test_a_connection_lost_within_the_body_is_a_lost_connection(side: Side) -> None:
    class Cut(httpx2.SyncByteStream, httpx2.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b'{"results": ['
            raise httpx2.ReadError("cut")

        async def __aiter__(self) -> Any:
            yield b'{"results": ['
            raise httpx2.ReadError("cut")

    verdict = await ask(side, moderator(lambda request: httpx2.Response(200, stream=Cut())), question())
    assert (verdict.error, verdict.calls) == ("connection", 2)


@pytest.mark.parametrize("headers", [{"x_should_retry": "false"}, {"retry_after": "3600"}])
async def test_a_server_that_does_not_want_to_be_asked_again_is_not(side: Side, headers: dict[str, str]) -> None:
    seen: list[httpx2.Request] = []
    made = moderator(lambda request: seen.append(request) or error(429, **headers))  # type: ignore[func-returns-value]
    verdict = await ask(side, made, question())
    assert (verdict.error, len(seen)) == ("rate_limited", 1)


async def test_a_failed_part_leaves_the_scores_of_the_others_as_lower_bounds(side: Side) -> None:
    made = moderator(lambda request: error(500) if is_image(request) else ok(answer(request, {"violence": 0.75})))
    verdict = await ask(side, made, question(image()))
    assert (verdict.scores["violence"], verdict.score("violence"), verdict.score("hate")) == (0.75, None, 0.01)
    assert (verdict.error, verdict.incomplete) == ("status_500", frozenset(IMAGE_CATEGORIES))


async def test_the_time_limit_is_for_all_of_it_and_what_came_in_time_counts(side: Side) -> None:
    over = threading.Event()

    def handler(request: httpx2.Request) -> httpx2.Response:
        if is_image(request):
            over.wait(HANGS_S)
        return ok(answer(request))

    async def ahandler(request: httpx2.Request) -> httpx2.Response:
        if is_image(request):
            await anyio.sleep_forever()
        return ok(answer(request))

    made = moderator(handler if side == "sync" else ahandler)
    started = monotonic()
    await ask(side, made, question())
    took_s = monotonic() - started
    verdict = await ask(side, made, question(image(), timeout_s=0.1 + 20 * took_s))
    over.set()  # the answer came although the image's never does
    assert (verdict.error, verdict.incomplete, verdict.score("hate")) == ("timeout", frozenset(IMAGE_CATEGORIES), 0.01)


async def test_a_timeout_of_the_client_is_a_timeout_and_is_not_tried_again(side: Side) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout(CANARY)

    verdict = await ask(side, moderator(handler), question())
    assert (verdict.error, verdict.calls) == ("timeout", 1)


async def test_no_time_at_all_is_a_timeout(side: Side) -> None:
    made = moderator(lambda request: ok(answer(request)))
    verdict = await ask(side, made, question(timeout_s=0))
    assert (verdict.error, unavailable(verdict)) == ("timeout", set(CATEGORIES))


async def test_a_fault_that_nobody_foresaw_is_a_word_too(side: Side) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise RuntimeError(CANARY)

    verdict = await ask(side, moderator(handler), question())
    assert verdict.error is not None
    assert CANARY not in repr(verdict)


async def test_cancelling_the_caller_is_not_swallowed() -> None:
    async def handler(request: httpx2.Request) -> httpx2.Response:
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.move_on_after(0.05) as scope:
        await moderator(handler).amoderate(question(timeout_s=60))
    assert scope.cancelled_caught


async def test_nothing_of_the_prompt_is_logged(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await ask(side, moderator(lambda request: error(500)), question(image()))
    assert CANARY not in caplog.text
