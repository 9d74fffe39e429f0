"""`pytest policies/` runs policy tests: one item for each test and each cell of a matrix.

Only YAML in a folder `tests` beside an `org.yaml` is collected, and only where one of the two speaks of an organisation
or a surface: other tools have files of these names, too. Everything but pytest is imported when such a file is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from policyguard.policy.model import PolicySet
    from policyguard.testing.read import PolicyTest

_OURS = re.compile(rb"^[^\w\n]*(?:surface|organisation)[^\w\n]*:", re.MULTILINE)
_LOOK = 20_000  # bytes
_LOADED = pytest.StashKey[dict[Path, "PolicySet"]]()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A file of policy tests, and nothing else."""
    is_yaml = file_path.suffix.lower() in (".yaml", ".yml") and not file_path.name.startswith(".")
    org = file_path.parents[1] / "org.yaml"
    if is_yaml and file_path.parent.name == "tests" and org.is_file() and (_is_ours(file_path) or _is_ours(org)):
        return PolicyFile.from_parent(parent, path=file_path)
    return None


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _OURS.search(file.read(_LOOK)) is not None
    except OSError:
        return False


class PolicyFile(pytest.File):
    """One file of policy tests. What keeps its tests from running is an error of collection."""

    def collect(self) -> Iterator[pytest.Item]:
        from policyguard.testing.read import read_suite
        from policyguard.testing.render import paragraphs, problem

        policies = self._policies()
        suite = read_suite(_shown(self.path), policies)
        if suite.problems:
            raise self.CollectError(paragraphs(problem(found) for found in suite.problems))
        for test in suite.tests:
            yield PolicyItem.from_parent(self, name=test.name, policies=policies, test=test)

    def _policies(self) -> PolicySet:
        """The policies of the folder, loaded once for all its files."""
        from policyguard.errors import PolicyError
        from policyguard.policy.load import load
        from policyguard.testing.render import paragraphs, problem

        loaded = self.config.stash.setdefault(_LOADED, {})
        folder = self.path.parents[1]
        if folder not in loaded:
            try:
                loaded[folder] = load(_shown(folder))
            except PolicyError as error:
                raise self.CollectError(paragraphs(problem(found) for found in error.diagnostics)) from None
        return loaded[folder]


class PolicyItem(pytest.Item):
    """One policy test."""

    def __init__(self, *, policies: PolicySet, test: PolicyTest, **more: Any) -> None:
        super().__init__(**more)
        self.policies, self.test = policies, test

    def runtest(self) -> None:
        """Decide the case and compare."""
        from policyguard.testing.render import failure
        from policyguard.testing.run import decide

        result = decide(self.policies, self.test)
        if not result.passed:
            raise PolicyTestFailed(failure(result))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **more: Any) -> Any:
        """What differs, without a traceback into policyguard."""
        if isinstance(excinfo.value, PolicyTestFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **more)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The file, the line (pytest counts from 0) and a heading."""
        return self.path, self.test.line - 1, f"{self.test.surface}: {self.name}"


class PolicyTestFailed(Exception):
    """A decision that is not as expected; the message says how."""


def _shown(path: Path) -> Path:
    """As seen from the working directory, where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
