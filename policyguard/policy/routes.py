"""Routes of surfaces: OpenAI-shaped by their ending, or an app's own with every parameter as a field or a constant.

Which of them a request takes is found by the doors.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from policyguard.decision import Place
from policyguard.errors import InvalidRequest
from policyguard.policy import units
from policyguard.policy.model import RequestRules, Route
from policyguard.policy.parameters import model_problem, usable_models
from policyguard.policy.source import Source, YAMLPath
from policyguard.request import AUTO, ImageRequest, Size, parse_size
from policyguard.text.suggest import known_names

_SHAPES = {"/images/generations": "generations", "/images/edits": "edits", "/v1/responses": "responses"}
NEEDED = ("model", "size", "quality", "n")
PARAMETERS = ("prompt", *NEEDED, "background", "output_format", "output_compression", "moderation", "user")


def routes(source: Source, rules: RequestRules) -> tuple[Route, ...]:
    """The routes of one surface; problems go to its file."""
    found = []
    for index, row in enumerate(source.data.get("routes") or []):
        path: YAMLPath = ("routes", index)
        route = _shaped(source, path, row, rules) if isinstance(row, str) else _own(source, path, row, rules)
        if route is not None:
            found.append(route)
    return tuple(found)


def _shaped(source: Source, path: YAMLPath, text: str, rules: RequestRules) -> Route | None:
    method, where = units.route(text)
    shape = _shape(where)
    if shape is None:
        hint = "write it as `{route: ..., fields: ..., constants: ...}`, so that it is known where its parameters stand"
        source.problem(path, "PG209", "an app's own route needs its fields", hint)
        return None
    if method != "POST":
        source.problem(path, "PG204", f"OpenAI's routes are called by POST, not by {method}")
        return None
    if shape == "responses" and not rules.main_models:
        hint = "name them in `request.responses.models`"
        source.problem(path, "PG209", "a route of the Responses API needs main models that may draw", hint)
        return None
    return Route(method=method, path=where, shape=shape, place=source.place(path))


def _shape(path: str) -> Any:
    return next((shape for end, shape in _SHAPES.items() if path.endswith(end)), None)


def _own(source: Source, path: YAMLPath, row: Mapping[str, Any], rules: RequestRules) -> Route | None:
    method, where = units.route(row["route"])
    if _shape(where) is not None:
        source.problem((*path, "route"), "PG208", "a path that ends like OpenAI's is OpenAI-shaped", "write it alone")
        return None
    fields, constants = row["fields"], row.get("constants") or {}
    before = len(source.problems)
    _check_names(source, path, fields, constants)
    _check_constants(source, path, constants, rules)
    if len(source.problems) > before:
        return None
    usage, images = row.get("usage"), row.get("images")
    return Route(
        method=method,
        path=where,
        shape="custom",
        place=source.place(path),
        fields={name: units.path_in(text, "body") for name, text in fields.items()},
        constants=dict(constants),
        usage=units.path_in(usage, "response") if usage else None,
        images=units.path_in(images, "response") if images else None,
    )


def _check_names(source: Source, path: YAMLPath, fields: Mapping[str, str], constants: Mapping[str, Any]) -> None:
    for part, names in (("fields", fields), ("constants", constants)):
        for name in names:
            if name not in PARAMETERS:
                hint = known_names(name, PARAMETERS)
                source.problem((*path, part, name), "PG206", f"there is no parameter `{name}`", hint, key=True)
    for name in fields.keys() & constants.keys():
        source.problem((*path, "constants", name), "PG208", f"`{name}` is a field and a constant", key=True)
    if "prompt" not in fields:
        source.problem(path, "PG209", "the prompt must be a field, or it is not seen")
    _check_paths(source, path, fields)
    for name in NEEDED:
        if name not in fields and name not in constants:
            hint = f"write `{name}` into `fields` or `constants`"
            source.problem(path, "PG209", f"it is not known which {name} this route uses", hint)


def _check_constants(source: Source, path: YAMLPath, constants: Mapping[str, Any], rules: RequestRules) -> None:
    for name, value in constants.items():
        where = (*path, "constants", name)
        if name == "moderation" and value != AUTO:
            source.problem(where, "PG204", "`moderation` is `auto`, always")
        elif problem := _constant(name, value, rules):
            source.problem(where, "PG204", problem, _meant(name, value, rules))


def _check_paths(source: Source, path: YAMLPath, fields: Mapping[str, str]) -> None:
    """Two parameters at one place, or one inside the other, would be written over each other."""
    taken: dict[tuple[str, ...], str] = {}
    for name, text in fields.items():
        found = units.path_in(text, "body")
        for other, first in taken.items():
            if found[: len(other)] == other or other[: len(found)] == found:
                source.problem((*path, "fields", name), "PG208", f"`{name}` stands where `{first}` stands")
        taken[found] = name


def _constant(name: str, value: Any, rules: RequestRules) -> str | None:
    """Why the policy itself would refuse this constant."""
    if name not in PARAMETERS:
        return None  # reported already
    if problem := _impossible(name, value):
        return problem
    if name == "model" and (problem := model_problem(value, rules.prices)):
        return problem
    misspelt = name == "model" and any(
        model_problem(model, rules.prices) for model in rules.models or ()
    )  # the list says so already
    if not misspelt and not _allowed(name, value, rules):
        return f"{name} `{value}` is not allowed by this policy itself"
    return None


def _listed(name: str, rules: RequestRules) -> tuple[str, ...] | None:
    lists = {"model": rules.models, "size": rules.sizes, "quality": rules.qualities, "output_format": rules.formats}
    return lists.get(name)


def _meant(name: str, value: Any, rules: RequestRules) -> str:
    """What is near, of what the policy lists, or of the models that there are."""
    listed = _listed(name, rules) or (usable_models(rules.prices) if name == "model" else ())
    return known_names(str(value), listed)


@lru_cache(maxsize=1024, typed=True)
def _impossible(name: str, value: Any) -> str | None:
    """Why no request can have this value."""
    try:
        given: dict[str, Any] = {"prompt": "a prompt", name: value}
        ImageRequest(**given)
    except InvalidRequest as error:
        return error.message
    return None


def _allowed(name: str, value: Any, rules: RequestRules) -> bool:
    listed = _listed(name, rules)
    if listed is not None:
        return value in listed
    if name in ("size", "quality") and value == AUTO:
        return False  # `auto` counts only where it is listed
    if name == "n":
        return rules.max_n is None or value <= rules.max_n
    size = parse_size(str(value)) if name == "size" else None
    return size is None or _within(size, rules)


def _within(size: Size, rules: RequestRules) -> bool:
    return (rules.max_pixels is None or size.pixels <= rules.max_pixels) and (
        rules.max_edge is None or size.edge <= rules.max_edge
    )


Claims = dict[tuple[str, str], Place]  # which place claims a method and path


def claim(source: Source, found: tuple[Route, ...], claimed: Claims) -> None:
    """Add the routes of a surface. One that is claimed already, by another surface or this one, is a problem."""
    for route in found:
        key = (route.method, route.path)
        if key in claimed:
            message = f"`{route.method} {route.path}` is claimed already ({claimed[key]})"
            source.problem_at(route.place.line, route.place.column, ("routes",), "PG504", message)
        claimed.setdefault(key, route.place)
