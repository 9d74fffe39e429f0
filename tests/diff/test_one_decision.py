"""One decision: the guard, `explain`, `test` and `diff` say the same of any policy, request, caller and scores.

The guard itself is the oracle, on a store, through review and answer. The suite decides some hundred cases;
POLICYGUARD_FUZZ=long decides ten thousand (`make fuzz`).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from diff.generated import WIDE, both, changes, some_world
from diff.oracle import SURFACE, Heard, Oracle, oracle, said, told
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import NOW

from policyguard.cli.explain import explained
from policyguard.decision import Effect
from policyguard.diff.diff import SurfaceDiff, diff, directions
from policyguard.diff.space import space
from policyguard.diff.witness import Pair, Ruling, Side
from policyguard.guard.guard import Guard
from policyguard.policy import world as worlds
from policyguard.policy.model import Policy, PolicySet
from policyguard.policy.world import World
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES
from policyguard.testing.simulate import Case, simulate

LIMIT = 1_000  # of the cases that `diff` tries for one pair
WORLDS = 10  # of a pair, each decided by both sides: half of them are among those that `diff` tried
PAIRS = 500 if os.environ.get("POLICYGUARD_FUZZ") == "long" else 15
LEAST = 0.01  # the share of all cases that each effect has at least: flags came to 3.5 to 7 % of ten thousand


def test_the_guard_explain_test_and_diff_agree(tmp_path: Path) -> None:
    counted: Counter[str] = Counter()
    with oracle(tmp_path) as real:

        @settings(max_examples=PAIRS, derandomize=PAIRS < 100, suppress_health_check=list(HealthCheck))
        @given(changes(WIDE), st.integers(0, 2**32))
        def agree(pair: Any, seed: int) -> None:
            with both(*pair) as (old, new):
                counted.update(_compared(real, old, new, Random(seed)))

        agree()
    cases = sum(counted[effect] for effect in ("allow", "flag", "review", "deny"))
    print(f"{cases} cases:", dict(counted))
    assert cases >= PAIRS * WORLDS * 2
    assert {effect for effect in ("allow", "flag", "review", "deny") if counted[effect] < LEAST * cases} == set()
    assert {what for what in ("held", "of output", "shadow", "differ", "exact") if not counted[what]} == set()


def _compared(real: Oracle, old: Side, new: Side, random: Random) -> Counter[str]:
    """Ten worlds, decided by everybody under both sides."""
    counted: Counter[str] = Counter()
    pair = Pair(old.policies, new.policies, old.policies.surfaces[SURFACE], new.policies.surfaces[SURFACE], NOW)
    guards = [real.guard(side.policies) for side in (old, new)]
    found = diff(old, new, NOW, limit=LIMIT).surfaces[0]
    tried = _tried(pair, random)
    for world in (*tried, *(some_world(random) for _ in range(WORLDS - len(tried)))):
        world = {**some_world(Random(0)), **world}
        rulings = pair.rulings(world)
        heard = [_decided(real, guard, ruling, world) for guard, ruling in zip(guards, rulings, strict=True)]
        for one in heard:
            counted[one.at_once.word] += 1
            counted["held"] += one.was_held
            counted["of output"] += any('"id":"output.' in row for row in one.said)
            counted["shadow"] += _strongest(one, "shadow") > one.in_all
        if not any(_over_budget(one) for one in heard):
            counted["differ"] += heard[0].in_all != heard[1].in_all
            counted["exact"] += found.exact
            _is_found(found, heard, rulings, world, world in tried)
    return counted


def _tried(pair: Pair, random: Random) -> list[World]:
    """Some of what `diff` tries for this pair."""
    if pair.old.digest == pair.new.digest:
        return []
    cases = list(islice(space(pair, LIMIT).cases(), LIMIT))
    return random.sample(cases, min(WORLDS // 2, len(cases)))


# ---- one case ---------------------------------------------------------------------------------------------


def _decided(real: Oracle, guard: Guard, ruling: Ruling, world: World) -> Heard:
    """What the guard does, once `test`, `explain` and `diff` have been held against it."""
    heard, policies = real.hear(guard, world), guard.policies
    case = _case(policies.surfaces[SURFACE], world)
    simulated = simulate(policies, SURFACE, case).decision
    assert (simulated.effect, said(simulated.reasons)) == (heard.at_once, heard.said_at_once), world
    _is_explained(policies, case, heard)
    assert _strongest(heard, "enforce") is heard.in_all, world  # whatever shadow would have decided
    if not _over_budget(heard):  # what is spent is nothing that `diff` could know
        assert (ruling.effect, said(ruling.reasons)) == (heard.in_all, heard.said), world
        assert heard.sent in (None, ruling.request), world
    return heard


def _is_explained(policies: PolicySet, case: Case, heard: Heard) -> None:
    shown = explained(policies, SURFACE, case)
    assert (shown["outcome"], told(shown["reasons"])) == (heard.at_once.word, heard.said_at_once), case


def _strongest(heard: Heard, mode: str) -> Effect:
    """Of the reasons of one mode. The oracle tells effects by what the guard did, not by its reasons."""
    rows = map(json.loads, heard.said)
    return max((Effect[row["effect"].upper()] for row in rows if row["mode"] == mode), default=Effect.ALLOW)


def _over_budget(heard: Heard) -> bool:
    return any('"id":"budget.' in row for row in heard.said)


def _case(policy: Policy, world: World) -> Case:
    """The world as a test of a policy writes it: with the scores of what the policy has looked at."""
    checks = policy.moderation.check | policy.limit_moderation.check
    is_seen = "prompt" in checks
    if world["scored"] == "image":
        is_seen = "input_images" in checks and world["images"].number > 0
    scores, output, answers = worlds.scores(world), worlds.output(world), worlds.answers(world)
    if scores is not None and not is_seen:
        scores = dict.fromkeys(CATEGORIES, 0.0)
    return Case(
        request=worlds.request(world),
        caller=worlds.caller(world),
        scores={category: (scores or {}).get(category) for category in CATEGORIES},
        output={category: (output or {}).get(category) for category in IMAGE_CATEGORIES},
        answers={name: answers.get(name) for name in worlds.questions(world)},
        now=world["now"],
    )


# ---- two sides --------------------------------------------------------------------------------------------


def _is_found(
    found: SurfaceDiff, heard: list[Heard], rulings: tuple[Ruling, Ruling], world: World, was_tried: bool
) -> None:
    """Whether `diff` told of what the two guards do differently: of all that it tried, and of anything where it says
    that nothing else differs."""
    old, new = (one.in_all.word for one in heard)
    differ = directions(*rulings) - {"neutral"}
    if was_tried:
        assert {(one, old, new) for one in differ} <= {(f.direction, f.old, f.new) for f in found.findings}, world
    if found.exact:
        assert differ <= {finding.direction for finding in found.findings}, world
