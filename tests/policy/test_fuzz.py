"""No bytes, no file and no condition make the loader crash, hang or eat the memory: only diagnostics come out.

The suite runs each hostile file once and some hundred random ones; `make fuzz` runs the random ones for minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import HANGS_S
from support import ORG, SURFACE, write_policies

from policyguard.errors import PolicyError
from policyguard.policy.diagnostics import CODES, render
from policyguard.policy.expr import CallerType, Environment, ExpressionErrors, compile_expression
from policyguard.policy.load import check, load
from policyguard.policy.source import read

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "policies"
LONG = os.environ.get("POLICYGUARD_FUZZ") == "long"
MAX_COST, MAX_MEGABYTES = 8.0, 200.0  # of one folder, in large good ones; of the whole process, Python included
ENVIRONMENT = Environment({"tier": CallerType(False, ("free", "pro")), "feature": CallerType(True)})
FILES = {path.name: path.read_bytes() for path in sorted(SHIPPED.glob("*.yaml"))}


def some(count: int) -> Callable[[Any], Any]:
    """Settings of a random test: this many examples in the suite, fifty times as many in the long form."""
    return settings(
        max_examples=count * 50 if LONG else count,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def test_hostile_policies_cost_as_much_as_some_good_ones_and_200_megabytes() -> None:
    """Measured as up to 2.5 large good folders, of 500 rules each."""
    done = subprocess.run(
        [sys.executable, str(HERE / "hostile.py")], capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) > 100
    slow = [(name, cost) for name, cost, _, _ in rows if float(cost) > MAX_COST]
    large = [(name, megabytes) for name, _, megabytes, _ in rows if float(megabytes) > MAX_MEGABYTES]
    assert (slow, large) == ([], [])


# ---- random files -----------------------------------------------------------------------------------------


def outcome(folder: Path) -> list[str]:
    """The codes of a folder; `check` and `load` agree on whether it loads, and every problem can be shown."""
    problems = check(folder)
    errors = [problem for problem in problems if problem.severity == "error"]
    for problem in problems[:5]:
        path = Path(problem.file)
        render(problem, path.read_bytes().decode("utf-8", "replace") if path.exists() else "")
    try:
        load(folder)
        loads = True
    except PolicyError:
        loads = False
    assert loads == (errors == [])
    assert {problem.code for problem in problems} <= set(CODES)
    return [problem.code for problem in problems]


PIECES = [
    *(b"[", b"]", b"{", b"}", b": ", b":", b"- ", b"-", b", ", b"\n", b"\r", b"\t", b"#", b"'", b'"', b"|", b">"),
    *(b"&a ", b"*a", b"!!str ", b"!", b"<<: ", b"? ", b"---\n", b"...", b"%", b"@", b"`", b"\\", b"\x00", b"\xff"),
    *(b"~", b"null", b"true", b"no", b"1e999", b".inf", b"-0", b"999999999999999999999", b"1.5", b"$1 / day", b"30m"),
    *("\u2028".encode(), "\ufeff".encode(), "漢".encode(), "é".encode(), b"group:", b"caller.", b"request.n", b"&&"),
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A shipped file with some parts cut out, doubled, moved, or with something put in."""
    name = draw(st.sampled_from(sorted(FILES)))
    text = FILES[name]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(text) - 1)))
        end = min(len(text), start + draw(st.integers(0, 60)))
        other = draw(st.integers(0, len(text)))
        piece = draw(st.sampled_from([*PIECES, text[start:end]]))
        kind = draw(st.sampled_from(("cut", "put", "move", "double")))
        if kind == "cut":
            text = text[:start] + text[end:]
        elif kind == "put":
            text = text[:start] + piece + text[start:]
        elif kind == "move":
            rest = text[:start] + text[end:]
            text = rest[:other] + text[start:end] + rest[other:]
        else:
            text = text[:end] + text[start:end] + text[end:]
    return name, text


@some(60)
@given(mutated())
def test_shipped_files_with_parts_moved_about_only_have_problems(tmp_path: Path, case: tuple[str, bytes]) -> None:
    name, text = case
    for other, content in FILES.items():
        (tmp_path / other).write_bytes(text if other == name else content)
    outcome(tmp_path)


