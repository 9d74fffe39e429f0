"""Requests of one kind, from a process of their own: `python hostile.py URL KIND COUNT CREDENTIALS`, 4 at once.

Prints how often each status came, as JSON; 0 is no answer. It yields to everybody else, as another machine would.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

from stall.kinds import ATTACKS, Attack

AT_ONCE = 4
HELD_S = 3.0
PIPELINED = 20
EACH_S = 0.1  # of each thread: forty requests a second are no flood,
BYTES_PER_S = 5_000_000  # nor are 20 MB


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=120)


def status(url: str, data: bytes) -> int:
    """Of the answer to one request."""
    came = b""
    with connect(url) as connection, suppress(OSError):
        with suppress(OSError):  # it may be refused before all of it was read
            connection.sendall(data)
        while chunk := connection.recv(65_536):
            came = came or chunk[:64]
    return int(came.split(b" ", 2)[1]) if came.startswith(b"HTTP/1.1 ") else 0


def whole(url: str, data: bytes, count: int) -> Counter[int]:
    def one(_: int) -> int:
        answer = status(url, data)
        time.sleep(max(EACH_S, len(data) / BYTES_PER_S))
        return answer

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return Counter(pool.map(one, range(count)))


def held(url: str, data: bytes, count: int) -> Counter[int]:
    """All of them at once, kept for a while; what was answered meanwhile."""
    connections = []
    for _ in range(count):
        connections.append(connect(url))
        connections[-1].setblocking(False)
        with suppress(OSError):
            connections[-1].send(data)
    time.sleep(HELD_S)
    seen: Counter[int] = Counter()
    for connection in connections:
        came = b""
        with suppress(OSError):
            came = connection.recv(64)
        seen[int(came.split(b" ", 2)[1]) if came.startswith(b"HTTP/1.1 ") else 0] += 1
        connection.close()
    return seen


def sent(attack: Attack, url: str, count: int, credentials: str) -> Counter[int]:
    data = attack.request(urlsplit(url).netloc, urlsplit(url).path, credentials)
    if attack.manner == "whole":
        return whole(url, data, count)
    return held(url, data * PIPELINED if attack.manner == "deaf" else data, count)


if __name__ == "__main__":
    os.nice(10)
    _, url, kind, count, credentials = sys.argv
    print(json.dumps(sent(ATTACKS[kind], url, int(count), credentials)))
