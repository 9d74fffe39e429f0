"""Two versions of one small surface, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support import NOW, ORG, SURFACE, policies

from policyguard.diff.diff import Difference, PolicyDiff, SurfaceDiff, diff
from policyguard.diff.witness import Side


def sides(folder: Path, old: str, new: str, *, org: str = ORG, new_org: str | None = None) -> tuple[Side, Side]:
    before = policies(folder / "old", org=org, avatars=old)
    after = policies(folder / "new", org=new_org or org, avatars=new)
    return Side(before, "old/"), Side(after, "new/")


def compared(folder: Path, old: str, new: str, **more: Any) -> PolicyDiff:
    return diff(*sides(folder, old, new, **more), NOW)


def surface(folder: Path, old: str, new: str, **more: Any) -> SurfaceDiff:
    return compared(folder, SURFACE + old, SURFACE + new, **more).surfaces[0]


def shown(finding: Difference) -> tuple[str, str, list[str]]:
    """The direction, what became of what, and the reasons of both sides."""
    reasons = [name for name, _ in (*finding.old_reasons, *finding.new_reasons)]
    return finding.direction, f"{finding.old} -> {finding.new}", reasons
