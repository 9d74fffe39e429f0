"""What can be wrong below a request: its line, its headers, where its body ends, and what comes behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from acceptance.tricks import EVIL, FINE, GENERATIONS

BAD, GOOD = json.dumps(EVIL).encode(), json.dumps(FINE).encode()
LINE = f"POST {GENERATIONS} HTTP/1.1"
CLOSE = "connection: close"


@dataclass(frozen=True)
class Frame:
    """Bytes for a connection, with `%AUTH%` where a key goes. `waits`: a server may rightly wait for more."""

    data: bytes
    served: bool = False
    waits: bool = False


def frame(body: bytes, *headers: str, line: str = LINE, served: bool = False, waits: bool = False) -> Frame:
    head = "\r\n".join((line, "host: app.test", "content-type: application/json", "%AUTH%: %KEY%", *headers))
    return Frame(head.encode("latin-1") + b"\r\n\r\n" + body, served, waits)


def length(body: bytes) -> str:
    return f"content-length: {len(body)}"


def chunk(data: bytes, size: str | None = None) -> bytes:
    return (size or f"{len(data):x}").encode() + b"\r\n" + data + b"\r\n"


def plain(body: bytes, *headers: str, served: bool = False) -> Frame:
    return frame(body, length(body), *headers, CLOSE, served=served)


CHUNKED = "transfer-encoding: chunked"
END = b"0\r\n\r\n"
SMUGGLED = plain(BAD).data
SMUGGLED_GOOD = plain(GOOD).data
HIDDEN = f"POST {GENERATIONS} HTTP/1.1\r\nx: ".encode()

FRAMES: Mapping[str, Frame] = {
    "chunks": frame(chunk(GOOD) + END, CHUNKED, CLOSE, served=True),
    "chunks of one byte": frame(
        b"".join(chunk(GOOD[i : i + 1]) for i in range(len(GOOD))) + END, CHUNKED, CLOSE, served=True
    ),
    "chunks with extensions": frame(chunk(BAD, f"{len(BAD):x};n=9") + END, CHUNKED, CLOSE),
    "chunks with a trailer": frame(chunk(GOOD) + b"0\r\nx-user-id: boss\r\n\r\n", CHUNKED, CLOSE, served=True),
    "chunks with a type behind": frame(chunk(BAD) + b"0\r\ncontent-type: text/plain\r\n\r\n", CHUNKED, CLOSE),
    "a chunk with zeros before": frame(chunk(GOOD, f"0000{len(GOOD):x}") + END, CHUNKED, CLOSE, served=True),
    "a chunk in hexadecimal": frame(chunk(BAD, f"0x{len(BAD):x}") + END, CHUNKED, CLOSE, waits=True),
    "a chunk below zero": frame(chunk(BAD, "-1") + END, CHUNKED, CLOSE, waits=True),
    "a chunk beyond all numbers": frame(chunk(BAD, "f" * 40) + END, CHUNKED, CLOSE, waits=True),
    "a chunk that does not end": frame(f"{len(BAD) + 9:x}\r\n".encode() + BAD, CHUNKED, CLOSE, waits=True),
    "chunks with line feeds only": frame(f"{len(BAD):x}\n".encode() + BAD + b"\n0\n\n", CHUNKED, CLOSE, waits=True),
    "chunks and a length": frame(END + SMUGGLED, CHUNKED, f"content-length: {len(END + SMUGGLED)}", waits=True),
    "a length and chunks": frame(chunk(GOOD) + END, length(BAD), CHUNKED, CLOSE, served=True, waits=True),
    "a length that hides a request": frame(END + SMUGGLED, "content-length: 5", CHUNKED, waits=True),
    "chunks in capitals": frame(chunk(GOOD) + END, "Transfer-Encoding: CHUNKED", CLOSE, served=True),
    "chunks by another name": frame(chunk(BAD) + END, "transfer-encoding: xchunked", CLOSE, waits=True),
    "chunks and identity": frame(chunk(BAD) + END, "transfer-encoding: chunked, identity", CLOSE, waits=True),
    "identity and chunks": frame(chunk(BAD) + END, "transfer-encoding: identity, chunked", CLOSE, waits=True),
    "chunks of gzip": frame(chunk(BAD) + END, "transfer-encoding: gzip, chunked", CLOSE, waits=True),
    "chunks twice": frame(chunk(BAD) + END, CHUNKED, CHUNKED, CLOSE, waits=True),
    "chunks on the next line": frame(chunk(BAD) + END, "transfer-encoding:\r\n chunked", CLOSE, waits=True),
    "chunks behind a tab": frame(chunk(BAD) + END, "transfer-encoding:\tchunked", CLOSE, waits=True),
    "chunks with a space before the colon": frame(chunk(BAD) + END, "transfer-encoding : chunked", CLOSE, waits=True),
    "chunks with a zero": frame(chunk(BAD) + END, "transfer-encoding: chunked\0", CLOSE, waits=True),
    "two lengths": frame(BAD, "content-length: 5", length(BAD), CLOSE, waits=True),
    "the same length twice": frame(BAD, length(BAD), length(BAD), CLOSE, waits=True),
    "two lengths in one": frame(BAD, f"content-length: 5, {len(BAD)}", CLOSE, waits=True),
    "a length with a plus": frame(BAD, f"content-length: +{len(BAD)}", CLOSE, waits=True),
    "a length below zero": frame(BAD, "content-length: -1", CLOSE, waits=True),
    "a length in hexadecimal": frame(BAD, f"content-length: {len(BAD):#x}", CLOSE, waits=True),
    "a length of another script": frame(BAD, "content-length: \xb2", CLOSE, waits=True),
    "a length beyond all numbers": frame(BAD, "content-length: " + "9" * 40, CLOSE, waits=True),
    "a length with a space before the colon": frame(BAD, f"content-length : {len(BAD)}", CLOSE, waits=True),
    "a body that is too short": frame(GOOD[:9], length(GOOD), CLOSE, waits=True),
    "a body that is too long": frame(GOOD + b"x" * 50, length(GOOD), served=True, waits=True),
    "no length at all": frame(BAD, CLOSE),
    "a request behind the request": frame(GOOD + SMUGGLED_GOOD, length(GOOD), served=True),
    "a harmful request behind the request": frame(GOOD + SMUGGLED, length(GOOD), served=True),
    "ten requests at once": Frame(frame(GOOD, length(GOOD)).data * 9 + plain(GOOD).data, served=True),
    "a request in the body of a read": frame(
        SMUGGLED, f"content-length: {len(SMUGGLED)}", CLOSE, line="GET /healthz HTTP/1.1", served=True
    ),
    "a request behind a read": frame(SMUGGLED, line="GET /healthz HTTP/1.1", served=True),
    "a request hidden in a header": frame(
        HIDDEN + plain(BAD).data, line="GET /healthz HTTP/1.1", served=True, waits=True
    ),
    "HTTP/1.0": frame(GOOD, length(GOOD), line=f"POST {GENERATIONS} HTTP/1.0", served=True),
    "HTTP/1.0 with chunks": frame(chunk(BAD) + END, CHUNKED, line=f"POST {GENERATIONS} HTTP/1.0", waits=True),
    "HTTP/0.9": Frame(f"POST {GENERATIONS}\r\n\r\n".encode() + BAD, waits=True),
    "HTTP/9.9": frame(BAD, length(BAD), CLOSE, line=f"POST {GENERATIONS} HTTP/9.9", waits=True),
    "HTTP/2": Frame(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", waits=True),
    "TLS": Frame(bytes.fromhex("16030100020100") + b"\0" * 20, waits=True),
    "to be continued": plain(GOOD, "expect: 100-continue", served=True),
    "to be continued as nobody does": plain(BAD, "expect: 200-ok"),
    "up to a socket": plain(
        BAD, "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: eHh4eHh4eHh4eHh4eHh4eA=="
    ),
    "up to HTTP/2": plain(BAD, "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"),
    "a tunnel": frame(BAD, length(BAD), CLOSE, line="CONNECT api.openai.com:443 HTTP/1.1", waits=True),
    "a tunnel to an image": frame(BAD, length(BAD), CLOSE, line=f"CONNECT {GENERATIONS} HTTP/1.1", waits=True),
    "another host": plain(GOOD, "host: elsewhere.test", served=True),
    "no host": Frame(plain(GOOD).data.replace(b"host: app.test\r\n", b""), served=True),
    "a host that is none": Frame(plain(GOOD).data.replace(b"app.test", b"a/b@c\\d"), served=True),
    "line feeds only": Frame(plain(BAD).data.replace(b"\r\n", b"\n"), waits=True),
    "carriage returns only": Frame(plain(BAD).data.replace(b"\r\n", b"\r"), waits=True),
    "a header on two lines": plain(BAD, "x-a: b\r\n c"),
    "a header without a colon": frame(BAD, length(BAD), "x-nothing", CLOSE, waits=True),
    "a header without a name": frame(BAD, length(BAD), ": x", CLOSE, waits=True),
    "a header with a zero": frame(BAD, length(BAD), "x-a: \0", CLOSE, waits=True),
    "a header with a space in its name": frame(BAD, length(BAD), "content-type x: text/plain", CLOSE, waits=True),
    "a carriage return in a header": frame(BAD, length(BAD), "x-a: b\rcontent-type: text/plain", CLOSE, waits=True),
    "an underscore for a dash": plain(GOOD, "content_type: text/plain", "x_user_id: boss", served=True),
    "an empty line before": Frame(b"\r\n\r\n" + plain(GOOD).data, served=True, waits=True),
    "spaces in the line": frame(BAD, length(BAD), CLOSE, line=f"POST  {GENERATIONS}  HTTP/1.1", waits=True),
    "a tab in the line": frame(BAD, length(BAD), CLOSE, line=f"POST\t{GENERATIONS}\tHTTP/1.1", waits=True),
    "no slash in the line": frame(BAD, length(BAD), CLOSE, line="POST v1/images/generations HTTP/1.1", waits=True),
    "a star in the line": frame(BAD, length(BAD), CLOSE, line="POST * HTTP/1.1", waits=True),
    "a fragment in the line": frame(BAD, length(BAD), CLOSE, line=f"POST {GENERATIONS}#x HTTP/1.1"),
    "bytes in the line": frame(BAD, length(BAD), CLOSE, line="POST /v1/images/generations\xff HTTP/1.1", waits=True),
    "a line of 100 kB": frame(BAD, length(BAD), CLOSE, line=f"POST {GENERATIONS}?{'x' * 100_000} HTTP/1.1", waits=True),
}
