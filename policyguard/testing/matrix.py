"""The cells of a matrix: every combination of its axes, each with an expectation of its own.

An axis is named like the value that it sets (`request.quality`, `scores.violence`, `now`); its values are the keys of
the expectations, nested in the order of the axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from policyguard.policy.diagnostics import report
from policyguard.policy.source import Source, YAMLPath
from policyguard.testing.document import Expect, Expectation, Given
from policyguard.text.suggest import known_names

_AXES: YAMLPath = ("matrix", "axes")
_EXPECT: YAMLPath = ("matrix", "expect")
_WHOLE = ("now", "paused")
_EXPECTATION: TypeAdapter[Any] = TypeAdapter(Expect)


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination. `values` is what the axes set, as a test would write it; `path` leads to its expectation."""

    name: str
    path: YAMLPath
    values: dict[str, Any]


def sound_axes(source: Source) -> bool:
    """Whether every axis sets a value that a test could set; what is wrong stands in `source`."""
    before = len(source.problems)
    for name, listed in source.at(_AXES).items():
        if "." not in name and name not in _WHOLE:
            hint = "like `request.quality`, `caller.tier`, `scores.violence` or `now`"
            source.problem((*_AXES, name), "PG205", "an axis is one value", hint, key=True)
            continue
        for index, value in enumerate(listed):
            _check_value(source, name, listed[:index], value)
    return len(source.problems) == before


def _check_value(source: Source, name: str, before: list[Any], value: Any) -> None:
    path = (*_AXES, name, len(before))
    if isinstance(value, dict | list | None):
        source.problem(path, "PG203", "a value of an axis is a text or a number")
        return
    if _label(value) in map(_label, before):
        source.problem(path, "PG207", f"`{_label(value)}` is a value of this axis already")
    given = _nested(name, value)
    try:
        Given.model_validate(given)
    except ValidationError as error:
        report(source, Given, error, at=path, data=given)


def axis_values(source: Source) -> Iterator[tuple[YAMLPath, dict[str, Any]]]:
    """What the values of each axis set, with the axis's own place."""
    for name, listed in source.at(_AXES).items():
        for value in listed:
            yield (*_AXES, name), _nested(name, value)


def cells(source: Source) -> Iterator[Cell]:
    """Every cell with a sound expectation, in the order of the axes; what is wrong stands in `source`."""
    yield from _walk(source, list(source.at(_AXES).items()), _EXPECT, (), {})


def _nested(name: str, value: Any) -> dict[str, Any]:
    section, dot, key = name.partition(".")
    return {section: {key: value} if dot else value}


def _label(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _walk(
    source: Source, axes: list[tuple[str, list[Any]]], path: YAMLPath, named: tuple[str, ...], values: Mapping[str, Any]
) -> Iterator[Cell]:
    if not axes:
        if _sound(source, path):
            yield Cell("matrix: " + ", ".join(named), path, dict(values))
        return
    (name, listed), rest = axes[0], axes[1:]
    written = source.at(path)
    if not isinstance(written, dict):
        source.problem(path, "PG603", f"here are expectations for `{name}`", f"one for each of {_quoted(listed)}")
        return
    labels = {_label(value): value for value in listed}
    for key in written:
        if key not in labels:
            hint = known_names(key, labels)
            source.problem((*path, key), "PG604", f"`{key}` is no value of `{name}`", hint, key=True)
    for label, value in labels.items():
        if label in written:
            yield from _walk(source, rest, (*path, label), (*named, f"{name}={label}"), _with(values, name, value))
        else:
            hint = "write what is expected for every value of an axis"
            source.problem(path, "PG603", f"`{name}` has no expectation for `{label}`", hint, key=True)


def _sound(source: Source, path: YAMLPath) -> bool:
    try:
        _EXPECTATION.validate_python(source.at(path))
    except ValidationError as error:
        report(source, Expectation, error, at=path)
        return False
    return True


def _with(values: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    (section, inner), *_ = _nested(name, value).items()
    if isinstance(inner, dict):
        inner = {**values.get(section, {}), **inner}
    return {**values, section: inner}


def _quoted(listed: list[Any]) -> str:
    return ", ".join(f"`{_label(value)}`" for value in listed)
