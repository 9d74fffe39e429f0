"""What `policyguard doctor` says of the upstream, by a real request to the sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from policyguard.cli.doctor import _upstream
from policyguard.sandbox import SandboxServer


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as running:
        yield running


@pytest.mark.parametrize(
    ("key", "ending", "mark", "words"),
    [
        ("sk-sandbox", "/v1", "ok", "takes the key"),
        ("sk-sandbox\n", "/v1", "ok", "takes the key"),
        ("sk-wrong", "/v1", "problem", "refuses the key"),
        ("sk-sandbox", "", "problem", "without `/v1`"),
        ("sk-sand box", "/v1", "problem", "is no key"),
    ],
)
def test_doctor_asks_the_upstream(
    sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch, key: str, ending: str, mark: str, words: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{sandbox.url}{ending}")
    (finding,) = _upstream()
    assert (finding.mark, words in finding.says, key in finding.says) == (mark, True, False)


def test_without_a_key_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert list(_upstream()) == []
