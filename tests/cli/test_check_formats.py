"""What programs read of `check`: every format says the same problems, in the form that its readers accept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as xml

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import CLEAN, SURFACE, write_policies

from policyguard.cli.formats import JUnitCase, file_cases, github, junit, relative, rows, sarif
from policyguard.errors import Diagnostic
from policyguard.policy.diagnostics import CODES
from policyguard.text.visible import visible

KEYS = {"code", "severity", "file", "line", "column", "path", "message", "hint"}


def problem(**changes: Any) -> Diagnostic:
    given = {"file": "p/a.yaml", "line": 3, "column": 5, "code": "PG201", "message": "there is no key `x` here"}
    return Diagnostic(**{**given, **changes})


def run(*arguments: str, cwd: Path, code: int) -> str:
    command = [sys.executable, "-m", "policyguard", "check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=dict(os.environ))
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    write_policies(tmp_path / "policies", avatars=SURFACE + "moderaton: {}\n", second=CLEAN.replace("avatars", "b2"))
    return tmp_path


# ---- JSON -------------------------------------------------------------------------------------------------


def test_json_is_a_list_of_problems_with_exactly_eight_keys(wrong: Path) -> None:
    found = json.loads(run("--format", "json", cwd=wrong, code=1))
    assert [set(row) for row in found] == [KEYS]
    assert {key: found[0][key] for key in ("code", "severity", "file", "line", "column", "path")} == {
        "code": "PG201",
        "severity": "error",
        "file": "policies/avatars.yaml",
        "line": 13,
        "column": 1,
        "path": "moderaton",
    }


def test_a_file_name_that_is_no_text_can_be_written() -> None:
    named = problem(file=os.fsdecode(b"p/\xff.yaml"))
    assert json.loads(json.dumps(rows([named])))[0]["file"] == "p/?.yaml"
    assert sarif([named], CODES)["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"][
        "uri"
    ] == ("p/%3F.yaml")
    assert "file=p/?.yaml," in next(iter(github([named])))
    xml.fromstring(junit("check", file_cases([], [named])).encode())


# ---- SARIF ------------------------------------------------------------------------------------------------


def test_sarif_has_what_the_schema_requires_and_its_values(wrong: Path) -> None:
    log = json.loads(run("--format", "sarif", cwd=wrong, code=1))
    assert (log["version"], set(log)) == ("2.1.0", {"$schema", "version", "runs"})
    (found,) = log["runs"]
    driver = found["tool"]["driver"]
    assert driver["name"] == "policyguard"
    assert [rule["id"] for rule in driver["rules"]] == list(CODES)
    assert all(rule["shortDescription"]["text"].endswith(".") for rule in driver["rules"])
    assert found["columnKind"] == "unicodeCodePoints"
    (result,) = found["results"]
    assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "PG201"
    assert result["level"] == "error"
    assert result["message"]["text"].startswith("there is no key `moderaton` here\nhint: did you mean `moderation`?")
    (place,) = result["locations"]
    assert place == {
        "physicalLocation": {
            "artifactLocation": {"uri": "policies/avatars.yaml"},
            "region": {"startLine": 13, "startColumn": 1},
        },
        "logicalLocations": [{"fullyQualifiedName": "moderaton"}],
    }


def test_a_sarif_uri_is_relative_and_escaped_and_a_file_elsewhere_is_named_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uris = [
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in sarif([problem(file="my p/ä#1.yaml"), problem(file="/etc/p/a b.yaml")], CODES)["runs"][0][
            "results"
        ]
    ]
    assert uris == ["my%20p/%C3%A4%231.yaml", "file:///etc/p/a%20b.yaml"]
    assert relative("..data/org.yaml") == "..data/org.yaml"


def test_a_clean_folder_is_a_log_without_results(wrong: Path) -> None:
    (wrong / "policies/avatars.yaml").unlink()
    log = json.loads(run("--format", "sarif", cwd=wrong, code=0))
    assert log["runs"][0]["results"] == []


# ---- GitHub -----------------------------------------------------------------------------------------------


def test_github_reads_one_command_for_each_problem(wrong: Path) -> None:
    (line,) = run("--format", "github", cwd=wrong, code=1).splitlines()
    assert line.startswith(
        "::error file=policies/avatars.yaml,line=13,col=1,title=PG201::there is no key `moderaton` here%0Ahint: did"
    )


def test_github_escapes_what_would_end_a_command_or_a_property() -> None:
    odd = problem(file="a,b:c%.yaml", severity="warning", message="100%\r\nsure: yes, `::error::`")
    assert list(github([odd])) == [
        "::warning file=a%2Cb%3Ac%25.yaml,line=3,col=5,title=PG201::100%25%0D%0Asure: yes, `::error::`"
    ]


@given(st.text(), st.text(min_size=1).filter(lambda name: "\0" not in name and "/" not in name))
def test_a_github_command_is_one_line_and_says_the_message(message: str, file: str) -> None:
    (line,) = github([problem(message=message, file=file)])
    assert not {"\n", "\r"} & set(line)
    text = line.split("::", 2)[2]
    assert text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%") == visible(message, keep="\r\n")
    name = os.path.relpath(file).encode(errors="replace").decode()
    assert unquote(line.split("file=", 1)[1].split(",", 1)[0]) == visible(name, keep="\r\n")


# ---- JUnit ------------------------------------------------------------------------------------------------


def test_junit_has_a_case_for_each_file_and_clean_files_pass(wrong: Path) -> None:
    root = xml.fromstring(run("--format", "junit", cwd=wrong, code=1))
    assert (root.tag, root.attrib["tests"], root.attrib["failures"]) == ("testsuites", "3", "1")
    cases = {case.attrib["name"]: [part.tag for part in case] for case in root.iter("testcase")}
    assert cases == {"policies/avatars.yaml": ["failure"], "policies/org.yaml": [], "policies/second.yaml": []}


def test_a_folder_that_cannot_be_read_is_a_failing_case(tmp_path: Path) -> None:
    root = xml.fromstring(run("nowhere", "--format", "junit", cwd=tmp_path, code=1))
    assert [case.attrib["name"] for case in root.iter("testcase") if case.find("failure") is not None] == ["nowhere"]


def test_warnings_are_notes_unless_they_fail() -> None:
    found = [problem(severity="warning"), problem(line=9)]
    (lenient,) = file_cases(["p/a.yaml"], found)
    assert (len(lenient.failures), len(lenient.notes)) == (1, 1)
    (strict,) = file_cases(["p/a.yaml"], found, strict=True)
    assert (len(strict.failures), len(strict.notes)) == (2, 0)
    assert 'message="p/a.yaml:3:5: warning PG201: there is no key `x` here (and 1 more)"' in junit("check", [strict])


@given(st.lists(st.text(), max_size=3), st.text())
def test_junit_is_xml_whatever_the_texts_hold(texts: list[str], name: str) -> None:
    written = junit("check", [JUnitCase(name=name, failures=tuple(texts), notes=tuple(texts))])
    root = xml.fromstring(written.encode(errors="replace"))
    assert len(list(root.iter("failure"))) == bool(texts)
    assert xml.fromstring(junit("check", []).encode()).attrib["tests"] == "0"


# ---- exit codes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github", "junit"])
def test_every_format_ends_with_1_on_an_error_and_0_without(wrong: Path, form: str) -> None:
    run("--format", form, cwd=wrong, code=1)
    (wrong / "policies/avatars.yaml").unlink()
    run("--format", form, "--fail-on-warning", cwd=wrong, code=0)


def test_an_unknown_format_is_a_usage_error(wrong: Path) -> None:
    run("--format", "yaml", cwd=wrong, code=2)


@pytest.mark.parametrize(
    ("severity", "strict", "code"), [("warning", False, 0), ("warning", True, 1), ("error", False, 1)]
)
def test_warnings_fail_only_where_that_is_asked(
    severity: str, strict: bool, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from policyguard.cli import app
    from policyguard.policy import load

    found = load.Loaded(None, [problem(severity=severity)])
    monkeypatch.setattr(load, "checked", lambda folder, today, progress: found)
    options = ["--fail-on-warning"] if strict else []
    assert CliRunner().invoke(app, ["check", str(tmp_path), "--format", "json", *options]).exit_code == code


def test_a_byte_order_mark_does_not_move_the_caret(tmp_path: Path) -> None:
    folder = write_policies(tmp_path / "policies", avatars=SURFACE)
    (folder / "avatars.yaml").write_text("漢字: 1\n" + SURFACE, encoding="utf-8-sig")
    lines = run(cwd=tmp_path, code=1).splitlines()
    assert lines[1:5] == ["  --> policies/avatars.yaml:1:1", "  |", "1 | 漢字: 1", "  | ^"]
