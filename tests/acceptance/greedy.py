"""An upstream that takes everything, and a client that can say anything: what the bypass suite judges by.

Whatever arrives is kept as it came, whatever its path, method or type; what it could be taken for is judged here by
the most lenient reading, with code of its own.
"""

from __future__ import annotations

import io
import json
import re
import socket
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from patience import HANGS_S

from policyguard.sandbox import create_app

EVIL = "swordfight"  # no policy lets it through
ASIDE = ("/v1/moderations", "/v1/decisions", "/sandbox/")
ALLOWED: dict[str, set[Any]] = {
    "model": {"gpt-image-2-2026-04-21", "gpt-image-2.5-flare-2026-09-08"},
    "size": {"1024x1024", "1024x1536", "1536x1024"},
    "quality": {"low", "medium"},
    "n": {1, 2},
    "max_tool_calls": {1, 2},
    "moderation": {"auto"},
}


@dataclass(frozen=True)
class Reached:
    """A request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def makes_images(self) -> bool:
        """Whether anybody could take it for a request that makes images."""
        path = lenient(self.target)
        overridden = any(name.startswith("x-") and "method" in name for name, _ in self.headers)
        if self.method in ("GET", "HEAD", "OPTIONS") and not overridden:
            return False
        if re.search(r"/(images|batches)(/|$)", path):
            return True
        return "/responses" in path and any("image_gen" in text for text in readings(self.body))

    def problem(self, identifier: str) -> str | None:
        """Why this is no request that a policy decided for the caller with this identifier; None for one that is."""
        values = self.values()
        found = dict(values)
        if len(found) != len(values):
            return "a parameter is there twice"
        if found.get("safety_identifier") != identifier:
            return "nobody decided it"
        wrong = [name for name, allowed in ALLOWED.items() if name in found and found[name] not in allowed]
        if wrong:
            return f"`{wrong[0]}` is not what the policy allows"
        return "the prompt is not allowed" if EVIL in str(found) else None

    def values(self) -> list[tuple[str, Any]]:
        """Every parameter with its value, also one that is there twice."""
        kind = dict(self.headers).get("content-type", "")
        if kind.startswith("multipart/"):
            return list(_fields(kind, self.body))
        pairs: list[tuple[str, Any]] = json.loads(self.body, object_pairs_hook=list)
        return list(_with_tool(pairs))


def _fields(kind: str, body: bytes) -> Iterator[tuple[str, Any]]:
    form: Any = BytesParser(policy=HTTP).parsebytes(f"content-type: {kind}\r\n\r\n".encode() + body)
    for part in form.iter_parts():
        text = "" if part.get_filename() else part.get_payload(decode=True).decode()
        yield part.get_param("name", header="content-disposition"), int(text) if text.isdecimal() else text


def _with_tool(pairs: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """What the tool says counts as a parameter; a model and moderation beside it are those of the text."""
    names = [name for name, _ in pairs]
    for name, value in pairs:
        if name == "tools":
            yield from (pair for tool in value for pair in tool if pair[0] != "type")
        elif name not in ("model", "moderation") or "tools" not in names:
            yield name, value


def lenient(target: str) -> str:
    path = urlsplit(target).path if "://" in target else target.partition("?")[0]
    for _ in range(4):
        path = unquote_to_bytes(path).decode("utf-8", "replace")
    path = unicodedata.normalize("NFKC", path).casefold().replace("\\", "/")
    path = re.sub(r";[^/]*|[\0-\x20]", "", path)
    return "/" + "/".join(part for part in re.split(r"/+|[?#]", path) if part not in ("", "."))


def readings(body: bytes) -> Iterator[str]:
    """A body in every encoding that somebody could take it for, and with its escapes resolved."""
    for encoding in ("latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7"):
        with suppress(UnicodeError):
            text = body.decode(encoding)
            yield text
            yield re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)


class Greedy:
    """The sandbox, behind an ear for everything that was meant for it."""

    def __init__(self) -> None:
        self.reached: list[Reached] = []
        self._sandbox = create_app()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].startswith(ASIDE):
            await self._sandbox(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        query = scope["query_string"].decode("latin-1")
        target = scope.get("raw_path", scope["path"].encode()).decode("latin-1") + (f"?{query}" if query else "")
        self.reached.append(Reached(scope["method"], target, headers, body))
        if (b"move me" in body and not query) or scope["path"] == "/v1/moved":
            await _answer(send, 307, [(b"location", b"/v1/images/generations?moved")])
            return
        if scope["path"] == "/v1/files":
            await _answer(send, 200, [(b"content-type", b"application/json")], b'{"id": "file-1", "object": "file"}')
            return
        replies = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Any:
            return next(replies, None) or await receive()

        await self._sandbox(scope, replay, send)


async def _answer(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# ---- saying anything --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        with suppress(ValueError):
            return json.loads(self.body).get("error")
        return None


def say(url: str, data: bytes, patience_s: float = HANGS_S) -> list[Said]:
    """The answers to some bytes; none where the server closes without one, or says nothing for so long."""
    address = urlsplit(url)
    came = b""
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.settimeout(patience_s)
        with suppress(OSError):
            connection.sendall(data)
        with suppress(OSError):
            while chunk := connection.recv(65_536):
                came += chunk
    return list(_answers(came))


def _answers(came: bytes) -> Iterator[Said]:
    source = io.BytesIO(came)
    while source.tell() < len(came):
        with suppress(HTTPException):
            answer = HTTPResponse(_Source(source))  # type: ignore[arg-type]
            answer.begin()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            yield Said(answer.status, headers, answer.read())
            continue
        return


class _Source:
    """What `HTTPResponse` takes for a socket: a file that is still open when one answer is read."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file

    def makefile(self, mode: str) -> Any:
        return _Open(self._file)


class _Open(io.BufferedIOBase):
    def __init__(self, file: io.BytesIO) -> None:
        self._file = file

    def readline(self, size: int = -1) -> bytes:  # type: ignore[override]
        return self._file.readline(size)

    def read(self, size: int | None = -1) -> bytes:
        return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def flush(self) -> None: ...
