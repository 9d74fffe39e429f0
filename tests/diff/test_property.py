"""For any two policies: witnesses are true, `exact` is true, and a change seen from the other side is its mirror.

What is true is what a guard does, on a store: see `oracle`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

import pytest
from diff.generated import TABLES, WIDE, both, changes, some_world
from diff.oracle import SURFACE, Oracle, oracle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import NOW

from policyguard.diff.diff import PolicyDiff, SurfaceDiff, diff, directions
from policyguard.diff.witness import Side, rule
from policyguard.policy.world import request

TIMES = 20 if os.environ.get("POLICYGUARD_FUZZ") == "long" else 1
GENERATED = settings(max_examples=20 * TIMES, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    with oracle(tmp_path_factory.mktemp("oracle")) as one:
        yield one


def compared(old: Side, new: Side) -> tuple[PolicyDiff, SurfaceDiff]:
    found = diff(old, new, NOW, limit=3000)
    return found, found.surfaces[0]


@GENERATED
@given(pair=changes())
def test_every_witness_is_decided_differently_by_a_guard(real: Oracle, pair: Any) -> None:
    with both(*pair) as (old, new):
        _, surface = compared(old, new)
        before, after = real.guard(old.policies), real.guard(new.policies)
        for finding in surface.findings:
            world = {"output": {}, **finding.witness.world}
            a, b = real.hear(before, world), real.hear(after, world)
            assert (a.in_all.word, b.in_all.word) == (finding.old, finding.new)
            if finding.old == finding.new:
                assert finding.upstream
                assert a.sent != b.sent
            assert request(world) is not None


@settings(GENERATED, max_examples=30 * TIMES)
@given(pair=changes(), seed=st.integers(0, 2**32))
def test_where_nothing_is_found_and_that_is_exact_random_requests_are_decided_alike(
    real: Oracle, pair: Any, seed: int
) -> None:
    """The engine decides many, the guard those that differ and a few of the others."""
    with both(*pair) as (old, new):
        _, surface = compared(old, new)
        if not surface.exact:
            return
        found = {finding.direction for finding in surface.findings}
        sides, random = [(side.policies, real.guard(side.policies)) for side in (old, new)], Random(seed)
        worlds = [some_world(random) for _ in range(500)]
        rulings = [[rule(policies, policies.surfaces[SURFACE], world) for policies, _ in sides] for world in worlds]
        differing = [index for index, pair_ in enumerate(rulings) if directions(*pair_)]
        for index in (*islice(differing, 5), *range(3)):
            heard = [real.hear(guard, worlds[index]) for _, guard in sides]
            assert [one.in_all for one in heard] == [one.effect for one in rulings[index]], worlds[index]
        for index in differing:
            assert directions(*rulings[index]) <= found | {"neutral"}, worlds[index]


@GENERATED
@given(changes(WIDE))
def test_what_loosened_one_way_tightened_the_other_way(pair: Any) -> None:
    mirror = {"loosened": "tightened", "tightened": "loosened", "neutral": "neutral"}
    with both(*pair) as (old, new):
        _, there = compared(old, new)
        _, back = compared(new, old)
        forth, backwards = there.findings, back.findings
        seen = Counter((mirror[f.direction], f.new, f.old, f.new_reasons, f.old_reasons, f.cases) for f in forth)
        assert seen == Counter((f.direction, f.old, f.new, f.old_reasons, f.new_reasons, f.cases) for f in backwards)
        assert there.exact == back.exact


@GENERATED
@given(TABLES)
def test_a_policy_does_not_differ_from_itself(tables: Any) -> None:
    with both(tables, tables) as (old, new):
        found, surface = compared(old, new)
        assert (surface.status, found.directions()) == ("unchanged", set())
