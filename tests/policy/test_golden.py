"""The golden folder: wrong policies as people write them, each with all that is said of it, word for word.

A case begins with comments of the form `# LINE:COLUMN CODE message` and `#   hint: ...`, then comes the policy. Cases
below `surface` and `org` are one file; what else a folder needs comes from `base`. A case below `folders` is a folder.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from support import NOW, ORG, SURFACE, write_policies

from policyguard.errors import Diagnostic
from policyguard.policy.diagnostics import CODES
from policyguard.policy.load import check, load
from policyguard.policy.source import MAX_BYTES, MAX_NODES

GOLDEN = Path(__file__).parents[1] / "policies" / "golden"
FILES = sorted([*GOLDEN.glob("surface/*.yaml"), *GOLDEN.glob("org/*.yaml")])
FOLDERS = sorted(path for path in GOLDEN.glob("folders/*") if path.is_dir())
EXPECTED = re.compile(r"# (\d+:\d+ PG\d+ .+|  hint: .+)")
# What cannot be read, is not there or not in its place, or fits no moderator, is no golden file.
NO_FILE = {"PG101", "PG501", "PG505", "PG506", "PG507", "PG508"}


def expected(text: str) -> list[str]:
    """The comments at the top of a case."""
    found = []
    for line in text.replace("\r\n", "\n").split("\n"):
        match = EXPECTED.fullmatch(line)
        if match is None:
            return found
        found.append(match[1])
    return found


def said(folder: Path, problem: Diagnostic) -> list[str]:
    """One problem as a case writes it."""
    severity = "" if problem.severity == "error" else f"{problem.severity}: "
    message = problem.message.replace(f"{folder}{os.sep}", "")
    first = f"{problem.line}:{problem.column} {problem.code} {severity}{message}"
    return [first, f"  hint: {problem.hint}"] if problem.hint else [first]


def all_said(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for problem in check(folder, today=NOW.date()):
        found.setdefault(Path(problem.file).name, []).extend(said(folder, problem))
    return found


def copied(case: Path, folder: Path) -> dict[str, bytes]:
    """The files of a case, in a folder that has all it needs."""
    if case.is_dir():
        files = {path.name: path.read_bytes() for path in case.iterdir()}
    else:
        files = {"org.yaml" if case.parent.name == "org" else "avatars.yaml": case.read_bytes()}
    needed = {"org.yaml"} if case.is_dir() else {"org.yaml", "avatars.yaml"}
    base = {name: (GOLDEN / "base" / name).read_bytes() for name in needed}
    for name, content in {**base, **files}.items():
        (folder / name).write_bytes(content)
    return files


@pytest.mark.parametrize("case", [*FILES, *FOLDERS], ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_a_wrong_policy_gets_exactly_what_the_case_says(tmp_path: Path, case: Path) -> None:
    files = copied(case, tmp_path)
    wanted = {name: lines for name, raw in files.items() if (lines := expected(raw.decode()))}
    assert wanted == all_said(tmp_path)


def test_the_base_is_good(tmp_path: Path) -> None:
    copied(GOLDEN / "base", tmp_path)
    assert check(tmp_path, today=NOW.date()) == []
    assert list(load(tmp_path, now=NOW).surfaces) == ["avatars"]


def test_every_code_has_a_case() -> None:
    produced = Counter(
        line.split(" ")[1]
        for case in [*FILES, *GOLDEN.glob("folders/*/*.yaml")]
        for line in expected(case.read_text(encoding="utf-8"))
        if not line.startswith(" ")
    )
    assert set(produced) == set(CODES) - NO_FILE
    assert len(FILES) + len(FOLDERS) >= 80


def test_every_code_has_a_sentence() -> None:
    assert all(words and not words.endswith(".") and words[0] == words[0].lower() for words in CODES.values())


# ---- what is no readable file -----------------------------------------------------------------------------


def problems(folder: Path) -> list[tuple[str, int, int]]:
    return [(problem.code, problem.line, problem.column) for problem in check(folder, today=NOW.date())]


RAW: dict[str, tuple[bytes, tuple[str, int, int]]] = {
    "Latin-1": (SURFACE.replace("Profile", "Größe").encode("latin-1"), ("PG101", 4, 10)),
    "a mark and then no UTF-8": (b"\xef\xbb\xbfa: \x80", ("PG101", 1, 4)),
    "UTF-16": (SURFACE.encode("utf-16"), ("PG101", 1, 1)),
    "a zero byte": (SURFACE.encode() + b"mode: \x00", ("PG108", 13, 7)),
    "old Mac line ends": (SURFACE.strip().replace("\n", "\r").encode(), ("PG108", 1, 11)),
    "nothing": (b"", ("PG107", 1, 1)),
    "white space": (b" \n\n  ", ("PG107", 1, 1)),
    "too large": (SURFACE.encode() + b"#" * MAX_BYTES, ("PG106", 1, 1)),
    "too many values": (
        SURFACE.encode() + b"rules: [" + b"1," * MAX_NODES + b"1]",
        ("PG106", 13, 9 + 2 * (MAX_NODES - 30)),
    ),
}


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_text_is_said_with_its_place(tmp_path: Path, name: str) -> None:
    raw, place = RAW[name]
    write_policies(tmp_path, avatars="")
    (tmp_path / "avatars.yaml").write_bytes(raw)
    assert problems(tmp_path) == [place]


def test_what_is_not_there_is_said() -> None:
    nowhere = Path("no-such-folder")
    assert [(p.code, p.file) for p in check(nowhere)] == [("PG101", "no-such-folder")]


def test_without_an_organisation_the_forms_of_surfaces_are_checked_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "avatars.yaml").write_text(SURFACE + "modes: shadow\n")
    assert problems(tmp_path) == [("PG201", 13, 1), ("PG501", 1, 1)]


def test_a_folder_that_can_be_read_again_says_the_same_again(tmp_path: Path) -> None:
    write_policies(tmp_path, org=ORG + "rulez: []\n", avatars=SURFACE + "modes: shadow\n")
    assert check(tmp_path) == check(tmp_path)
