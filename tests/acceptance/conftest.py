"""The sandbox in this process, the guarded app in another, the real SDK between them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from support import AVATARS, ORG, write_policies

from policyguard.audit.keys import load_key
from policyguard.audit.private import Vault
from policyguard.sandbox import SandboxServer
from policyguard.store import Store, open_store

SERVED = Path(__file__).with_name("served.py")


@dataclass
class App:
    """A running guarded app."""

    url: str
    process: subprocess.Popen[str]
    store_url: str
    key_file: Path
    clients: list[OpenAI] = field(default_factory=list)

    def client(self, user: str = "u1", **headers: str) -> OpenAI:
        identity = {"x-user-id": user, **headers}
        client = OpenAI(api_key="app", base_url=f"{self.url}/avatars/v1", max_retries=0, default_headers=identity)
        self.clients.append(client)
        return client

    def stop(self) -> None:
        """Ask it to finish what is in flight, and wait."""
        self.process.terminate()
        self.process.wait(timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=30)

    def store(self) -> Store:
        """The record, opened by another process than the app's."""
        return open_store(self.store_url, vault=Vault(load_key(self.key_file, create=False)))


class Sandbox:
    """The running sandbox with its switches."""

    def __init__(self, server: SandboxServer) -> None:
        self.url = server.url
        self._http = httpx2.Client(base_url=server.url, trust_env=False)

    def counts(self) -> Any:
        return self._http.get("/sandbox/requests").json()

    def fault(self, path: str, fault: str, times: int | None = None) -> None:
        answer = self._http.post("/sandbox/faults", json={"path": path, "fault": fault, "times": times})
        assert answer.status_code == 200

    def clear(self) -> None:
        self._http.delete("/sandbox/faults")

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with SandboxServer() as server:
        running = Sandbox(server)
        yield running
        running.close()


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'record.sqlite3'}"


@pytest.fixture
def serve(sandbox: Sandbox, tmp_path: Path, store_url: str) -> Iterator[Callable[..., App]]:
    """Start an app: `serve(avatars=..., org=...)`; again with the same store for a restart."""
    running: list[App] = []

    def start(*, avatars: str = AVATARS, org: str = ORG) -> App:
        policies = write_policies(tmp_path / "policies", org=org, avatars=avatars)
        key_file = tmp_path / "record.sqlite3.key"  # where an SQLite store looks for it by itself
        command = [sys.executable, str(SERVED), str(policies), store_url, f"{sandbox.url}/v1"]
        environment = {**os.environ, "POLICYGUARD_KEY_FILE": str(key_file)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), "the app did not start"
        running.append(App(url, process, store_url, key_file))
        return running[-1]

    yield start
    for app in running:
        app.kill()
        for client in app.clients:
            client.close()
        if app.process.stdout is not None:
            app.process.stdout.close()
