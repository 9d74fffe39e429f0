from __future__ import annotations

import subprocess
import sys

import policyguard

HEAVY = ("openai", "sqlalchemy", "starlette", "celpy", "alembic", "yaml")


def test_the_public_names_are_these_and_each_can_be_had() -> None:
    expected = [
        "Admitted",
        "BudgetExceeded",
        "Caller",
        "ConfigError",
        "Decision",
        "Failure",
        "Guard",
        "Held",
        "ImageRequest",
        "Outcome",
        "Output",
        "PolicyDenied",
        "PolicyError",
        "PolicyRefused",
        "PolicyUnavailable",
        "Refused",
        "Released",
        "ReviewRequired",
        "Usage",
        "caller",
        "resume",
    ]
    assert policyguard.__all__ == expected
    assert set(expected) <= set(dir(policyguard))
    assert all(getattr(policyguard, name) is not None for name in expected)


def test_importing_policyguard_pulls_nothing_heavy() -> None:
    code = f"import policyguard, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
