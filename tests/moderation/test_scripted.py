from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from moderation.upstream import step as question

from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import CATEGORIES


def test_what_is_not_scripted_is_0() -> None:
    verdict = ScriptedModerator({"sexual": 0.7}).moderate(question())
    assert verdict.scores == {**dict.fromkeys(CATEGORIES, 0.0), "sexual": 0.7}


def test_it_can_go_down_and_come_back() -> None:
    made = ScriptedModerator(error="timeout")
    down = made.moderate(question())
    made.error = None
    up = made.moderate(question())
    assert (down.error, down.scores, up.error, len(up.scores)) == ("timeout", {}, None, 13)


def test_calls_are_counted_from_every_thread() -> None:
    made = ScriptedModerator()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(made.moderate, [question()] * 500))
    assert made.calls == 500
