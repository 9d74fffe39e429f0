"""The exception tree, and the diagnostic that every loader reports.

Exceptions are for bad configuration, bad input at the edge and broken ports; a refusal of a request is a
value (`policyguard.decision.Refused`), never one of these.

    PolicyguardError
    |- ConfigError            a setting, an argument, a declaration
    |  `- PolicyError         a policies folder that does not load; carries every diagnostic
    |- InvalidRequest         bytes from outside that are no image request; becomes a 400 or 413
    `- StoreUnavailable       the database cannot answer; becomes a 503
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One problem in one policy file. `line` and `column` count from 1, in code points."""

    file: str
    line: int
    column: int
    code: str
    message: str
    severity: Severity = "error"
    path: str = ""
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {self.severity} {self.code}: {self.message}{hint}"


class PolicyguardError(Exception):
    """Everything that policyguard raises by itself."""


class ConfigError(PolicyguardError):
    """A setting, an argument or a declaration that cannot work. The message says what would."""


class PolicyError(ConfigError):
    """A policies folder that does not load. `diagnostics` holds all problems of all files."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(diagnostics))
        count = sum(d.severity == "error" for d in self.diagnostics)
        self.headline = f"{count} problem{'s' if count != 1 else ''} in the policies"
        super().__init__("\n".join((self.headline, *map(str, self.diagnostics))))


class InvalidRequest(PolicyguardError):
    """Input that is no image request. The message never repeats what the client sent beyond a name."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.status = status


class StoreUnavailable(PolicyguardError):
    """The store cannot answer now. Nothing is allowed while it cannot be recorded."""
