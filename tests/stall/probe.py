"""How long a server takes to answer, from a process of its own: `python probe.py URL CREDENTIALS` until stdin closes.

Asks `/healthz` and for one plain image all the time, one after the other. Prints the seconds that each took as JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

from stall.kinds import HEALTH

PAUSE_S = 0.01


class Connection:
    """One kept connection, opened again where the server closed it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._at = (address.hostname or "", address.port or 0)
        self._socket: socket.socket | None = None

    def took(self, request: bytes, expected: int) -> float:
        """Seconds until the answer was whole."""
        began = time.perf_counter()
        if self._socket is None:
            self._socket = socket.create_connection(self._at, timeout=120)
        self._socket.sendall(request)
        came = b""
        while b"\r\n\r\n" not in came:
            came += self._read()
        head, _, body = came.partition(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(lines[b"content-length"]):
            body += self._read()
        took = time.perf_counter() - began
        status = int(head.split(b" ", 2)[1])
        assert status == expected, (status, body[:500])
        return took

    def _read(self) -> bytes:
        assert self._socket is not None
        chunk = self._socket.recv(65_536)
        assert chunk, "the connection was closed"
        return chunk


def main(url: str, credentials: str) -> None:
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    at = urlsplit(url)
    host = f"host: {at.netloc}\r\n"
    body = b'{"prompt": "a cat"}'
    plain = f"GET {HEALTH} HTTP/1.1\r\n{host}\r\n".encode()
    head = f"POST {at.path}/images/generations HTTP/1.1\r\n{host}{credentials}content-type: application/json\r\n"
    guarded = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    connection, taken = Connection(url), {"healthz": [0.0] * 0, "guarded": [0.0] * 0}
    while not over.wait(PAUSE_S):
        taken["healthz"].append(connection.took(plain, 200))
        taken["guarded"].append(connection.took(guarded, 200))
    print(json.dumps(taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
