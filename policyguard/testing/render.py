"""Results for people: what failed, line by line, and which conditions no test has seen.

Forms for programs are in `findings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from policyguard.errors import Diagnostic
from policyguard.policy.diagnostics import render, text_of
from policyguard.policy.load import ORG
from policyguard.testing.compare import Mismatch
from policyguard.testing.coverage import ConditionSeen, Coverage
from policyguard.testing.run import CaseResult, RunReport
from policyguard.text.visible import visible

_WIDEST = 32  # of a reason's name; longer ones push the rest of their line to the right


def failure(result: CaseResult) -> str:
    """What was expected and what was seen, with the places of the test and of each rule."""
    test = result.test
    lines = (f"{test.file}:{test.line}  {test.name}", *_lines(result.differences))
    return "\n".join(map(visible, lines))


def _lines(found: tuple[Mismatch, ...]) -> Iterator[str]:
    """Columns: what differs, the reason, where its rule stands, why."""
    reasons = [d for d in found if d.sign != " "]
    width = min(_WIDEST, max((len(d.text) for d in reasons), default=0))
    places = max((len(_place(d)) for d in reasons), default=0)
    before = ""
    for d in found:
        label = "" if d.what == before else d.what
        before = d.what
        line = f"{d.sign} {d.text:<{width}}  {_place(d):<{places}}  {d.note}" if d.sign != " " else _plain(d)
        yield f"  {label:<8}  {line}".rstrip()


def sentence(d: Mismatch) -> str:
    """One difference in one line, for programs that show it alone."""
    signs = {"-": f"expected `{d.text}`, which is missing", "+": f"`{d.text}` was not expected", " ": d.text}
    details = ", ".join(part for part in (_place(d), d.note) if part)
    return f"{d.what}: {signs[d.sign]}" + (f" ({details})" if details else "")


def _plain(d: Mismatch) -> str:
    return f"{d.text}  {_place(d)}"


def _place(d: Mismatch) -> str:
    return str(d.place) if d.place else ""


def missing(condition: ConditionSeen) -> str:
    """`policies/avatars.yaml:48 pro-quality: never false`."""
    never = ", ".join(f"never {word}" for word in condition.missing)
    text = f"{condition.place} {condition.name}: {never}"
    return f"{text} (in {condition.surface})" if _shared(condition) else text


def _shared(condition: ConditionSeen) -> bool:
    """A rule of the organisation, which each surface has to test."""
    return Path(condition.place.file).name == ORG


def problem(found: Diagnostic) -> str:
    """A problem with its line and a caret."""
    return render(found, text_of(found.file))


def report(found: RunReport) -> Iterator[str]:
    """The whole report, in paragraphs."""
    for one in found.problems:
        yield problem(one)
    for result in found.failed:
        yield f"FAIL {failure(result)}"
    if found.results:
        yield from _coverage(found.coverage)
    yield summary(found)


def _coverage(found: Coverage) -> Iterator[str]:
    yield "\n".join(_table(found))
    if lines := [f"  {missing(condition)}" for condition in found.conditions if condition.missing]:
        yield "\n".join(("not seen by any test:", *map(visible, lines)))


def _table(found: Coverage) -> Iterator[str]:
    surfaces = list(dict.fromkeys(condition.surface for condition in found.conditions))
    width = max((len(name) for name in surfaces), default=0)
    for name in surfaces:
        part = found.of(name)
        count = len(part.conditions)
        branches = f"{part.seen} of {part.branches} branches"
        yield f"{name:<{width}}  {part.percent:>3} %  {branches} of {count} condition{'s' if count != 1 else ''}"


def summary(found: RunReport) -> str:
    files = len({result.test.file for result in found.results})
    parts = [f"{visible(found.folder)}: {_count(len(found.results), 'test')} in {_count(files, 'file')}"]
    parts.append(f"{len(found.failed)} failed" if found.failed else "all pass" if found.results else "nothing tested")
    if found.problems:
        parts.append(_count(len(found.problems), "problem"))
    if found.results:
        parts.append(f"conditions covered to {found.coverage.percent} %")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def paragraphs(texts: Iterable[str]) -> str:
    return "\n\n".join(texts)
