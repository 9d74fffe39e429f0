"""The same attempts at the OpenAI client, and those of code inside: its options, its tickets, somebody's review."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from acceptance.doors import KEY
from acceptance.forms import png
from acceptance.greedy import Greedy, Said
from acceptance.judge import AVATARS, MARKETING, UNTRUSTING, Judge, check_record
from acceptance.tricks import BATCH, EVIL, FINE, IMAGE_TOOL, PROMPT, TRICKS, Trick
from openai import AsyncOpenAI, OpenAI
from support import write_policies
from tool_bodies import MAIN, PRICES

import policyguard
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.transport import guarded
from policyguard.guard.guard import Guard
from policyguard.moderation.openai import OpenAIModerator
from policyguard.sandbox.server import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.anyio]


@pytest.fixture
def greedy() -> Greedy:
    return Greedy()


@pytest.fixture
def url(greedy: Greedy) -> Iterator[str]:
    with Server(greedy) as server:
        yield f"{server.url}/v1"


@pytest.fixture
def open_guard(tmp_path: Path, url: str) -> Iterator[Callable[..., Guard]]:
    opened: list[Guard] = []

    def make(avatars: str = AVATARS) -> Guard:
        texts = {"avatars": avatars, "marketing": MARKETING, "prices": PRICES}
        folder = write_policies(tmp_path / "policies", org=UNTRUSTING, **texts)
        moderator = OpenAIModerator(base_url=url, api_key=KEY)
        opened.append(Guard.open(folder, store=f"sqlite:///{tmp_path}/record.sqlite3", moderator=moderator))
        return opened[-1]

    yield make
    for guard in opened:
        guard.close()


BEARER = ("authorization", f"Bearer {KEY}")


def judge_of(guard: Guard, greedy: Greedy) -> Judge:
    return Judge(greedy, guard.vault.safety_identifier("u1"))


def check(guard: Guard, judge: Judge, url: str) -> None:
    counts = httpx2.get(f"{url[:-3]}/sandbox/requests", trust_env=False).json()
    events = [row.event for row in guard.store.events(limit=10_000)]
    check_record(events, judge, guard.vault.pseudonym("user", "u1"), counts["generations"])


# ---- what goes over the wire ------------------------------------------------------------------------------


def test_nothing_gets_past_the_client(open_guard: Callable[..., Guard], greedy: Greedy, url: str) -> None:
    guard = open_guard()
    judge = judge_of(guard, greedy)
    with guarded(OpenAI(api_key=KEY, base_url=url), guard, surface="avatars", caller=lambda: {"user": "u1"}) as client:
        tried = {name: judge.problem(posted(client, url, trick), trick.served) for name, trick in TRICKS.items()}
        for name, attempt in ATTEMPTS.items():
            with suppress(openai.APIStatusError):
                attempt(client)
            tried[name] = judge.problem([], served=True)
    assert len(tried) >= 60
    assert "\n".join(f"{name}: {problem}" for name, problem in tried.items() if problem) == ""
    check(guard, judge, url)


def posted(client: OpenAI, url: str, trick: Trick) -> list[Said]:
    """By the HTTP client of the SDK, which is below everything that the SDK can say; none where that refuses itself."""
    place = httpx2.URL(url)
    try:
        target = place.copy_with(raw_path=trick.target.encode("latin-1"))
        request = httpx2.Request(trick.method, target, headers=[BEARER, *trick.headers], content=trick.body)
        answer = client._client.send(request)
    except (httpx2.InvalidURL, httpx2.LocalProtocolError):
        return []
    return [Said(answer.status_code, dict(answer.headers), answer.content)]


# ---- what the SDK can say ---------------------------------------------------------------------------------

ASK: Any = {name: EVIL[name] for name in ("prompt", "n", "quality", "moderation")}
FILE = ("a.png", png(), "image/png")
TOOL: Any = {"model": MAIN, "tools": [IMAGE_TOOL]}
ATTEMPTS: Mapping[str, Callable[[OpenAI], object]] = {
    "moderation in extra_body": lambda c: c.images.generate(prompt="a cat", extra_body={"moderation": "low"}),
    "moderation in an edit's extra_body": lambda c: c.images.edit(
        prompt="a hat", image=FILE, extra_body={"moderation": "low"}
    ),
    "n in extra_body": lambda c: c.images.generate(prompt="a cat", n=1, extra_body={"n": 9}),
    "a prompt in extra_body": lambda c: c.images.generate(prompt="a cat", extra_body={"prompt": PROMPT}),
    "moderation in extra_query": lambda c: c.images.generate(prompt="a cat", extra_query={"moderation": "low"}),
    "n in a default query": lambda c: c.with_options(default_query={"n": 9}).images.generate(prompt="a cat"),
    "another type in extra_headers": lambda c: c.images.generate(**ASK, extra_headers={"content-type": "text/plain"}),
    "another method in extra_headers": lambda c: c.get(
        "/images/generations", options={"headers": {"X-HTTP-Method-Override": "POST"}}, cast_to=object
    ),
    "a user in default headers": lambda c: c.with_options(default_headers={"x-user-id": "boss"}).images.generate(
        prompt="a cat"
    ),
    "a copy": lambda c: c.copy().images.generate(**ASK),
    "a copy of a copy": lambda c: c.copy(api_key="k").with_options(max_retries=2).images.generate(**ASK),
    "another organisation": lambda c: c.copy(organization="rich", project="rich").images.generate(prompt="a cat"),
    "another base address": lambda c: c.with_options(base_url=f"{c.base_url}//x/..").images.generate(**ASK),
    "the base address of the host": lambda c: c.with_options(base_url=str(c.base_url)[:-3]).post(
        "/v1/images//generations", body=EVIL, cast_to=object
    ),
    "a raw answer": lambda c: c.with_raw_response.images.generate(**ASK),
    "a streamed answer": lambda c: c.images.with_streaming_response.generate(**ASK).__enter__(),
    "a raw post": lambda c: c.post("/images/generations", body=EVIL, cast_to=object),
    "a raw post of a whole address": lambda c: c.post(f"{c.base_url}images/generations", body=EVIL, cast_to=object),
    "a raw post of bytes": lambda c: c.post("/images/generations", content=b'{"prompt": "a", "n": 9}', cast_to=object),
    "a raw patch": lambda c: c.patch("/images/generations", body=EVIL, cast_to=object),
    "a prompt in a list": lambda c: c.images.generate(prompt=[PROMPT]),  # type: ignore[arg-type]
    "a stream": lambda c: list(c.images.generate(**ASK, stream=True)),
    "a stream with too many parts": lambda c: list(c.images.generate(prompt="a", stream=True, partial_images=3)),
    "variations": lambda c: c.post("/images/variations", body={"n": 9}, files={"image": FILE}, cast_to=object),
    "a batch": lambda c: c.batches.create(**BATCH),  # type: ignore[arg-type]
    "a file and its batch": lambda c: c.batches.create(
        endpoint="/v1/images/generations",
        completion_window="24h",
        input_file_id=c.files.create(file=("x.jsonl", b"{}"), purpose="batch").id,
    ),
    "the tool": lambda c: c.responses.create(input=PROMPT, **TOOL),
    "the tool in extra_body": lambda c: c.responses.create(
        model=MAIN, input=PROMPT, extra_body={"tools": [IMAGE_TOOL]}
    ),
    "the tool parsed": lambda c: c.responses.parse(input=PROMPT, **TOOL),
    "the tool streamed": lambda c: c.responses.stream(input=PROMPT, **TOOL).__enter__(),
    "the tool in the background": lambda c: c.responses.create(input="a cat", background=True, **TOOL),
    "the tool of an earlier response": lambda c: c.responses.create(model=MAIN, input="go", previous_response_id="r"),
    "the tool of a stored prompt": lambda c: c.responses.create(model=MAIN, prompt={"id": "pmpt_1"}),
    "the tool elsewhere": lambda c: c.post("/threads/runs", body={"tools": [IMAGE_TOOL]}, cast_to=object),
    "the tool of a chat": lambda c: c.chat.completions.create(
        model=MAIN, messages=[{"role": "user", "content": PROMPT}], extra_body={"tools": [IMAGE_TOOL]}
    ),
    "an answer that moves elsewhere": lambda c: c.post("/moved", body=EVIL, cast_to=object),
    "a move of what was decided": lambda c: c.images.generate(prompt="move me"),
}


# ---- one ticket -------------------------------------------------------------------------------------------

MODEL = "gpt-image-2-2026-04-21"
INSIDE: Mapping[str, Callable[[AsyncOpenAI], Any]] = {
    "the same again": lambda c: [c.images.generate(prompt="a cat"), c.images.generate(prompt="a cat")],
    "three more": lambda c: [c.images.generate(prompt="a cat") for _ in range(4)],
    "more images": lambda c: [c.images.generate(prompt="a cat", n=2)],
    "more images than allowed": lambda c: [c.images.generate(prompt="a cat", n=9)],
    "a larger size": lambda c: [c.images.generate(prompt="a cat", size="1536x1024")],
    "a better quality": lambda c: [c.images.generate(prompt="a cat", quality="medium")],
    "another model": lambda c: [c.images.generate(prompt="a cat", model="gpt-image-2.5-flare-2026-09-08")],
    "a harmful prompt": lambda c: [c.images.generate(prompt=PROMPT)],
    "a harmful prompt behind a harmless one": lambda c: [
        c.images.generate(prompt="a cat"),
        c.images.generate(prompt=PROMPT),
    ],
    "less moderation": lambda c: [c.images.generate(prompt="a cat", moderation="low")],
    "an edit": lambda c: [c.images.edit(prompt="a cat", image=FILE)],
    "the tool": lambda c: [c.responses.create(input="a cat", **TOOL)],
    "a stream": lambda c: [c.images.generate(prompt="a cat", stream=True)],
    "a stream with parts": lambda c: [c.images.generate(prompt="a cat", stream=True, partial_images=2)],
    "an unknown parameter": lambda c: [c.images.generate(prompt="a cat", extra_body={"complexity": "high"})],
    "a batch": lambda c: [c.batches.create(**BATCH)],  # type: ignore[arg-type]
}


@pytest.mark.parametrize("late", [False, True], ids=["in time", "after the answer"])
@pytest.mark.parametrize("attempt", INSIDE)
async def test_one_ticket_is_one_picture_of_what_was_decided(
    open_guard: Callable[..., Guard], greedy: Greedy, url: str, attempt: str, late: bool
) -> None:
    """As many images are charged, at least, as were made, whatever the code inside an admitted request does."""
    guard = open_guard(AVATARS + "budgets: [{id: images, limit: 100 images / day}]\n")
    judge = judge_of(guard, greedy)
    client = guarded(AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0), guard, surface="avatars")

    async def act() -> None:
        for call in INSIDE[attempt](client):
            with suppress(openai.APIStatusError):
                answer = await call
                if isinstance(answer, openai.AsyncStream):
                    await answer.close()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not late:
            await act()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
        if late:
            await act()

    with policyguard.caller(user="u1"):
        door = PolicyGuardMiddleware(app, guard=guard)
        async with client, httpx2.AsyncClient(transport=httpx2.ASGITransport(door), base_url="http://a") as outside:
            assert (await outside.post("/v1/images/generations", json=FINE)).status_code == 200
    assert judge.problem([], served=True) is None
    counts = httpx2.get(f"{url[:-3]}/sandbox/requests", trust_env=False).json()
    (window,) = guard.store.budget_windows()
    assert (window.spent >= counts["images"], window.reserved) == (True, 0)
    legs = [row.event for row in guard.store.events(limit=100) if row.event.type.startswith("leg.")]
    assert len(legs) >= counts["generations"] + late  # what came too late did not run on the ticket


# ---- somebody's review ------------------------------------------------------------------------------------

WANTED = {"prompt": "a badge"}
REVIEWED = AVATARS + "review: {required: true, reviewers: [group:trust]}\n"
STOLEN: Mapping[str, dict[str, Any]] = {
    "by another user": {"user": "u1"},
    "for another prompt": {"json": {"prompt": "a badge for me"}},
    "for more images": {"json": {**WANTED, "n": 2}},
    "for another quality": {"json": {**WANTED, "quality": "medium"}},
    "for a stream": {"json": {**WANTED, "stream": True}},
    "for an edit": {"url": "/v1/images/edits", "data": WANTED, "files": {"image": FILE}},
    "for the tool": {"url": "/v1/responses", "json": {"input": "a badge", **TOOL}},
    "for what is denied": {"json": {**WANTED, "n": 9}},
    "twice in the headers": {"more": 2},
    "of another surface": {"url": "/m/v1/images/generations", "json": {**WANTED, "n": 9}},
}


async def test_somebody_elses_review_opens_nothing(open_guard: Callable[..., Guard], greedy: Greedy) -> None:
    guard = open_guard(REVIEWED)
    door = PolicyGuardMiddleware(greedy, guard=guard, caller=lambda scope: {"user": _session(scope)})
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(door), base_url="http://a") as client:

        async def ask(review: str | None = None, user: str = "u2", more: int = 1, **request: Any) -> httpx2.Response:
            headers = [("x-session", user), BEARER]
            headers += [("x-policyguard-review", review)] * more if review else []
            body = {} if request.keys() & {"json", "data"} else {"json": WANTED}
            return await client.post(**{"url": "/v1/images/generations", **body, **request}, headers=headers)

        item = (await ask()).json()["error"]["policy"]["review_id"]
        early = await ask(item)
        guard.store.vote(item, "ada@example.com", "approve", "", datetime.now(UTC))
        stolen = {name: (await ask(item, **trick)).status_code for name, trick in STOLEN.items()}
        assert (early.status_code, [status for status in stolen.values() if status < 400]) == (403, [])
        assert greedy.reached == []
        statuses = [(await ask(item)).status_code for _ in range(3)]
    assert (statuses, len(greedy.reached)) == ([200, 403, 403], 1)


def _session(scope: Any) -> str:
    return next(value.decode() for name, value in scope["headers"] if name == b"x-session")
