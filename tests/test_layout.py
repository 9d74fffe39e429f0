"""The layout of the code: no module imports in a circle, however late, and nothing is too long to be read at once.

Which package may import which is in the contracts of pyproject.toml; they say nothing of modules beside each other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import policyguard

PACKAGE = Path(policyguard.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FROZEN = PACKAGE / "store" / "migrations" / "versions"  # what ran in somebody's database is never written anew
MODULE_LINES = 500
FUNCTION_LINES = 60  # without the docstring, which of a verb is its help

SENTENCE_END = re.compile(r"[.:?!](?=\s|$)")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(package: Path) -> dict[str, Path]:
    """The files of a package by the names of their modules."""
    files = {file: file.relative_to(package.parent).with_suffix("").parts for file in package.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): file for file, parts in files.items()}


def imported(node: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    """The modules that code imports when it is loaded or when it runs; not those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from imported(ast.Module([other], []), known)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in known)
        elif isinstance(child, ast.ImportFrom) and child.module in known:
            names = (f"{child.module}.{alias.name}" for alias in child.names)
            yield from (name if name in known else child.module for name in names)
        else:
            yield from imported(child, known)


def circle(package: Path) -> list[str]:
    """Modules that import each other in this order, the last of them the first again; empty where none do."""
    known = modules(package)
    imports = {name: set(imported(ast.parse(file.read_text()), known)) - {name} for name, file in known.items()}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(PACKAGE) == []


def test_a_circle_is_found_also_where_it_is_closed_within_a_function(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "till.py").write_text("from shop.stock import count\n")
    (package / "stock.py").write_text("def count():\n    from shop import till\n")
    assert sorted(circle(package)[1:]) == ["shop.stock", "shop.till"]
    (package / "stock.py").write_text("if TYPE_CHECKING:\n    from shop import till\n\ndef count(): ...\n")
    assert circle(package) == []


def test_no_module_is_too_long() -> None:
    long = {str(file.relative_to(PACKAGE)): len(file.read_text().splitlines()) for file in FILES}
    assert {name: lines for name, lines in long.items() if lines > MODULE_LINES} == {}


def test_no_function_is_too_long() -> None:
    long = {
        f"{file.relative_to(PACKAGE)}:{function.name}": lines(function)
        for file in FILES
        if FROZEN not in file.parents
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, Function)
    }
    assert {name: count for name, count in long.items() if count > FUNCTION_LINES} == {}


def lines(function: Function) -> int:
    """From its first line to its last, decorators left out, but for the docstring."""
    told = function.body[0] if ast.get_docstring(function) is not None else None
    return _span(function) - (_span(told) if told else 0)


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_a_module_opens_with_what_may_live_in_it() -> None:
    openings = {
        file.relative_to(PACKAGE).as_posix(): ast.get_docstring(tree) or ""
        for file in FILES
        if FROZEN not in file.parents and (tree := ast.parse(file.read_text())).body
    }
    assert len(openings) > 250
    short = {name for name, text in openings.items() if len(SENTENCE_END.findall(text)) < 2}
    assert short == {"__main__.py"}
