"""A local server that speaks OpenAI's wire format, to try policies and to test applications without a key.

It makes real pictures, counts tokens by the price book's formula, scores prompts by a table of words, and breaks on
demand. Needs the extra `demo` (uvicorn, Pillow).
"""

from __future__ import annotations

from policyguard.sandbox.app import create_app
from policyguard.sandbox.server import Server

__all__ = ["SandboxServer", "create_app"]


class SandboxServer(Server):
    """A sandbox on a free loopback port while the `with` block runs: `with SandboxServer() as s: ... s.url ...`."""

    def __init__(self) -> None:
        super().__init__(create_app())
