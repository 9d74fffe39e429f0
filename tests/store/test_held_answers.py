"""Held answers, on each engine: one transaction with the end of the leg, handed out once approved, else destroyed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from store.books import NOW, VAULT, rows, types
from support import ORG, SURFACE, write_policies

from policyguard.decision import Held, Refused, Released
from policyguard.errors import StoreUnavailable
from policyguard.flow.inspect import unpacked
from policyguard.flow.states import ReviewState
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.policy.load import load
from policyguard.request import Answer, Caller, ImageRequest, InputImage, Outcome, Output, Usage
from policyguard.store import Store

POLICY = SURFACE + (
    "moderation: {check: [prompt, input_images, output_images], review_at: {sexual: 0.3}}\n"
    "review: {reviewers: [group:trust], expires: 4h}\n"
    "audit: {retain: {artefacts: 1d}}\n"
)
BODY = b"the answer as it came"
OUTPUT = Output(
    images=(InputImage(b"a picture", "image/png"),),
    answer=Answer(status=200, content_type="application/json", body=BODY),
)
ASKED = ImageRequest(prompt="a cat", n=1)
USED = Outcome(status=200, usage=Usage(output_image_tokens=196))


class Door:
    """A guard over a store, with a clock that can be turned."""

    def __init__(self, folder: Path, store: Store, policy: str = POLICY) -> None:
        self.now = NOW
        self.store = store
        self.moderator = ScriptedModerator(output_scores={"sexual": 0.4})
        policies = load(write_policies(folder, org=ORG, avatars=policy))
        self.guard = Guard(policies, store=store, moderator=self.moderator, vault=VAULT, clock=lambda: self.now)

    def inspect(self) -> Any:
        admitted: Any = self.guard.admit(ASKED, Caller(user="u1"), surface="avatars")
        self.guard.sent(admitted.ticket)
        return self.guard.inspect(admitted.ticket, USED, OUTPUT)

    def held(self) -> str:
        said = self.inspect()
        assert isinstance(said, Held)
        return said.review_id

    def resumed(self, review_id: str, asked: ImageRequest = ASKED, user: str = "u1") -> Any:
        return self.guard.admit(asked, Caller(user=user), surface="avatars", review_id=review_id)

    def vote(self, review_id: str, verdict: Any = "approve") -> None:
        self.store.vote(review_id, "ada@example.com", verdict, "", self.now)

    def state(self, review_id: str) -> ReviewState:
        item = self.store.review(review_id)
        assert item is not None
        return item.state

    def stored(self, review_id: str) -> bytes | None:
        return self.store.private(f"output:{review_id}", by="ada@example.com", now=self.now)


@pytest.fixture
def door(tmp_path: Path, store: Store) -> Door:
    return Door(tmp_path / "policies", store)


def test_the_leg_ends_with_what_was_found_and_what_is_held(door: Door, url: str) -> None:
    review_id = door.held()
    assert types(door.store) == ["request.decided", "leg.settled", "output.inspected", "review.held"]
    assert rows(url, "SELECT kind, state FROM reviews") == [("output", "held")]
    stored = door.stored(review_id)
    assert stored is not None
    assert unpacked(stored)[1] == OUTPUT.answer


def test_what_is_stored_is_encrypted(door: Door, url: str) -> None:
    door.held()
    ((ciphertext,),) = rows(url, "SELECT ciphertext FROM private WHERE kind = 'output'")
    assert BODY not in bytes(ciphertext)


def test_nothing_is_kept_where_the_end_of_the_leg_is_not(door: Door, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process died between the verdict and its transaction: the leg stays sent, and nothing was released."""
    perform = door.store.perform

    def dies(step: Any, now: Any) -> Any:
        if type(step).__name__ == "Settle":
            raise StoreUnavailable("gone")
        return perform(step, now)

    monkeypatch.setattr(door.store, "perform", dies)
    door.guard._later._every_s = 3600  # nor told again
    said = door.inspect()
    assert isinstance(said, Refused)
    assert (said.code, said.stage, said.retry_after_s) == ("policy_unavailable", "output", None)
    assert rows(url, "SELECT state FROM legs") == [("sent",)]
    assert rows(url, "SELECT COUNT(*) FROM reviews") == [(0,)]
    monkeypatch.undo()
    door.now += timedelta(minutes=12)
    door.guard.sweep()
    assert rows(url, "SELECT state FROM legs") == [("presumed",)]
    door.guard._later.round()  # its usage is known here, and is told late
    assert rows(url, "SELECT state FROM legs") == [("settled",)]