@some(150)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=60).map(b"".join))
def test_any_bytes_are_read_or_have_a_problem(raw: bytes) -> None:
    source = read("x.yaml", raw)
    lines = raw.decode("utf-8-sig", "replace").replace("\r\n", "\n").split("\n")
    for problem in source.problems:
        assert problem.code in CODES
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**20)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["auto", "low", "deny", "$1 / day", "30m", "1d", "1024x1024", "group:trust", "caller.user", "true"]
    )
    | st.sampled_from(["POST /v1/images/edits", "request.n > 1", "gpt-image-2", "body.a", "2027-01-31", "a" * 600]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def replaced(draw: st.DrawFn, name: str) -> str:
    """A good file, as the JSON that is YAML, too, with values replaced by others."""
    data = read(name, FILES[name]).data
    for _ in range(draw(st.integers(1, 3))):
        place: Any = data
        while True:
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from(list(keys)))
            below = place[key]
            if not isinstance(below, dict | list) or not below or draw(st.booleans()):
                break
            place = below
        if draw(st.integers(0, 3)) or isinstance(place, list):
            place[key] = draw(VALUES)
        else:
            place[draw(st.text(max_size=8))] = place.pop(key)
    return json.dumps(data, ensure_ascii=draw(st.booleans()))


@some(80)
@given(replaced("avatars.yaml"))
def test_surfaces_with_other_values_only_have_problems(tmp_path: Path, text: str) -> None:
    (tmp_path / "org.yaml").write_bytes(FILES["org.yaml"])
    (tmp_path / "avatars.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    outcome(tmp_path)


@some(80)
@given(replaced("org.yaml"))
def test_organisations_with_other_values_only_have_problems(tmp_path: Path, text: str) -> None:
    (tmp_path / "org.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    (tmp_path / "avatars.yaml").write_bytes(FILES["avatars.yaml"])
    outcome(tmp_path)


# ---- random conditions ------------------------------------------------------------------------------------

WORDS = [
    *("request", ".", "n", "prompt", "caller", "tier", "feature", "scores", "now", "surface", "answers", "has", "size"),
    *("(", ")", "[", "]", "{", "}", ",", "?", ":", "&&", "||", "!", "-", "+", "*", "/", "%", "==", "!=", "<", ">="),
    *("1", "0", "1.0", "1u", "0x1f", "9223372036854775808", "1e400", '"a"', "'a'", '"', "'", '"""', "r'", "b'a'"),
    *("true", "false", "null", "in", "exists", "all", "map", "x", "matches", '"("', "duration", '"1h"', "getHours"),
    *(" ", "\n", "//", "é", "漢", "\x00", "request.n > 1", "scores.hate > 0.5", 'scores["hate"]', "caller.feature"),
]  # fmt: skip


@some(300)
@given(st.lists(st.sampled_from(WORDS), max_size=25), st.sampled_from(("", " ")))
def test_any_condition_compiles_or_has_problems_with_their_places(words: list[str], between: str) -> None:
    text = between.join(words)
    try:
        compile_expression(text, ENVIRONMENT)
    except ExpressionErrors as errors:
        lines = text.split("\n")
        for problem in errors.problems:
            assert problem.code in CODES
            assert 1 <= problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


@some(60)
@given(st.text(max_size=80) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), st.sampled_from("|>'\""))
def test_any_condition_in_any_style_has_its_problems_inside_the_text(tmp_path: Path, text: str, style: str) -> None:
    """The place of a problem in a condition is inside the lines of the condition, whatever it holds."""
    if style in "|>":
        body = f"{style}\n" + "".join(f"      {line}\n" for line in text.split("\n"))
    else:
        body = json.dumps(text) if style == '"' else "'" + text.replace("'", "''") + "'"
    rule = f"rules:\n  - id: a\n    then: flag\n    when: {body}\n"
    write_policies(tmp_path, org=ORG)
    (tmp_path / "avatars.yaml").write_bytes((SURFACE + rule).encode("utf-8", "replace"))
    outcome(tmp_path)
    start = SURFACE.count("\n") + 4
    found = [p for p in check(tmp_path) if p.code.startswith("PG4")]
    assert all(start <= problem.line <= start + text.count("\n") + 2 for problem in found)
