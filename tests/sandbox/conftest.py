"""One sandbox and one SDK client for all tests of this folder; what was counted or switched on goes before each."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from openai import OpenAI

from policyguard.sandbox import SandboxServer


@pytest.fixture(scope="session")
def server() -> Iterator[SandboxServer]:
    with SandboxServer() as running:
        yield running


@pytest.fixture(scope="session")
def _connection(server: SandboxServer) -> Iterator[httpx2.Client]:
    headers = {"authorization": "Bearer sk-sandbox"}
    with httpx2.Client(base_url=server.url, headers=headers, trust_env=False) as connection:
        yield connection


@pytest.fixture(scope="session")
def _sdk(server: SandboxServer) -> Iterator[OpenAI]:
    with OpenAI(api_key="sk-sandbox", base_url=f"{server.url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
def http(_connection: httpx2.Client) -> httpx2.Client:
    _connection.delete("/sandbox/requests")
    _connection.delete("/sandbox/faults")
    return _connection


@pytest.fixture
def client(_sdk: OpenAI, http: httpx2.Client) -> OpenAI:
    return _sdk