def test_an_approved_answer_is_handed_out_until_its_review_ends(door: Door, url: str) -> None:
    review_id = door.held()
    assert door.resumed(review_id).decision.reasons[-1].id == "review.pending"
    door.vote(review_id)
    for _ in range(3):
        released = door.resumed(review_id)
        assert isinstance(released, Released)
        assert released.answer == OUTPUT.answer
    assert door.state(review_id) is ReviewState.RELEASED
    assert rows(url, "SELECT COUNT(*) FROM legs") == [(1,)]
    assert types(door.store).count("review.released") == 1
    door.now += timedelta(hours=4)
    assert door.resumed(review_id).decision.reasons[-1].id == "review.used"
    door.guard.sweep()
    assert door.stored(review_id) is None


def test_it_is_the_callers_own_and_for_this_request_alone(door: Door) -> None:
    review_id = door.held()
    door.vote(review_id)
    assert door.resumed(review_id, replace(ASKED, prompt="a dog")).decision.reasons[-1].id == "review.mismatch"
    assert door.resumed(review_id, replace(ASKED, n=2)).decision.reasons[-1].id == "review.mismatch"
    assert door.resumed(review_id, user="u2").decision.reasons[-1].id == "review.unknown"
    assert door.state(review_id) is ReviewState.APPROVED


def test_a_rejection_destroys_it(door: Door) -> None:
    review_id = door.held()
    door.vote(review_id, "reject")
    assert (door.state(review_id), door.stored(review_id)) == (ReviewState.REJECTED, None)
    assert door.resumed(review_id).decision.reasons[-1].id == "review.rejected"


@pytest.mark.parametrize("approved", [False, True])
def test_what_nobody_decides_or_takes_runs_out_and_is_destroyed(door: Door, approved: bool) -> None:
    review_id = door.held()
    if approved:
        door.vote(review_id)
    door.now += timedelta(hours=4)
    door.guard.sweep()
    assert (door.state(review_id), door.stored(review_id)) == (ReviewState.EXPIRED, None)
    assert door.resumed(review_id).decision.reasons[-1].id == "review.expired"


def test_retention_takes_it_before_its_review_ends(tmp_path: Path, store: Store) -> None:
    door = Door(tmp_path / "policies", store, POLICY.replace("expires: 4h", "expires: 48h"))
    review_id = door.held()
    door.vote(review_id)
    door.now += timedelta(days=1)
    door.guard.sweep()
    assert door.stored(review_id) is None
    assert door.resumed(review_id).decision.reasons[-1].id == "review.expired"


def test_erasing_a_user_destroys_it(door: Door) -> None:
    review_id = door.held()
    door.vote(review_id)
    door.store.erase("u1", why="asked for", by="ada@example.com", now=door.now)
    assert door.stored(review_id) is None
    assert isinstance(door.resumed(review_id), Refused)


def test_a_changed_policy_has_it_reviewed_anew(tmp_path: Path, store: Store, door: Door) -> None:
    review_id = door.held()
    door.vote(review_id)
    changed = Door(tmp_path / "changed", store, POLICY.replace("sexual: 0.3", "sexual: 0.2"))
    answer = changed.resumed(review_id)
    assert (type(answer), answer.review_id, changed.state(review_id)) == (Held, review_id, ReviewState.HELD)
    assert isinstance(changed.resumed(review_id), Refused)
    changed.vote(review_id)
    assert isinstance(changed.resumed(review_id), Released)


def test_a_request_beyond_the_policy_does_not_get_it(tmp_path: Path, store: Store, door: Door) -> None:
    review_id = door.held()
    door.vote(review_id)
    narrow = Door(tmp_path / "narrow", store, POLICY.replace("{max: 2}", "{max: 2}\n  prompt:  {max_chars: 2}"))
    assert isinstance(narrow.resumed(review_id), Refused)
