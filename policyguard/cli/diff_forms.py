"""The forms of `policyguard diff`: text for people, JSON for programs, annotations for GitHub, Markdown.

They show the same findings in the same order, and none of them decides what counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from policyguard.cli import output
from policyguard.cli.formats import annotation
from policyguard.decision import Place
from policyguard.diff.diff import Difference, PolicyDiff, SurfaceDiff
from policyguard.diff.values import Change
from policyguard.diff.witness import command, request_row
from policyguard.text.visible import visible

Reasons = tuple[tuple[str, Place | None], ...]
_SHOWN_REASONS = 2


# ---- words ------------------------------------------------------------------------------------------------


def _headline(surface: SurfaceDiff) -> str:
    if surface.status == "unchanged":
        return "no change"
    found = surface.directions()
    return ", ".join(word for word in ("loosened", "tightened") if word in found) or "neutral"


def _what(finding: Difference) -> str:
    """`deny -> allow`, or what else goes upstream."""
    if finding.upstream:
        changes = ", ".join(f"{name} {old} -> {new}" for name, old, new in finding.upstream)
        return f"{finding.new}, with {changes}"
    return f"{finding.old} -> {finding.new}"


def _why(finding: Difference) -> list[str]:
    old = _side("old", finding.old, finding.old_reasons, finding.old_place)
    new = _side("new", finding.new, finding.new_reasons, finding.new_place)
    return [*old, *new]


def _side(side: str, outcome: str, reasons: Reasons, place: Place | None) -> list[str]:
    if reasons:
        return [f"{side}: {outcome} by {_reasons(reasons)}"]
    return [f"{side}: {outcome}, see {place}"] if place else []


def _reasons(reasons: Reasons) -> str:
    shown = ", ".join(f"{name} ({place})" if place else name for name, place in reasons[:_SHOWN_REASONS])
    more = len(reasons) - _SHOWN_REASONS
    return f"{shown} and {more} more" if more > 0 else shown


def _places(change: Change) -> str:
    places = [str(place) for place in (change.old_place, change.new_place) if place is not None]
    return " -> ".join(dict.fromkeys(places))


def _tried(surface: SurfaceDiff) -> str:
    if not surface.tried:
        return "the same meaning, so no decision differs"
    cases = f"{surface.tried:,} case{'s' if surface.tried != 1 else ''} tried"
    end = "exact: no other decision differs" if surface.exact else "sampled: other decisions may differ, too"
    return f"{cases}, {end}"


# ---- text -------------------------------------------------------------------------------------------------


def text(found: PolicyDiff) -> str:
    lines = [f"{found.old.label} -> {found.new.label}", ""]
    if found.organisation:
        lines += ["org.yaml", *(line for change in found.organisation for line in _change(change)), ""]
    for surface in found.surfaces:
        lines += [*_surface(surface, found), ""] if surface.status != "unchanged" else []
    return _plain([*lines, _summary(found)])


def _plain(lines: list[str]) -> str:
    """Each text is one line: a control character of a policy could pass for a command to a terminal or to CI."""
    return "".join(visible(line) + "\n" for line in lines)


def _surface(surface: SurfaceDiff, found: PolicyDiff) -> Iterator[str]:
    yield f"{surface.surface}: {_headline(surface)}"
    for finding in surface.findings:
        yield f"  {finding.direction:<10} {_what(finding)}"
        yield from (f"             {line}" for line in _why(finding))
        yield f"             {command(surface.surface, finding.witness.world, found.now)}"
    for change in surface.changes:
        yield from _change(change)
    if surface.status == "changed":
        yield f"  {_tried(surface)}"


def _change(change: Change) -> list[str]:
    places = _places(change)
    return [f"  {change.direction:<10} {change.what}"] + ([f"             {places}"] if places else [])


def _summary(found: PolicyDiff) -> str:
    counts = {word: sum(word in s.directions() for s in found.surfaces) for word in ("loosened", "tightened")}
    same = sum(surface.status == "unchanged" for surface in found.surfaces)
    total = len(found.surfaces)
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing loosened or tightened"
    return f"{total} surface{'s' if total != 1 else ''}: {said}, {same} without a change"


# ---- JSON -------------------------------------------------------------------------------------------------


def as_json(found: PolicyDiff) -> str:
    data = {
        "old": found.old.label,
        "new": found.new.label,
        "now": found.now.isoformat(),
        "organisation": [_change_row(change) for change in found.organisation],
        "surfaces": [_surface_row(surface, found) for surface in found.surfaces],
    }
    return output.as_json(data) + "\n"


def _surface_row(surface: SurfaceDiff, found: PolicyDiff) -> dict[str, Any]:
    return {
        "surface": surface.surface,
        "status": surface.status,
        "tried": surface.tried,
        "exact": surface.exact,
        "findings": [_finding_row(finding, surface.surface, found) for finding in surface.findings],
        "changes": [_change_row(change) for change in surface.changes],
    }


def _finding_row(finding: Difference, surface: str, found: PolicyDiff) -> dict[str, Any]:
    return {
        "direction": finding.direction,
        "old": finding.old,
        "new": finding.new,
        "old_reasons": [{"id": name, "place": _at(place)} for name, place in finding.old_reasons],
        "new_reasons": [{"id": name, "place": _at(place)} for name, place in finding.new_reasons],
        "upstream": [{"param": name, "old": old, "new": new} for name, old, new in finding.upstream],
        "cases": finding.cases,
        "witness": {
            **request_row(finding.witness.world),
            "command": command(surface, finding.witness.world, found.now),
        },
    }


def _change_row(change: Change) -> dict[str, Any]:
    return {
        "direction": change.direction,
        "what": change.what,
        "old_place": _at(change.old_place),
        "new_place": _at(change.new_place),
    }


def _at(place: Place | None) -> str | None:
    return None if place is None else str(place)


# ---- GitHub -----------------------------------------------------------------------------------------------


def github(found: PolicyDiff) -> str:
    """One annotation for each difference, at the new side's line: a warning where something loosened."""
    lines = [_annotation(change.direction, change.new_place, "org.yaml", change.what) for change in found.organisation]
    for surface in found.surfaces:
        for finding in surface.findings:
            said = [_what(finding), *_why(finding), command(surface.surface, finding.witness.world, found.now)]
            place = finding.new_place or surface.place
            lines.append(_annotation(finding.direction, place, surface.surface, "\n".join(said)))
        for change in surface.changes:
            place = change.new_place or surface.place
            lines.append(_annotation(change.direction, place, surface.surface, change.what))
    return "".join(line + "\n" for line in lines)


