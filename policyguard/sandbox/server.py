"""uvicorn in a thread on a free loopback port, for the sandbox, the demo and tests.

A `Server` listens on loopback only; where `run` listens is for its caller to say.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

try:
    import uvicorn
except ImportError as error:
    raise ImportError("this needs uvicorn: pip install 'policyguard[demo]'") from error


class Server:
    """Serves `app` while the `with` block runs; `url` says where. Proxy headers are off: nobody may forge the peer."""

    def __init__(self, app: Any) -> None:
        # with the protocol named, asyncio sets TCP_NODELAY; without it every answer waits some 40 ms
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(app, log_level="error", proxy_headers=False, ws="none", lifespan="on")
        self._ready = threading.Event()
        self._server = _Announcing(config, self._ready)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(timeout=30):
            raise RuntimeError("the server did not start within 30 seconds")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=30)
        self._socket.close()


def run(app: Any, listening: socket.socket) -> None:
    """Serve `app` on a bound socket until ctrl-c."""
    config = uvicorn.Config(app, log_level="warning", proxy_headers=False, ws="none")
    with listening, suppress(KeyboardInterrupt):  # uvicorn stops in good order, then raises it again
        uvicorn.Server(config).run(sockets=[listening])


class _Announcing(uvicorn.Server):
    """Says when it listens, so that nobody has to poll."""

    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready.set()
