"""The offer of a ticket: taken once, given back, closed; somebody ends the leg, and one only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyguard.decision import Admitted
from policyguard.guard.guard import Guard
from policyguard.guard.offer import Offer
from policyguard.request import Caller, ImageRequest


@pytest.fixture
def offer(open_guard: Callable[..., Guard]) -> Offer:
    guard, caller = open_guard(), Caller(user="u1")
    admitted = guard.admit(ImageRequest(prompt="a cat"), caller, surface="avatars")
    assert isinstance(admitted, Admitted)
    return Offer(guard, admitted, caller)


def test_an_offer_is_taken_once_and_not_after_it_closed(offer: Offer) -> None:
    assert (offer.take(), offer.take(), offer.give_back(), offer.take()) == (True, False, False, True)
    assert (offer.close(), offer.give_back(), offer.take()) == (False, True, False)


@given(st.lists(st.sampled_from(["call", "refused call", "answer"]), max_size=8), st.booleans())
def test_whatever_happens_in_whatever_order_a_leg_has_somebody_who_ends_it(steps: list[str], running: bool) -> None:
    """One, and nobody else once a call has sent something on it."""
    offer = Offer(None, None, Caller())  # type: ignore[arg-type]
    used = False
    for step in steps:
        if step == "answer":
            offer.close()
        elif offer.take():
            assert not used
            used = step == "call"
            assert used or not offer.give_back()  # it was taken while the request lived
    outlives = running and offer.take()  # a call that is refused only after the request has ended
    outer = offer.close()
    late = outlives and offer.give_back()
    assert used + outer + late == 1


def test_of_many_threads_one_has_the_offer(offer: Offer) -> None:
    start = threading.Barrier(33)

    def take(_: int) -> bool:
        start.wait()
        return offer.take()

    def close() -> bool:
        start.wait()
        return offer.close()

    with ThreadPoolExecutor(33) as pool:
        outer = pool.submit(close)
        taken = list(pool.map(take, range(32)))
    assert sum(taken) + outer.result() == 1


def test_an_offer_that_nobody_took_is_the_outer_doors_to_end(offer: Offer) -> None:
    assert (offer.close(), offer.take(), offer.close()) == (True, False, True)
