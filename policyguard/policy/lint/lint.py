"""What loads and is probably not meant: warnings over a whole set, for `policyguard check`.

A warning is given only where it is certain: where a condition has too many cases to try them all, nothing is said.
Each kind of warning has a function here or in one of the modules beside it; none of them changes what is enforced.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

from policyguard.policy.lint.conditions import MAX_WORK, Trials
from policyguard.policy.lint.money import check_budgets, check_models
from policyguard.policy.lint.rules import check_exemptions, check_rules, check_same
from policyguard.policy.model import Policy, PolicySet
from policyguard.policy.source import Source, TooManyProblems, YAMLPath
from policyguard.policy.world import environment_of

GROUP = "group:"
Progress = Callable[[int, int], None]  # surfaces done, of how many


@dataclass(frozen=True, slots=True)
class Written:
    """One surface: what its file says, and what it means."""

    source: Source
    policy: Policy


def lint(
    policies: PolicySet,
    org: Source,
    sources: Sequence[Source],
    today: date | None = None,
    progress: Progress | None = None,
) -> None:
    """Add every warning to the problems of the file that it is about. The set has no errors.

    `today` is the day in UTC; without it nothing is said of what has expired.
    """
    surfaces = [Written(source, policies.surfaces[source.data["surface"]]) for source in sources]
    asked = {name for source in (org, *sources) for name in _section(source, "questions")}
    trials = Trials(environment_of(policies.caller, asked), tuple(policies.surfaces))
    check_rules(org, None, trials)
    check_same(org, [])
    for done, one in enumerate(surfaces, start=1):
        trials.left = MAX_WORK
        with suppress(TooManyProblems):
            _check_surface(one, org, policies, trials, today)
        if progress is not None:
            progress(done, len(surfaces))
    for part in ("defaults", "limits", "high_stakes"):
        _check_zero(org, (part,))
    check_models(org, ("defaults",), policies.prices)
    _check_default_steps(org, policies.groups)
    _check_names(org, ("defaults",), policies.groups)
    _check_groups(org, sources)
    _check_questions(org, policies.surfaces.values())
    check_budgets(org, sources, policies)


def _check_surface(one: Written, org: Source, policies: PolicySet, trials: Trials, today: date | None) -> None:
    check_rules(one.source, one.policy, trials)
    check_same(one.source, _rows(org, "rules"))
    check_exemptions(one.source, one.policy, trials, today)
    _check_thresholds(one)
    _check_zero(one.source, ())
    _check_stakes(one)
    _check_hosts(one)
    _check_names(one.source, (), policies.groups)
    _check_steps(one.source, (), one.policy.review.reviewers, policies.groups)
    check_models(one.source, (), policies.prices)
    _check_questions(one.source, [one.policy])


def _rows(source: Source, section: str) -> list[Any]:
    return source.data.get(section) or []


# ---- thresholds -------------------------------------------------------------------------------------------


def _check_thresholds(one: Written) -> None:
    """Thresholds for a review that the surface names; `default` stands for all that it covers together."""
    deny = {threshold.category: threshold for threshold in one.policy.moderation.deny_at}
    for name, at in _section(one.source, "moderation", "review_at").items():
        where: YAMLPath = ("moderation", "review_at", name)
        said = one.source.place(where)
        held = [t for t in one.policy.moderation.review_at if t.place == said]
        if at > 0 and held and all(t.at >= deny[t.category].at for t in held):
            first = deny[held[0].category]
            message = f"nothing is reviewed from here on: it is denied from {first.at:g} on ({first.place})"
            one.source.warning(where, "PG705", message, "lower this, or raise the threshold in `deny_at`")


def _check_zero(source: Source, base: tuple[str, ...]) -> None:
    """Every score is at least 0."""
    for at, words in (("deny_at", "denied"), ("review_at", "held for review")):
        for name, score in _section(source, *base, "moderation", at).items():
            if score == 0:
                hint = "every score is at least 0; write from which score on, like `0.3`"
                where = (*base, "moderation", at, name)
                source.warning(where, "PG706", f"with a threshold of 0 every request is {words}", hint)


def _section(source: Source, *path: str) -> Mapping[str, Any]:
    found: Any = source.data
    for part in path:
        found = found.get(part) or {}
    return found if isinstance(found, dict) else {}


# ---- images elsewhere -------------------------------------------------------------------------------------


def _check_hosts(one: Written) -> None:
    """Pictures whose host the surface names, where moderation does not look at pictures either."""
    where: YAMLPath = ("request", "input_images", "hosts")
    checked = one.policy.moderation.check | one.policy.limit_moderation.check
    if _section(one.source, "request", "input_images").get("hosts") and "input_images" not in checked:
        hint = "add `input_images` to `moderation.check`, or leave the hosts out"
        one.source.warning(where, "PG715", "nobody looks at the pictures of these hosts", hint)


# ---- reviews ----------------------------------------------------------------------------------------------


def _check_stakes(one: Written) -> None:
    if one.policy.stakes == "high" and not one.policy.review.required:
        hint = "write `review: {required: true}` here, or below `high_stakes` in org.yaml"
        one.source.warning(("stakes",), "PG709", "the stakes are high, and nobody reviews the requests", hint)


def _check_steps(source: Source, base: YAMLPath, first: Sequence[str], groups: Mapping[str, tuple[str, ...]]) -> None:
    """Steps of an escalation after which nobody new may decide."""
    steps = _section(source, *map(str, base), "review").get("escalate") or []
    known = set(first)
    for step in steps:
        people = {person for name in step["to"] for person in _people(name, groups)}
        if people <= known:
            where = (*base, "review", "escalate", steps.index(step), "to")
            hint = "name somebody else, or leave the step out"
            source.warning(where, "PG712", "whoever this adds may decide already", hint)
        known |= people


def _check_names(source: Source, base: YAMLPath, groups: Container[str]) -> None:
    """People with the name of a group: nobody of the group could decide, and what is held would run out."""
    review = _section(source, *map(str, base), "review")
    lists: dict[YAMLPath, Sequence[str]] = {("reviewers",): review.get("reviewers") or []}
    lists |= {("escalate", index, "to"): step["to"] for index, step in enumerate(review.get("escalate") or [])}
    for path, names in lists.items():
        for index, name in enumerate(names):
            if name in groups:
                where = (*base, "review", *path, index)
                source.warning(
                    where, "PG714", f"`{name}` is a group, and stands here as a person", f"write `{GROUP}{name}`"
                )


def _check_default_steps(org: Source, groups: Mapping[str, tuple[str, ...]]) -> None:
    named = _section(org, "defaults", "review").get("reviewers") or []
    _check_steps(org, ("defaults",), [person for name in named for person in _people(name, groups)], groups)


def _people(name: str, groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return groups[name.removeprefix(GROUP)] if name.startswith(GROUP) else (name,)


def _check_groups(org: Source, sources: Sequence[Source]) -> None:
    """Groups that no review names."""
    reviews = [_section(org, "defaults", "review"), *(_section(source, "review") for source in sources)]
    used = {name.removeprefix(GROUP) for review in reviews for name in _named(review)}  # one without `group:` is told
    for name in _section(org, "groups"):
        if name not in used:
            hint = f"name it as `{GROUP}{name}` in a review, or leave it out"
            org.warning(("groups", name), "PG707", f"no review names the group `{name}`", hint, key=True)


def _named(review: Mapping[str, Any]) -> Iterator[str]:
    yield from review.get("reviewers") or []
    for step in review.get("escalate") or []:
        yield from step["to"]


# ---- questions --------------------------------------------------------------------------------------------


def _check_questions(source: Source, policies: Iterable[Policy]) -> None:
    """Questions whose answers no rule reads: they are never asked."""
    read = {question.name for policy in policies for question in policy.questions}
    for name in _section(source, "questions"):
        if name not in read:
            hint = f"write a rule like `answers.{name} > 0.7`, or leave the question out"
            source.warning(("questions", name), "PG716", f"no rule reads the answer to `{name}`", hint, key=True)
