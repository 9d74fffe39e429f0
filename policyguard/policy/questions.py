"""The questions that a folder asks: compiled, kept apart by name, and only those that some rule reads.

The organisation's are there for the rules of every surface; a surface's own are its own, and no name is used twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from policyguard.decision import Effect
from policyguard.policy.expr import Environment
from policyguard.policy.model import Exemption, Expression, Question, Rule
from policyguard.policy.source import Source

Questions = Mapping[str, Question]
_PREFIX = "answers."
_EFFECTS: Mapping[str, Any] = {"deny": Effect.DENY, "review": Effect.REVIEW}


def questions(source: Source, taken: Questions) -> dict[str, Question]:
    """The questions of a file by name; `taken` are the organisation's."""
    found = {}
    for name, row in (source.data.get("questions") or {}).items():
        path = ("questions", name)
        if name in taken:
            source.problem(path, "PG207", f"`{name}` is a question already ({taken[name].place})", key=True)
        effect = _EFFECTS[row.get("when_unavailable", "deny")]
        found[name] = Question(name=name, ask=row["ask"], when_unavailable=effect, place=source.place(path))
    return found


def with_questions(environment: Environment, names: Iterable[str]) -> Environment:
    """The environment in which these questions are asked, too."""
    more = environment.answers.union(names)
    return environment if more == environment.answers else replace(environment, answers=more)


def names_in(data: Mapping[str, Any] | None) -> list[str]:
    """The names of the questions of a file whose form may be wrong."""
    found = (data or {}).get("questions")
    return [name for name in found if isinstance(name, str)] if isinstance(found, dict) else []


def read_by(known: Questions, rules: Iterable[Rule], exempt: Iterable[Exemption]) -> tuple[Question, ...]:
    """The questions whose answers decide something, by name."""
    names = {*answers_in(rule.when for rule in rules), *answers_in(exemption.when for exemption in exempt)}
    return tuple(known[name] for name in sorted(names & known.keys()))


def answers_in(conditions: Iterable[Expression]) -> Iterator[str]:
    """The names of the questions whose answers some of these conditions read."""
    for condition in conditions:
        yield from (path.removeprefix(_PREFIX) for path in condition.reads if path.startswith(_PREFIX))
