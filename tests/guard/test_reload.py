"""A guard whose policies change under it: requests are decided by one set each, and nothing stays behind."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from patience import until
from policy.mounted import Mounted
from support import ORG, SURFACE, caller, request, write_policies

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.decision import Admitted
from policyguard.errors import PolicyError
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.policy import watch as watching
from policyguard.policy.load import load

STRICT = SURFACE.replace("max: 2", "max: 1")
BROKEN = SURFACE + "moderaton: {}\n"
SWAPS = 200


def files(avatars: str, org: str = ORG) -> dict[str, str]:
    return {"org.yaml": org, "avatars.yaml": avatars}


@pytest.fixture
def open_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Guard]]:
    monkeypatch.setattr(watching, "REST_S", 0.001)
    opened: list[Guard] = []

    def make(folder: Path, **more: Any) -> Guard:
        store, moderator = f"sqlite:///{tmp_path / 'record.sqlite3'}", ScriptedModerator()
        opened.append(Guard.open(folder, store=store, moderator=moderator, **{"watch": 0.001, **more}))
        return opened[-1]

    yield make
    for guard in opened:
        guard.close()


def digest_of(folder: Path, avatars: str) -> str:
    return load(write_policies(folder, avatars=avatars)).surfaces["avatars"].digest


# ---- under load -------------------------------------------------------------------------------------------


def test_every_request_is_decided_by_one_good_set_while_the_folder_is_swapped(
    tmp_path: Path, open_guard: Callable[..., Guard]
) -> None:
    good = {digest_of(tmp_path / name, text): text for name, text in (("a", SURFACE), ("b", STRICT))}
    mounted = Mounted(tmp_path / "policies", files(SURFACE))
    guard = open_guard(mounted.folder)
    stop, decided, failed = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = guard.admit(request(n=2), caller(), surface="avatars")
                decided.append((answer.decision.policy_digest, isinstance(answer, Admitted)))
            except Exception as error:
                failed.append(error)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    stale = 0
    for number in range(SWAPS):
        mounted.swap(files((SURFACE, STRICT, BROKEN)[number % 3]))
        before = len(decided)
        until(lambda before=before: len(decided) > before + 2)
        stale += guard.policies_state.stale_since is not None
    mounted.swap(files(STRICT))
    until(lambda: guard.policies_state.stale_since is None)
    until(lambda: good.get(guard.policies.surfaces["avatars"].digest) == STRICT)
    stop.set()
    for thread in asking:
        thread.join()
    assert failed == []
    assert dict(decided) == {  # each set's own answer, and no third
        digest: text == SURFACE for digest, text in good.items()
    }
    assert len(set(decided)) == 2
    assert 0 < stale < SWAPS


# ---- one request, one set ---------------------------------------------------------------------------------


def test_a_request_whose_body_is_still_coming_keeps_the_set_it_came_under(
    tmp_path: Path, open_guard: Callable[..., Guard]
) -> None:
    """The new set has no such route any more; the request was read by the old one and is decided by it."""
    folder = write_policies(tmp_path / "policies", avatars=SURFACE)
    guard = open_guard(folder, watch=False)
    before = guard.policies.surfaces["avatars"].digest
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it is refused")

    async def receive() -> Any:
        (folder / "avatars.yaml").write_text(SURFACE.replace("POST /v1/", "POST /v2/") + "reasons_on_wire: false\n")
        guard.reload()
        return {"type": "http.request", "body": b'{"prompt": "a cat", "n": 3}', "more_body": False}

    async def send(message: Any) -> None:
        seen.append(message)

    headers = [(b"content-type", b"application/json"), (b"x-user-id", b"u1")]
    scope = {"type": "http", "method": "POST", "path": "/v1/images/generations", "headers": headers}
    door = PolicyGuardMiddleware(app, guard=guard)
    anyio.run(door, {**scope, "client": ("127.0.0.1", 1), "query_string": b""}, receive, send)
    assert seen[0]["status"] == 400
    policy = json.loads(seen[1]["body"])["error"]["policy"]
    assert [reason["id"] for reason in policy["reasons"]] == ["request.n"]
    (row,) = guard.store.events(decision_id=policy["decision_id"])
    assert row.event.body["policy_digest"] == before


# ---- following --------------------------------------------------------------------------------------------


def test_the_first_request_of_either_driver_finds_what_changed_since_the_guard_was_opened(
    tmp_path: Path, open_guard: Callable[..., Guard]
) -> None:
    folder = write_policies(tmp_path / "policies", avatars=SURFACE)
    sync, driven = open_guard(folder), open_guard(folder)
    (folder / "avatars.yaml").write_text(STRICT)
    answers = [sync.admit(request(n=2), caller(), surface="avatars")]

    async def ask() -> None:
        answers.append(await driven.aadmit(request(n=2), caller(), surface="avatars"))

    anyio.run(ask)
    assert [[reason.id for reason in answer.decision.reasons] for answer in answers] == [["request.n"]] * 2


def test_the_middleware_follows_from_the_start_of_the_app(tmp_path: Path, open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(write_policies(tmp_path / "policies", avatars=SURFACE))
    reached: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append((scope["type"], guard._watch.following))

    anyio.run(PolicyGuardMiddleware(app, guard=guard), {"type": "lifespan"}, None, None)
    assert reached == [("lifespan", True)]


def test_without_watching_only_reload_changes_the_policies(tmp_path: Path, open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(write_policies(tmp_path / "policies", avatars=SURFACE), watch=False)
    (tmp_path / "policies/avatars.yaml").write_text(STRICT)
    assert isinstance(guard.admit(request(n=2), caller(), surface="avatars"), Admitted)
    assert following() == []
    assert guard.reload().surfaces["avatars"].request.max_n == 1


def test_a_set_whose_moderator_is_not_there_is_refused_like_a_bad_edit(
    tmp_path: Path, open_guard: Callable[..., Guard]
) -> None:
    folder = write_policies(tmp_path / "policies", avatars=SURFACE)
    guard = open_guard(folder)
    guard._moderator.models = frozenset({"omni-moderation-latest"})  # type: ignore[misc]
    (folder / "avatars.yaml").write_text(SURFACE + "moderation: {model: keyword}\n")
    with pytest.raises(PolicyError):
        guard.reload()
    (problem,) = guard.policies_state.problems
    assert (problem.code, problem.path, problem.hint) == (
        "PG505",
        "moderation",
        "the given moderator serves `omni-moderation-latest` only",
    )
    assert guard.policies.surfaces["avatars"].moderation.model == "omni-moderation-latest"


# ---- the end ----------------------------------------------------------------------------------------------


def following() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "policyguard-policies"]


def test_a_closed_guard_and_a_forgotten_one_leave_no_thread(tmp_path: Path, open_guard: Callable[..., Guard]) -> None:
    folder = write_policies(tmp_path / "policies", avatars=SURFACE)
    closed = open_guard(folder)
    closed.admit(request(), caller(), surface="avatars")
    closed.close()
    assert following() == []
    forgotten = Guard.open(
        folder, store=f"sqlite:///{tmp_path / 'f.sqlite3'}", moderator=ScriptedModerator(), watch=0.01
    )
    forgotten.admit(request(), caller(), surface="avatars")
    forgotten.store.close()
    assert len(following()) == 1
    del forgotten
    gc.collect()
    until(lambda: following() == [])
