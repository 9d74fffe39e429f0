"""`policyguard explain SURFACE --stages`: when each check of a surface runs, and what is left without moderation.

It reads the order of checks from `engine.stages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from policyguard.cli.output import console, print_json, print_rows

if TYPE_CHECKING:
    from policyguard.engine.stages import Control, Outage
    from policyguard.policy.model import PolicySet
    from policyguard.policy.world import World

_DOES = {"deny": "is denied", "review": "is held for review", "recorded": "passes, and that is recorded"}


def show_stages(loaded: PolicySet, surface: str, *, as_json: bool) -> None:
    """Print the checks of one surface."""
    from policyguard.engine.stages import checks, outage
    from policyguard.policy.world import environment_of

    policy = loaded.surfaces[surface]
    asked = [question.name for question in policy.questions]
    found, down = checks(policy, environment_of(loaded.caller, asked)), outage(policy)
    if as_json:
        print_json(
            {
                "surface": surface,
                "digest": policy.digest,
                "mode": policy.mode,
                "moderation_down": {"effect": down.effect, "whom": down.whom, "place": str(down.place)},
                "checks": [_row(surface, check) for check in found],
            }
        )
    else:
        _print(surface, found, down)


def _row(surface: str, check: Control) -> dict[str, Any]:
    return {
        "stage": check.stage,
        "what": check.what,
        "effect": check.effect,
        "mode": check.mode,
        "place": str(check.place) if check.place else None,
        "moderation_down": check.down,
        "still_decides": check.still,
        "sampled": check.sampled,
        "example": _example(surface, check.example) if check.example else None,
    }


def _print(surface: str, found: list[Control], down: Outage) -> None:
    out = console()
    out.print(f"{surface}: while moderation is down, {down.whom} {_DOES[down.effect]} ({down.place})")
    out.print()
    print_rows(out, list(_lines(found)))
    examples = [check for check in found if check.example]
    if examples:
        out.print()
    for check in examples:
        out.print(f"`{check.what}` needs no scores for some requests, for example")
        out.print(f"  {_example(surface, check.example)}")


def _lines(found: list[Control]) -> Iterator[tuple[tuple[str, ...], str]]:
    """One row for each check, and for all thresholds that one line of a file sets."""
    groups: dict[Any, list[Control]] = {}
    for check in found:
        is_threshold = check.what.startswith(("moderation.", "output."))
        key = (check.stage, check.effect, check.place, check.mode) if is_threshold else (check.what, check.place)
        groups.setdefault(key, []).append(check)
    for same in groups.values():
        first = same[0]
        what = first.what if len(same) == 1 else f"{first.what.partition('.')[0]} ({len(same)} categories)"
        then = f"{first.effect} (shadow)" if first.mode == "shadow" else first.effect
        down = f"{first.down} (sampled)" if first.sampled else first.down
        yield (first.stage, what, then), f"{first.place or ''}, moderation down: {down}"


def _example(surface: str, world: World | None) -> str:
    from policyguard.diff.witness import SMALL, command
    from policyguard.policy.world import NOON

    return command(surface, {**(world or {}), "image_bytes": SMALL}, NOON)
