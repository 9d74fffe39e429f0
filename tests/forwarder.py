"""A forwarder of TCP in front of a server, for tests: it can go mute, be slow, cut connections and refuse new ones."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

from sqlalchemy.engine import make_url

Mode = Literal["pass", "mute", "refuse"]
_RESET = struct.pack("ii", 1, 0)  # a close sends RST
_TICK_S = 0.02


class Forwarder:
    """Listens on loopback and forwards to `target`: a path, or a host with a port. What is mute is kept, not lost."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        self.mode: Mode = "pass"
        self._go = threading.Event()
        self._go.set()
        self._over = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @classmethod
    def before(cls, url: str) -> tuple[Self, str]:
        """In front of the PostgreSQL server of a URL, and the URL through it."""
        address = make_url(url)
        folder = address.query.get("host")
        target = f"{folder}/.s.PGSQL.{address.port or 5432}" if folder else (str(address.host), address.port or 5432)
        forwarder = cls(target)
        through = address.set(host="127.0.0.1", port=forwarder.port, query={})
        return forwarder, through.render_as_string(hide_password=False)

    def mute(self) -> None:
        """Nothing passes any more, and nobody is told. New connections are taken, and not answered."""
        self.mode = "mute"
        self._go.clear()

    def refuse(self) -> None:
        """Cut what there is with a reset, and refuse what comes."""
        self.mode = "refuse"
        self.reset()

    def heal(self) -> None:
        self.mode = "pass"
        self._go.set()

    def reset(self) -> None:
        """Cut every connection on the client's side, as a balancer that lost its state does."""
        for client, server in self._pairs:
            with suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            _close(client)
            _close(server)
        self._pairs.clear()

    def move(self, target: str | tuple[str, int]) -> None:
        """New connections go elsewhere, those that are there stay."""
        self._target = target

    def close(self) -> None:
        self._over.set()
        self._go.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.reset()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.mode == "refuse":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        family = socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET
        server = socket.socket(family)
        try:
            server.connect(self._target)
        except OSError:
            client.close()
            server.close()
            return
        self._pairs.append((client, server))
        for source, sink in ((client, server), (server, client)):
            thread = threading.Thread(target=self._pump, args=(source, sink), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                while not self._go.wait(_TICK_S):
                    if self._over.is_set():
                        return
                sink.sendall(data)
        while not self._go.wait(_TICK_S) and not self._over.is_set():
            pass  # the end is told to nobody, either
        _close(sink)
        _close(source)


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
