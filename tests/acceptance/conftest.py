"""The sandbox in this process, the guarded app or the proxy in another, the real SDK between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from patience import HANGS_S
from support import AVATARS, ORG, write_policies

from policyguard.audit.keys import load_key
from policyguard.audit.private import Vault
from policyguard.sandbox import SandboxServer
from policyguard.store import Store, open_store
from policyguard.store.proxy_keys import new_secret

SERVED = Path(__file__).with_name("served.py")
# `policyguard` whose breaker never opens: under faults on purpose nearly nothing would go upstream.
PATIENT = "from policyguard.store import breaker; breaker.FAULTS = 10**9; from policyguard.cli import main; main()"


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
        return self._client(api_key="app", base_url=f"{self.url}/avatars/v1", default_headers=identity)

    def _client(self, **options: Any) -> OpenAI:
        self.clients.append(OpenAI(**{"max_retries": 0, **options}))
        return self.clients[-1]

    def stop(self) -> None:
        """Ask it to finish what is in flight, and wait."""
        self.process.terminate()
        self.process.wait(timeout=HANGS_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=HANGS_S)

    def store(self) -> Store:
        """The record, opened by another process than the app's."""
        return open_store(self.store_url, vault=Vault(load_key(self.key_file, create=False)))


class RunningProxy(App):
    """A running `policyguard serve`."""

    def key(self, *surfaces: str, names_user: bool = False, **caller: str) -> str:
        store, secret = self.store(), new_secret()
        store.proxy_keys.create(
            secret,
            name="test",
            surfaces=surfaces or ("avatars",),
            caller=caller,
            names_user=names_user,
            by="ada",
            now=datetime.now(UTC),
        )
        store.close()
        return secret

    def sdk(self, key: str | None = None, **options: Any) -> OpenAI:
        return self._client(api_key=key or self.key(user="u1"), base_url=f"{self.url}/v1", **options)


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

    def reset(self) -> None:
        """Count from nothing."""
        self._http.delete("/sandbox/requests")

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


@pytest.fixture
def proxy(sandbox: Sandbox, tmp_path: Path) -> Iterator[Callable[..., RunningProxy]]:
    """Start a proxy: `proxy("--workers", "2", avatars=...)`; again with the same store for a restart."""
    with proxies(sandbox, tmp_path) as start:
        yield start


@contextmanager
def proxies(sandbox: Sandbox, space: Path) -> Iterator[Callable[..., RunningProxy]]:
    """What starts proxies before a sandbox, with their policies and store in a folder; in the end they are killed."""
    running: list[RunningProxy] = []
    store_url = f"sqlite:///{space / 'record.sqlite3'}"

    def start(*options: str, patient: bool = False, org: str = ORG, **surfaces: str) -> RunningProxy:
        policies = write_policies(space / "policies", org=org, **(surfaces or {"avatars": AVATARS}))
        itself = ("-c", PATIENT) if patient else ("-m", "policyguard")
        command = [sys.executable, *itself, "serve", "--port", "0", "--format", "json", *options]
        settings = {
            "POLICYGUARD_POLICIES": str(policies),
            "POLICYGUARD_STORE": store_url,
            "OPENAI_API_KEY": "sk-sandbox",
            "OPENAI_BASE_URL": f"{sandbox.url}/v1",
        }
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings})
        assert process.stdout is not None
        said = "".join(iter(process.stdout.readline, "}\n")) + "}"
        running.append(RunningProxy(json.loads(said)["url"], process, store_url, space / "record.sqlite3.key"))
        return running[-1]

    try:
        yield start
    finally:
        for app in running:
            app.kill()
            for client in app.clients:
                client.close()
            if app.process.stdout is not None:
                app.process.stdout.close()
