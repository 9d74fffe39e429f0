"""States, decisions, refusals, ids, the current caller: the small values that everything else leans on."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import policy

import policyguard
from policyguard.decision import (
    REFUSALS,
    BudgetExceeded,
    Decision,
    Effect,
    Held,
    Kind,
    PolicyDenied,
    PolicyUnavailable,
    Reason,
    ReviewRequired,
    combine,
    refused_error,
)
from policyguard.flow.refuse import MESSAGES, refuse
from policyguard.flow.states import LEG_MOVES, REVIEW_MOVES, LegState, ReviewState, sources
from policyguard.guard.current import current_caller, current_review
from policyguard.ids import new_id

NOW = datetime(2026, 11, 24, tzinfo=UTC)
reasons = st.builds(
    Reason,
    id=st.sampled_from(["a", "b.c"]),
    kind=st.sampled_from(Kind),
    effect=st.sampled_from(Effect),
    message=st.just("m"),
    place=st.none(),
    mode=st.sampled_from(["enforce", "shadow"]),
    param=st.none(),
    values=st.just({}),
)


def reason(kind: Kind, effect: Effect = Effect.DENY) -> Reason:
    return Reason(id="r", kind=kind, effect=effect, message="the team's own words")


def decision(*given_: Reason) -> Decision:
    return Decision(id="dec_1", surface="s", policy_digest="d", effect=combine(given_), reasons=given_)


@given(st.lists(reasons), st.randoms())
def test_the_order_of_reasons_never_matters(found: list[Reason], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert combine(shuffled) is combine(found)


@given(st.lists(reasons), reasons)
def test_one_more_reason_never_loosens(found: list[Reason], more: Reason) -> None:
    assert combine([*found, more]) >= combine(found)


def test_shadow_reasons_never_decide() -> None:
    assert combine([Reason(id="r", kind=Kind.RULE, effect=Effect.DENY, message="m", mode="shadow")]) is Effect.ALLOW


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_refusal_has_a_status_and_words_for_the_user(tmp_path: Path, kind: Kind) -> None:
    quiet = policy(tmp_path, "reasons_on_wire: false")
    refused = refuse(decision(reason(kind)), policy=quiet, now=NOW)
    assert (refused.status, refused.type, refused.code) == tuple(REFUSALS[kind])
    own_words = kind in (Kind.RULE, Kind.MALFORMED)
    assert refused.message == ("the team's own words" if own_words else MESSAGES[kind])


def test_the_strongest_kind_speaks() -> None:
    said = decision(reason(Kind.UNAVAILABLE), reason(Kind.RULE), reason(Kind.MODERATION))
    refused = refuse(said, policy=None, now=NOW)
    assert refused.code == "moderation_blocked"


def test_a_spent_budget_says_when_to_come_back() -> None:
    refused = refuse(decision(reason(Kind.BUDGET)), policy=None, now=NOW, opens_at=NOW + timedelta(hours=2))
    assert (refused.opens_at, refused.retry_after_s) == (NOW + timedelta(hours=2), 7200)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Kind.BUDGET, BudgetExceeded),
        (Kind.UNAVAILABLE, PolicyUnavailable),
        (Kind.REVIEW, ReviewRequired),
        (Kind.RULE, PolicyDenied),
        (Kind.MODERATION, PolicyDenied),
        (Kind.CALLER, PolicyDenied),
    ],
)
def test_each_refusal_raises_its_own_exception(kind: Kind, error: type[Exception]) -> None:
    raised = refused_error(refuse(decision(reason(kind)), policy=None, now=NOW))
    assert type(raised) is error
    assert (raised.status, raised.code) == (REFUSALS[kind].status, REFUSALS[kind].code)


def test_a_held_request_raises_with_its_review() -> None:
    held = Held(decision=decision(reason(Kind.REVIEW, Effect.REVIEW)), review_id="rev_1", expires_at=NOW)
    raised = refused_error(held)
    assert (type(raised), raised.review_id, raised.status) == (ReviewRequired, "rev_1", 403)


def test_no_state_leads_back_from_an_end() -> None:
    assert {state for state, targets in LEG_MOVES.items() if not targets} == {LegState.SETTLED}
    assert sources(LEG_MOVES, "sent") == ["held"]
    assert sources(LEG_MOVES, "settled") == ["sent", "presumed", "released"]


def test_no_timeout_ever_approves() -> None:
    assert sources(REVIEW_MOVES, "approved") == ["held"]
    assert set(REVIEW_MOVES) == set(ReviewState)
    assert set(LEG_MOVES) == set(LegState)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1)), st.binary(min_size=10, max_size=10))  # noqa: DTZ001
def test_ids_sort_by_time(moment: datetime, random: bytes) -> None:
    early = moment.replace(tzinfo=UTC)
    assert new_id("dec", early, random) < new_id("dec", early + timedelta(milliseconds=2), bytes(10))
    assert len(new_id("dec", early, random)) == 30


def test_caller_blocks_nest_and_end() -> None:
    with policyguard.caller(user="u1", tenant="acme"):
        with policyguard.caller(tenant=None, feature="banner"), policyguard.resume("rev_1"):
            assert dict(current_caller().items()) == {"user": "u1", "feature": "banner"}
            assert current_review() == "rev_1"
        assert dict(current_caller().items()) == {"user": "u1", "tenant": "acme"}
    assert (dict(current_caller().items()), current_review()) == ({}, None)


@pytest.mark.anyio
async def test_tasks_do_not_see_each_others_callers() -> None:
    seen: list[str | None] = []

    async def one(user: str) -> None:
        with policyguard.caller(user=user):
            await anyio.lowlevel.checkpoint()
            seen.append(current_caller().user)

    async with anyio.create_task_group() as group:
        for user in ("a", "b", "c"):
            group.start_soon(one, user)
    assert sorted(str(user) for user in seen) == ["a", "b", "c"]


def test_a_new_thread_starts_without_a_caller() -> None:
    seen: list[str | None] = []
    with policyguard.caller(user="u1"):
        thread = threading.Thread(target=lambda: seen.append(current_caller().user))
        thread.start()
        thread.join()
    assert seen == [None]
