"""One person is one person: whichever door a name comes through, and in whatever bytes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from adapters.test_asgi import App, ask
from adapters.upstream import Upstream
from support import NOW, ORG, SURFACE, request

import policyguard
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.tasks import carried, task
from policyguard.adapters.transport import guarded
from policyguard.errors import ConfigError
from policyguard.flow.steps import Private, Record
from policyguard.guard.guard import Guard
from policyguard.request import Caller
from policyguard.store import ReviewConflict

pytestmark = pytest.mark.anyio
JSON = (b"content-type", b"application/json")
KEPT = SURFACE + "budgets: [{id: day, per: caller.user, limit: 100 requests / day}]\naudit: {prompt: encrypted}\n"
FORCED = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": 1}


async def by_header(guard: Guard, *raw: bytes, **more: Any) -> Any:
    headers = [JSON, *((b"x-user-id", value) for value in raw)]
    return await ask(PolicyGuardMiddleware(App(), guard=guard, **more), headers=headers)


def users(guard: Guard) -> list[str | None]:
    return [row.event.dimensions["user"] for row in guard.store.events(type="request.decided")]


@pytest.mark.parametrize("name", ["Zoë", "Łukasz", "山田太郎", "u1"])
async def test_every_door_knows_the_same_person_and_keeps_one_budget(
    open_guard: Callable[..., Guard], name: str
) -> None:
    guard, nfd = open_guard(avatars=KEPT), unicodedata.normalize("NFD", name)

    @task
    @guard.enforce("avatars", constants={**FORCED})  # type: ignore[arg-type]
    def draw(prompt: str) -> Any:
        return {"usage": {"input_tokens": 10, "output_tokens": 196}}

    for raw in (name.encode(), nfd.encode(), f"  {name} ".encode()):
        assert (await by_header(guard, raw)).status == 200
    await by_header(guard, caller=lambda scope: {"user": nfd})
    with policyguard.caller(user=f"{nfd} "):
        draw("a cat")
        travels = carried()
        guarded(Upstream().client(), guard, surface="avatars").images.generate(prompt="a cat")
    draw("a cat", **travels)
    guarded(Upstream().client(), guard, surface="avatars", caller=lambda: {"user": nfd}).images.generate(prompt="a cat")
    await guard.aadmit(request(), Caller(user=nfd), surface="avatars")
    assert users(guard) == [guard.vault.pseudonym("user", name)] * 9
    assert len({window.key for window in guard.store.budget_windows()}) == 1


async def test_a_header_in_latin_1_is_the_same_person(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    await by_header(guard, b"Zo\xeb")
    assert users(guard) == [guard.vault.pseudonym("user", "Zoë")]


@pytest.mark.parametrize("raw", [b"u1\x00", "u1\u200b".encode(), b"u" * 300, b"u\r\n1", "u1\u202e".encode()])
async def test_what_is_no_name_is_refused_and_is_not_taken_for_absent(
    open_guard: Callable[..., Guard], raw: bytes
) -> None:
    guard = open_guard(org=ORG.replace(", required: true", ", default: anybody"))
    assert (await by_header(guard, raw)).code == "policy_caller_missing"


async def test_a_misspelt_name_of_a_callable_stops_the_request(open_guard: Callable[..., Guard]) -> None:
    guard, app = open_guard(), App()
    door = PolicyGuardMiddleware(app, guard=guard, caller=lambda scope: {"user": "u1", "tennant": "acme"})
    with pytest.raises(ConfigError, match="did you mean `tenant`"):
        await ask(door)
    assert (app.scopes, guard.store.events()) == ([], [])


@pytest.mark.parametrize(
    ("given", "says"),
    [({"tennant": "acme"}, "did you mean `tenant`"), ({"user": 1.5}, "must be a text or a whole number")],
)
def test_the_client_says_what_is_wrong_at_once(open_guard: Callable[..., Guard], given: Any, says: str) -> None:
    from openai import BadRequestError

    upstream = Upstream()
    client = guarded(upstream.client(), open_guard(), surface="avatars", caller=lambda: given)
    with pytest.raises(BadRequestError, match=says):
        client.images.generate(prompt="a cat")
    assert upstream.requests == []


def test_an_undeclared_name_of_the_six_is_no_mistake(open_guard: Callable[..., Guard]) -> None:
    with open_guard() as guard, policyguard.caller(user="u1", engineer="ada", cohort="b"):
        guard.admit(request(), surface="avatars")
        assert users(guard) == [guard.vault.pseudonym("user", "u1")]


# ---- erased -----------------------------------------------------------------------------------------------


async def test_an_erasure_reaches_every_spelling(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=KEPT)
    for raw in ("Zoë".encode(), b"Zo\xeb", "Zoe\u0308".encode()):
        await by_header(guard, raw)
    erased = guard.store.erase("Zoe\u0308 ", why="asked", by="dpo", now=NOW)
    assert (erased.rows, erased.keys, erased.known) == (3, 1, True)


def test_an_erasure_reaches_what_an_earlier_version_kept_under_another_spelling(
    open_guard: Callable[..., Guard],
) -> None:
    guard = open_guard()
    old = guard.vault._keyed("user", "Zoë".encode().decode("latin-1"))
    kept = Private(id="prompt:dec_1", kind="prompt", subject=old, plaintext=b"a cat", keep_days=30)
    guard.store.perform(Record((), private=(kept,)), NOW)
    assert guard.store.erase("Zoë", why="asked", by="dpo", now=NOW).rows == 1
    assert guard.store.private("prompt:dec_1", by="ada", now=NOW) is None


def test_an_erasure_of_nobody_is_told_apart_from_one_of_somebody_without_anything(
    open_guard: Callable[..., Guard],
) -> None:
    with open_guard() as guard, policyguard.caller(user="u1"):
        guard.admit(request(), surface="avatars")
        who = {"why": "asked", "by": "dpo", "now": NOW}
        assert guard.store.erase("u1", **who).known  # type: ignore[arg-type]
        for _ in range(2):  # that somebody tried is in the record, and makes nobody known
            assert not guard.store.erase("nobody", **who).known  # type: ignore[arg-type]


# ---- reviewed ---------------------------------------------------------------------------------------------

REVIEWED = SURFACE + "review: {required: true, reviewers: [group:trust]}\n"


@pytest.mark.parametrize(
    "asked",
    ["ada@example.com", "Ada@example.com.", "ａｄａ@example.com", "аdа@example.com", "ada@example\u034f.com"],
)
@pytest.mark.parametrize("as_", ["user", "engineer"])
def test_nobody_approves_a_request_of_their_own_in_any_spelling(
    open_guard: Callable[..., Guard], asked: str, as_: str
) -> None:
    guard = open_guard(avatars=REVIEWED, org=ORG.replace("feature: {}", "feature: {}\n  engineer: {}"))
    values = {"user": "u1", as_: asked}
    held: Any = guard.admit(request(), Caller.of(values), surface="avatars")
    with pytest.raises(ReviewConflict) as conflict:
        guard.store.vote(held.review_id, "ada@example.com", "approve", "", NOW)
    assert conflict.value.code == "own_request"
    assert guard.store.vote(held.review_id, "Grace@example.com ", "approve", "", NOW).state.value == "approved"


def test_two_spellings_are_one_reviewer(open_guard: Callable[..., Guard]) -> None:
    twice = ORG.replace("[ada@example.com, grace@example.com]", "[ada@example.com, Ada@example.com., 'Zoe\u0308']")
    guard = open_guard(avatars=REVIEWED, org=twice)
    assert guard.policies.surfaces["avatars"].review.reviewers == ("ada@example.com", "Zoë")
    with closing(guard), pytest.raises(policyguard.PolicyError, match="3 approvals are needed, and there are 2"):
        open_guard(avatars=REVIEWED.replace("required", "approvals: 3, required"), org=twice)


# ---- paused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "name"), [("user", "Zoe\u0308 "), ("tenant", "Cafe\u0301")])
def test_a_pause_reaches_every_spelling(open_guard: Callable[..., Guard], scope: str, name: str) -> None:
    guard = open_guard()
    guard.store.pause(scope, name, why="x", by="ada", now=NOW)
    who = {"user": "u1", scope: unicodedata.normalize("NFC", name)}
    answer: Any = guard.admit(request(), Caller.of(who), surface="avatars")
    assert answer.code == "policy_paused"
