"""What stands for curl on a machine without it: the options of the examples, and on the wire what curl sends for them.

Run as a script, like curl: `python curl.py -sSi URL -H LINE -d DATA | -F NAME=VALUE -F NAME=@FILE;type=KIND`.
"""

from __future__ import annotations

import argparse
import mimetypes
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

BOUNDARY = "------------------------5f6d8e0a1b2c3d4e"


def main(arguments: list[str]) -> int:
    reader = argparse.ArgumentParser(prog="curl")
    reader.add_argument("url")
    for flag in ("-s", "-S", "-N", "-i", "-0"):
        reader.add_argument(flag, action="store_true")
    reader.add_argument("-H", action="append", default=[])
    reader.add_argument("-F", action="append", default=[])
    reader.add_argument("-d")
    asked = reader.parse_args(arguments)
    url = urlsplit(asked.url)
    target = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
    body = _form(asked.F) if asked.F else _data(asked.d)
    kind = f"multipart/form-data; boundary={BOUNDARY}" if asked.F else "application/x-www-form-urlencoded"
    method = "GET" if body is None else "POST"
    head = [
        f"{method} {target} HTTP/1.{0 if vars(asked)['0'] else 1}",
        f"Host: {url.netloc}",
        "User-Agent: curl/7.88.1",
    ]
    head += ["Accept: */*", *asked.H]
    if body is not None:
        chunked = _has(head, "transfer-encoding")
        head += [] if chunked else [f"Content-Length: {len(body)}"]
        head += [] if _has(head, "content-type") else [f"Content-Type: {kind}"]
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    return _talk(str(url.hostname), url.port or 80, "\r\n".join(head).encode() + b"\r\n\r\n" + (body or b""), asked.i)


def _has(head: list[str], name: str) -> bool:
    return any(line.lower().startswith(f"{name}:") for line in head)


def _data(given: str | None) -> bytes | None:
    """As curl reads it: of a file without its line ends."""
    if given is None or not given.startswith("@"):
        return None if given is None else given.encode()
    return Path(given[1:]).read_bytes().replace(b"\r", b"").replace(b"\n", b"")


def _form(fields: list[str]) -> bytes:
    parts = []
    for field in fields:
        name, _, value = field.partition("=")
        path, _, kind = value.removeprefix("@").partition(";type=")
        if value.startswith("@"):
            kind = kind or mimetypes.guess_type(path)[0] or "application/octet-stream"
            says = f'; filename="{Path(path).name}"\r\nContent-Type: {kind}'
        else:
            says = ""
        content = Path(path).read_bytes() if value.startswith("@") else value.encode()
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{says}\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def _talk(host: str, port: int, request: bytes, with_headers: bool) -> int:
    with socket.create_connection((host, port), timeout=300) as connection, connection.makefile("rb") as answer:
        connection.sendall(request)
        head: list[bytes] = []
        while not head or b" 100 " in head[0]:  # what comes before the answer, if the body is not waited for
            head = [answer.readline()]
            while (line := answer.readline()).strip():
                head.append(line)
            if with_headers:
                sys.stdout.buffer.write(b"".join([*head, b"\r\n"]))
        names = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in head[1:])}
        if names.get(b"transfer-encoding") == b"chunked":
            while size := int(answer.readline(), 16):
                sys.stdout.buffer.write(answer.read(size))
                answer.readline()
        else:
            sys.stdout.buffer.write(answer.read(int(names.get(b"content-length", b"0"))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
