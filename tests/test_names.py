"""One meaning per type name, and a glossary that names what is there."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import policyguard

ROOT = Path(policyguard.__file__).parent
GLOSSARY = ROOT.parent / "docs" / "glossary.md"
# What is written in YAML has the name of what it is compiled into.
WRITTEN = {"policy/document.py", "testing/document.py"}
# One name by contract: the middleware of ASGI and that of WSGI.
SHARED = {"PolicyGuardMiddleware"}


def types_of(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Classes, and aliases that are named like them, each with what tells it from others."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name.lstrip("_"), f"class at line {node.lineno}"
        elif isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            name, value = target.id.lstrip("_"), ast.unparse(node.value)
            is_alias = name[:1].isupper() and not name.isupper() and not value.startswith("TypeVar")
            if is_alias and not name.endswith("Option"):  # an option of a verb belongs to that verb
                yield name, value


def meanings() -> dict[str, dict[str, set[str]]]:
    """Of each name: what it stands for, and in which modules."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        if module in WRITTEN:
            continue
        for name, value in types_of(ast.parse(path.read_text())):
            is_class = value.startswith("class ")
            found[name][f"{module}: {value}" if is_class else value].add(module)
    return found


def test_a_type_name_has_one_meaning() -> None:
    found = meanings()
    assert len(found) > 500
    several = {name: dict(ways) for name, ways in found.items() if len(ways) > 1 and name not in SHARED}
    assert several == {}


def test_what_the_glossary_names_exists() -> None:
    defined = set(meanings())
    named = set(re.findall(r"`([A-Z][A-Za-z]+)(?:\.[a-z_]+)?`", GLOSSARY.read_text()))
    assert len(named) > 50
    assert named - {"Monospace"} <= defined


def test_the_glossary_has_every_public_type_that_is_no_error() -> None:
    values = {name for name in policyguard.__all__ if name[0].isupper() and not name.endswith("Error")}
    refusals = {"BudgetExceeded", "PolicyDenied", "PolicyRefused", "PolicyUnavailable", "ReviewRequired"}
    text = GLOSSARY.read_text()
    assert {name for name in values - refusals - {"Guard"} if f"`{name}`" not in text} == set()
