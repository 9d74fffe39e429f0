"""Files of policy tests to cases and expectations. Every problem of a file is found in one go, with its place.

The only module of the tests that touches files. What a test says is laid over what `given` says, key by key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from policyguard.errors import Diagnostic, InvalidRequest
from policyguard.policy.diagnostics import report
from policyguard.policy.model import PolicySet
from policyguard.policy.pending import report_empty
from policyguard.policy.source import MAX_BYTES, Source, YAMLPath, read
from policyguard.policy.units import size_in_bytes
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, Caller, ImageRequest, InputImage, MainModel, parse_size
from policyguard.testing import matrix
from policyguard.testing.document import UNAVAILABLE, SuiteDocument, amount, instant
from policyguard.testing.names import Names, names
from policyguard.testing.simulate import NOON, Case, EffectWord
from policyguard.text.suggest import known_names
from policyguard.wire.remote import remote_image

FOLDER = "tests"
_MOST_BYTES = 64_000_000  # the API takes 50 MB
_SECTIONS = ("request", "caller", "scores", "answers", "output", "spent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a test wants to see. None is not looked at; anything else must be seen exactly."""

    outcome: EffectWord
    reasons: frozenset[str] | None = None
    shadow: frozenset[str] | None = None
    adjusted: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTest:
    """One test of a file, or one cell of its matrix. `line` and `column` count from 1."""

    name: str
    surface: str
    file: str
    line: int
    column: int
    case: Case
    expected: Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One file. With problems it has no tests: half a suite would look like a whole one."""

    file: str
    surface: str
    tests: tuple[PolicyTest, ...]
    problems: tuple[Diagnostic, ...]


def suite_files(folder: FilePath) -> list[FilePath]:
    """The files of tests of a policies folder, by name."""
    try:
        found = list((folder / FOLDER).iterdir())
    except OSError:
        return []
    return sorted(p for p in found if p.suffix.lower() in (".yaml", ".yml") and not p.name.startswith("."))


def read_suite(file: FilePath, policies: PolicySet) -> Suite:
    """The tests of one file against the surface that it names."""
    source = _read(file)
    surface = _surface(source)
    _check_form(source)
    tests = tuple(_tests(source, surface, policies)) if source.data is not None else ()
    problems = tuple(sorted(set(source.problems)))
    return Suite(file=source.file, surface=surface, tests=() if problems else tests, problems=problems)


def _surface(source: Source) -> str:
    """What the file is about, as far as it can be read."""
    named = source.data.get("surface") if isinstance(source.data, dict) else None
    return named if isinstance(named, str) else ""


def _check_form(source: Source) -> None:
    """Report what is wrong with the form of the file; it has no data then."""
    if not isinstance(source.data, dict):
        if not source.problems:
            source.problem((), "PG203", "a file of tests is keys and values")
        source.data = None
        return
    empty = report_empty(source)
    try:
        SuiteDocument.model_validate(source.data)
    except ValidationError as error:
        report(source, SuiteDocument, error, empty)
        source.data = None


def _read(file: FilePath) -> Source:
    try:
        with file.open("rb") as stream:
            return read(str(file), stream.read(MAX_BYTES + 1))
    except OSError as error:
        source = Source(str(file), "")
        why = (error.strerror or "unknown").lower()
        source.problem((), "PG101", f"the file cannot be read: {why}")
        return source


# ---- tests ------------------------------------------------------------------------------------------------


def _tests(source: Source, surface: str, policies: PolicySet) -> Iterator[PolicyTest]:
    if surface not in policies.surfaces:
        hint = known_names(surface, policies.surfaces)
        source.problem(("surface",), "PG206", f"there is no surface `{surface}`", hint)
        return
    known = names(policies, surface)
    given = _plain(source.data.get("given") or {}, known)
    _check_names(source, ("given",), given, known)
    rows = [*_rows(source, given, known), *_cells(source, given, known)]
    if not rows and not source.problems:
        source.problem((), "PG601", "this file tests nothing", "write `tests:` or `matrix:`")
    for name, path, values, expected in rows:
        case = _case(source, path, values)
        if case is not None and expected is not None:
            mark = source.mark(path)
            yield PolicyTest(
                name=name,
                surface=surface,
                file=source.file,
                line=mark.line,
                column=mark.column,
                case=case,
                expected=expected,
            )


_MatrixRow = tuple[str, YAMLPath, dict[str, Any], Expected | None]


def _rows(source: Source, given: dict[str, Any], known: Names) -> Iterator[_MatrixRow]:
    lines: dict[str, int] = {}
    for index, row in enumerate(source.data.get("tests") or []):
        path: YAMLPath = ("tests", index)
        if row["name"] in lines:
            first = lines[row["name"]]
            source.problem((*path, "name"), "PG207", f"`{row['name']}` is the name of a test already, in line {first}")
        lines.setdefault(row["name"], source.mark((*path, "name")).line)
        values = _plain(row, known)
        _check_names(source, path, values, known)
        started = _without(source, path, given, row.get("without") or [])
        yield row["name"], path, _laid_over(started, values), _expected(source, (*path, "expect"), known)


def _cells(source: Source, given: dict[str, Any], known: Names) -> Iterator[_MatrixRow]:
    if "matrix" not in source.data or not matrix.sound_axes(source):
        return
    for cell in matrix.cells(source):
        values = _plain(cell.values, known)
        yield cell.name, cell.path, _laid_over(given, values), _expected(source, cell.path, known)
    for path, values in matrix.axis_values(source):
        _check_names(source, path, _plain(values, known), known)


def _plain(values: Mapping[str, Any], known: Names) -> dict[str, Any]:
    """`unavailable` for all scores or answers written out for each of them."""
    whole = {"scores": CATEGORIES, "answers": known.questions, "output": IMAGE_CATEGORIES}
    down = {name: dict.fromkeys(each, UNAVAILABLE) for name, each in whole.items() if values.get(name) == UNAVAILABLE}
    return {**values, **down}


def _laid_over(given: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    sections = {name: {**given.get(name, {}), **values.get(name, {})} for name in _SECTIONS}
    return {**given, **values, **sections}


def _without(source: Source, path: YAMLPath, given: Mapping[str, Any], listed: list[str]) -> dict[str, Any]:
    """`given` without what a test takes away."""
    left = {**given, **{name: dict(given.get(name, {})) for name in _SECTIONS}}
    there = [f"{section}.{key}" for section in _SECTIONS for key in left[section]]
    for index, name in enumerate(listed):
        section, _, key = name.partition(".")
        if name in there:
            left[section].pop(key, None)
        else:
            hint = known_names(name, there)
            source.problem((*path, "without", index), "PG206", f"`given` has no `{name}` to take away", hint)
    return left


def _check_names(source: Source, path: YAMLPath, values: Mapping[str, Any], known: Names) -> None:
    for name in values.get("caller") or {}:
        known.caller(source, (*path, "caller", name), name)
    for name in values.get("answers") or {}:
        known.question(source, (*path, "answers", name), name)
    for name, text in (values.get("spent") or {}).items():
        known.budget(source, (*path, "spent", name), name, amount(text).unit)


def _expected(source: Source, path: YAMLPath, known: Names) -> Expected | None:
    written = source.at(path)
    if isinstance(written, str):
        return Expected(outcome=written)  # type: ignore[arg-type]
    for key in ("reasons", "shadow"):
        for index, name in enumerate(written.get(key) or []):
            known.reason(source, (*path, key, index), name)
    _check_reasons(source, path, written["outcome"], written.get("reasons"))
    shadow, adjusted = written.get("shadow"), written.get("adjusted")
    return Expected(
        outcome=written["outcome"],
        reasons=frozenset(written.get("reasons") or ()),
        shadow=None if shadow is None else frozenset(shadow),
        adjusted=None if adjusted is None else {name: str(value) for name, value in adjusted.items()},
    )


def _check_reasons(source: Source, path: YAMLPath, outcome: str, reasons: list[str] | None) -> None:
    """Nothing counts where a request is allowed, and something does where it is not."""
    if outcome == "allow" and reasons:
        hint = "what is only recorded is listed as `shadow`"
        source.problem((*path, "reasons"), "PG208", "`allow` has no reasons that count", hint, key=True)
    if outcome != "allow" and not reasons:
        hint = "write `reasons: [...]`, or the outcome alone, without braces"
        source.problem(path, "PG202", f"`{outcome}` always has reasons", hint)


# ---- values -----------------------------------------------------------------------------------------------


def _case(source: Source, path: YAMLPath, values: Mapping[str, Any]) -> Case | None:
    """The case, or None where no door would let such a request in; the problem then stands in `source`."""
    try:
        request = _request(values["request"])
    except InvalidRequest as error:
        source.problem((*path, "request", error.param or ""), "PG602", error.message)
        return None
    return Case(
        request=request,
        caller=Caller.of(values["caller"]),
        scores=_known(values["scores"]),
        answers=_known(values["answers"]),
        output=_known(values["output"]),
        spent={name: amount(text).amount for name, text in values["spent"].items()},
        paused=values.get("paused"),
        now=instant(values["now"]) if "now" in values else NOON,
    )


def _known(values: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: None if value == UNAVAILABLE else float(value) for name, value in values.items()}


def _request(values: Mapping[str, Any]) -> ImageRequest:
    fields = {name: value for name, value in values.items() if name not in _APART}
    if "prompt" not in fields:
        raise InvalidRequest("the request has no prompt: write one under `given`", param="prompt")
    count = values.get("input_images", 1 if values.get("operation") == "edit" else 0)
    operation = values.get("operation", "edit" if count else "generate")
    if operation == "generate" and (count or values.get("mask")):
        raise InvalidRequest("input images and a mask come with an edit only", param="operation")
    size = size_in_bytes(values.get("image_bytes", 1))
    if size > _MOST_BYTES:
        raise InvalidRequest(f"a picture of a test has at most {_MOST_BYTES:,} bytes", param="image_bytes")
    pixels = parse_size(values.get("image_size", ""))
    picture = InputImage(bytes(size), f"image/{values.get('image_type', 'png')}", size=pixels)
    mask = replace(picture, media_type="image/png") if values.get("mask") else None
    if host := values.get("image_host"):
        picture = remote_image(f"https://{host}/picture.png", "image_host")
    if "main_model" in values:
        fields["main"] = MainModel(values["main_model"], len(values["prompt"].encode()), "")
    return ImageRequest(**fields, operation=operation, images=(picture,) * count, mask=mask)


_OF_PICTURES = ("operation", "input_images", "image_bytes", "image_type", "image_size", "image_host", "mask")
_APART = frozenset({*_OF_PICTURES, "main_model"})
