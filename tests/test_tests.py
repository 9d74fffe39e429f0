"""What tests must say, so that they notice."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
REFUSALS = {"InvalidRequest", "ConfigError", "PolicyError", "UnknownPrice"}


def refusals(test: ast.AST) -> Iterator[ast.withitem]:
    """The places where a test expects that something is refused."""
    for node in ast.walk(test):
        for item in node.items if isinstance(node, ast.With | ast.AsyncWith) else ():
            call = item.context_expr
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.raises":
                yield item


def says_why(item: ast.withitem) -> bool:
    """By a message, or by a name under which the test looks at the error."""
    call = item.context_expr
    assert isinstance(call, ast.Call)
    return item.optional_vars is not None or any(keyword.arg == "match" for keyword in call.keywords)


def test_a_table_of_what_is_refused_says_what_each_is_told() -> None:
    """A case that is refused for another reason than the one that is meant proves nothing."""
    seen, silent = 0, []
    for path in sorted(TESTS.rglob("test_*.py")):
        for test in ast.walk(ast.parse(path.read_text())) if "node_modules" not in path.parts else ():
            if not isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if not any("parametrize" in ast.unparse(decorator) for decorator in test.decorator_list):
                continue
            for item in refusals(test):
                call = item.context_expr
                assert isinstance(call, ast.Call)
                if ast.unparse(call.args[0]) in REFUSALS:
                    seen += 1
                    silent += [] if says_why(item) else [f"{path.name}: {test.name}"]
    assert seen > 50
    assert silent == []
