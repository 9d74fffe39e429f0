"""Reports for programs: what `check` and `test` found, as JSON, SARIF, GitHub annotations or JUnit.

Everything here is pure: problems or cases in, text out. Files are named relative to the working directory, as code
hosts expect them; texts never carry a character that the format cannot hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote
from xml.etree import ElementTree as xml

import typer

from policyguard import __version__
from policyguard.errors import Diagnostic
from policyguard.text.visible import visible

ReportFormat = Literal["text", "json", "sarif", "github", "junit"]
ReportFormatOption = Annotated[
    ReportFormat,
    typer.Option("--format", help="Text for people; JSON, SARIF, GitHub annotations or JUnit for programs."),
]


@dataclass(frozen=True, slots=True)
class JUnitCase:
    """One case of a JUnit report. It fails where it has `failures`; `notes` are shown beside them."""

    name: str
    file: str = ""
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


def rows(problems: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """The problems as JSON has them: `{code, severity, file, line, column, path, message, hint}`."""
    return [{**asdict(problem), "file": _text(problem.file)} for problem in problems]


# ---- SARIF ------------------------------------------------------------------------------------------------


def sarif(problems: Iterable[Diagnostic], codes: Mapping[str, str]) -> dict[str, Any]:
    """A SARIF 2.1.0 log of one run; `codes` with their meanings are the rules that the tool has."""
    index = {code: place for place, code in enumerate(codes)}
    rules = [{"id": code, "shortDescription": {"text": f"{meaning}."}} for code, meaning in codes.items()]
    driver = {"name": "policyguard", "semanticVersion": __version__, "rules": rules}
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "results": [_result(problem, index) for problem in problems],
            }
        ],
    }


def _result(problem: Diagnostic, index: Mapping[str, int]) -> dict[str, Any]:
    place: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(problem.file)},
            "region": {"startLine": problem.line, "startColumn": problem.column},
        }
    }
    if problem.path:
        place["logicalLocations"] = [{"fullyQualifiedName": problem.path}]
    return {
        "ruleId": problem.code,
        "ruleIndex": index[problem.code],
        "level": problem.severity,
        "message": {"text": _message(problem)},
        "locations": [place],
    }


def _uri(file: str) -> str:
    path = relative(file)
    if os.path.isabs(path):
        return Path(path).as_uri()
    return quote(path.replace(os.sep, "/").encode(errors="replace"), safe="/")


# ---- GitHub -----------------------------------------------------------------------------------------------


def github(problems: Iterable[Diagnostic]) -> Iterator[str]:
    """Workflow commands, one line for each problem: GitHub shows them at their lines of a pull request."""
    for problem in problems:
        where = {"file": _text(relative(problem.file)), "line": problem.line, "col": problem.column}
        yield annotation(problem.severity, _message(problem), **where, title=problem.code)


def annotation(level: str, message: str, **properties: object) -> str:
    """One workflow command; nothing in its texts can end it or begin another."""
    return f"::{level} {','.join(f'{key}={_property(value)}' for key, value in properties.items())}::{_data(message)}"


def _data(text: str) -> str:
    text = visible(text, keep="\r\n")
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: object) -> str:
    return _data(str(value)).replace(":", "%3A").replace(",", "%2C")


# ---- JUnit ------------------------------------------------------------------------------------------------


def junit(suite: str, cases: Sequence[JUnitCase]) -> str:
    """One suite as XML, as CI servers read it."""
    failed = sum(bool(case.failures) for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": "0"}
    counts["time"] = f"{sum(case.seconds for case in cases):.3f}"
    root = xml.Element("testsuites", counts)
    parent = xml.SubElement(root, "testsuite", {"name": visible(suite), **counts})
    for case in cases:
        _case(parent, suite, case)
    xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _case(parent: xml.Element, suite: str, case: JUnitCase) -> None:
    named = {"classname": suite, "name": case.name, "time": f"{case.seconds:.3f}"}
    if case.file:
        named["file"] = relative(case.file)
    element = xml.SubElement(parent, "testcase", {key: visible(value) for key, value in named.items()})
    if case.failures:
        more = len(case.failures) - 1
        message = case.failures[0] + (f" (and {more} more)" if more else "")
        xml.SubElement(element, "failure", {"message": visible(message)}).text = _lines(case.failures)
    if case.notes:
        xml.SubElement(element, "system-out").text = _lines(case.notes)


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(map(visible, texts))


def file_cases(files: Iterable[str], problems: Iterable[Diagnostic], *, strict: bool = False) -> list[JUnitCase]:
    """One case for each file: its errors are failures, its warnings notes, or failures, too, where `strict`."""
    found = {file: list(group) for file, group in groupby(sorted(problems), key=lambda problem: problem.file)}
    return [_file_case(file, found.get(file, []), strict) for file in sorted({*files, *found})]


def _file_case(file: str, problems: list[Diagnostic], strict: bool) -> JUnitCase:
    failures = tuple(str(problem) for problem in problems if strict or problem.severity == "error")
    notes = tuple(str(problem) for problem in problems if not strict and problem.severity != "error")
    return JUnitCase(name=relative(file), file=file, failures=failures, notes=notes)


# ---- shared -----------------------------------------------------------------------------------------------


def relative(file: str) -> str:
    """The file as seen from the working directory, or whole where it stands elsewhere."""
    path = os.path.relpath(file)
    return os.path.abspath(file) if path.split(os.sep)[0] == os.pardir else path


def _message(problem: Diagnostic) -> str:
    return f"{problem.message}\nhint: {problem.hint}" if problem.hint else problem.message


def _text(name: str) -> str:
    """A file's name as text; bytes that are none become `?`."""
    return name.encode(errors="replace").decode()