def _annotation(direction: str, place: Place | None, subject: str, message: str) -> str:
    level = "warning" if direction == "loosened" else "notice"
    # A revision's path follows its colon.
    where = {} if place is None else {"file": place.file.rpartition(":")[2], "line": place.line}
    return annotation(level, message, **where, title=f"{subject}: {direction}")


# ---- Markdown ---------------------------------------------------------------------------------------------


def markdown(found: PolicyDiff) -> str:
    """A comment for a pull request: one section for each surface that changed."""
    lines = [f"### Policies: {_code(found.old.label)} -> {_code(found.new.label)}", "", _summary(found), ""]
    if found.organisation:
        lines += ["**org.yaml**", "", *(_item(change) for change in found.organisation), ""]
    for surface in found.surfaces:
        if surface.status == "unchanged":
            continue
        lines += [f"**{surface.surface}**: {_headline(surface)}", ""]
        for finding in surface.findings:
            why = "; ".join(_why(finding))
            lines.append(f"- {finding.direction}: " + _markdown(_what(finding) + (f" ({why})" if why else "")))
            lines += ["", "  ```sh", f"  {command(surface.surface, finding.witness.world, found.now)}", "  ```", ""]
        lines += [_item(change) for change in surface.changes]
        lines += ["", f"_{_tried(surface)}_", ""] if surface.status == "changed" else [""]
    return _plain(lines).rstrip() + "\n"


def _item(change: Change) -> str:
    places = _places(change)
    return f"- {change.direction}: " + _markdown(change.what + (f" ({places})" if places else ""))


def _markdown(text: str) -> str:
    """Words of policies as words: no link, no HTML and no mention. What stands in backticks is code already."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one that is alone: nobody can say where code begins
        return _code(text)
    return "`".join(part if at % 2 else _ACTIVE.sub(_inert, part) for at, part in enumerate(parts))


def _inert(found: re.Match[str]) -> str:
    return "@<!-- -->" if found[0] == "@" else f"\\{found[0]}"


def _code(text: str) -> str:
    """As code, within more backticks than it has in a row."""
    ticks = "`" * (1 + max(map(len, _TICKS.findall(text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{space}{text}{space}{ticks}"


_ACTIVE = re.compile(r"[\\<\[\]&]|(?<!\w)@")
_TICKS = re.compile("`+")


FORMS: Mapping[str, Callable[[PolicyDiff], str]] = {
    "text": text,
    "json": as_json,
    "github": github,
    "markdown": markdown,
}
