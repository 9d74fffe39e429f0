"""A guarded app as its own process: `python served.py POLICIES STORE UPSTREAM`. Prints its address when it listens."""

from __future__ import annotations

import socket
import sys

import uvicorn

from policyguard.demo.app import create_app
from policyguard.guard.guard import Guard
from policyguard.moderation.openai import OpenAIModerator

KEY = "sk-sandbox"


class Announcing(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        host, port = (sockets or [])[0].getsockname()
        print(f"http://{host}:{port}", flush=True)


def main(policies: str, store: str, upstream: str) -> None:
    guard = Guard.open(policies, store=store, moderator=OpenAIModerator(base_url=upstream, api_key=KEY))
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(guard, upstream, KEY), log_level="error", proxy_headers=False, ws="none")
    with guard:
        Announcing(config).run([listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
