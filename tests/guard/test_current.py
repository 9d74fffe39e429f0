"""Blocks of who asks and which review is resumed: nested, in threads and tasks, and ended where they did not begin."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import anyio
import anyio.to_thread
import pytest

import policyguard
from policyguard.errors import ConfigError
from policyguard.guard.current import current_caller, current_review, one_request


def who() -> dict[str, str]:
    return dict(current_caller().items())


def test_an_inner_block_adds_and_takes_away() -> None:
    with policyguard.caller(user="u1", tenant="acme"):
        with policyguard.caller(tier="pro", tenant=None):
            assert who() == {"user": "u1", "tier": "pro"}
        assert who() == {"user": "u1", "tenant": "acme"}
    assert who() == {}


@pytest.mark.parametrize(
    ("given", "counts"),
    [(42, "42"), (0, "0"), (" u1 ", "u1"), ("Zoe\u0308", "Zoë"), (Enum("T", {"A": "pro"}, type=str).A, "pro")],  # type: ignore[attr-defined]
)
def test_a_value_counts_in_one_form(given: Any, counts: str) -> None:
    with policyguard.caller(user=given):
        assert who() == {"user": counts}


@pytest.mark.parametrize("given", [True, 1.5, b"u1", object(), ["u1"]])
def test_what_is_neither_text_nor_whole_number_is_an_error(given: Any) -> None:
    with pytest.raises(ConfigError, match="`user` must be a text or a whole number"), policyguard.caller(user=given):
        pass


def test_blocks_that_end_out_of_order_leave_what_is_still_open() -> None:
    @contextmanager
    def both(**values: str) -> Iterator[None]:
        with policyguard.caller(**values), policyguard.resume(values["user"]):
            yield

    first, second = both(user="u1"), both(user="u2")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (who(), current_review()) == ({"user": "u2"}, "u2")
    second.__exit__(None, None, None)
    assert (who(), current_review()) == ({}, None)


def test_a_block_that_ends_in_another_context_ends_everywhere() -> None:
    def asked() -> Iterator[None]:
        with policyguard.caller(user="u1"), policyguard.resume("rev_1"):
            yield

    abandoned = asked()
    next(abandoned)
    assert (who(), current_review()) == ({"user": "u1"}, "rev_1")
    contextvars.copy_context().run(abandoned.close)
    assert (who(), current_review()) == ({}, None)


def test_an_abandoned_async_generator_ends_cleanly() -> None:
    problems: list[Any] = []

    async def asked() -> AsyncIterator[str]:
        with policyguard.caller(user="u1"):
            yield "a"
            yield "b"

    async def run() -> dict[str, str]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        async for _ in asked():
            break
        for _ in range(5):  # the loop closes what was abandoned, in a task of its own
            await asyncio.sleep(0)
        return who()

    assert (asyncio.run(run()), problems) == ({}, [])


@pytest.mark.anyio
async def test_a_task_goes_on_with_what_was_said_when_it_began() -> None:
    with policyguard.caller(user="u1"):
        task = asyncio.create_task(anyio.to_thread.run_sync(who))
    assert (await task, who()) == ({"user": "u1"}, {})


@contextmanager
def says(user: str) -> Iterator[None]:
    with policyguard.caller(user=user), policyguard.resume("rev_1"):
        yield


@pytest.mark.anyio
async def test_a_block_that_a_thread_only_enters_counts_for_the_request() -> None:
    with one_request(), policyguard.caller(tenant="acme"):
        block = says("u1")
        await anyio.to_thread.run_sync(block.__enter__)
        with policyguard.caller(tier="pro"):
            assert (who(), current_review()) == ({"tenant": "acme", "user": "u1", "tier": "pro"}, "rev_1")
        await anyio.to_thread.run_sync(block.__exit__, None, None, None)
        assert (who(), current_review()) == ({"tenant": "acme"}, None)


@pytest.mark.anyio
async def test_without_a_request_such_a_block_is_an_error() -> None:
    with pytest.raises(ConfigError, match="write it with `async def`"):
        await anyio.to_thread.run_sync(says("u1").__enter__)


@pytest.mark.anyio
async def test_work_in_a_thread_speaks_for_itself_alone() -> None:
    seen: list[Any] = []

    def work(user: str) -> None:
        with says(user):
            seen.append(who())

    with one_request():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, work, "u1")
            group.start_soon(anyio.to_thread.run_sync, work, "u2")
        assert (sorted(map(str, seen)), who()) == (["{'user': 'u1'}", "{'user': 'u2'}"], {})
