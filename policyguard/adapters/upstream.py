"""The upstream over HTTP: the one module that knows aiohttp, because it forwards at a fifth of httpx's cost.

Bytes in, bytes out, as they come: nothing is decoded, followed or tried again here, and no proxy of the environment is
used unless asked for. The upstream's key is put on here and never leaves. What goes wrong is one `UpstreamFailed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

try:
    import aiohttp
except ImportError as error:
    raise ImportError("this needs aiohttp: pip install 'policyguard[serve]'") from error

from policyguard.adapters.body import AppFailed
from policyguard.errors import ConfigError
from policyguard.request import Failure

OPENAI = "https://api.openai.com/v1"
CONNECT_S = 10.0
KEEP_ALIVE_S = 15.0
CHUNK_BYTES = 64 * 1024
Header = tuple[bytes, bytes]


def _names(text: str) -> frozenset[bytes]:
    return frozenset(name.encode() for name in text.split())


# Between two neighbours on the wire only, by RFC 9110; the length and the host are put on anew.
_HOP_BY_HOP = _names(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade"
    " expect host"
)
# Whose request it is says the proxy, not the client. The last two would spend another project's money.
_OURS = _names(
    "authorization api-key x-api-key cookie content-length forwarded via x-real-ip"
    " x-http-method-override x-http-method x-method-override openai-organization openai-project"
)
_OUR_PREFIXES = (b"x-policyguard-", b"x-forwarded-")
# What the upstream says to the holder of its key alone.
_THEIRS = _names("set-cookie openai-organization openai-project")


class UpstreamFailed(AppFailed):
    """No answer, or not the whole of it. Never holds what was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the headers that concern the client, and the body as it comes."""

    status: int
    headers: list[Header]
    _response: aiohttp.ClientResponse = field(repr=False)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises `UpstreamFailed`."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _failed(error) from None

    async def body(self, limit: int) -> bytes | None:
        """The whole of it; None for more than `limit` bytes. Raises `UpstreamFailed`."""
        found = bytearray()
        async for chunk in self.chunks():
            found += chunk
            if len(found) > limit:
                return None
        return bytes(found)

    @property
    def names(self) -> Mapping[str, str]:
        """Every header, by its name in any case; of one that is there twice the first."""
        return self._response.headers


class Upstream:
    """OpenAI's API, or whatever speaks like it, at `base_url`. Connections are kept for each event loop of its own.

    `read_timeout_s` is the longest silence within an answer. `trust_env`: proxies of the environment are used.
    """

    def __init__(
        self,
        *,
        key: str,
        base_url: str | None = None,
        connect_timeout_s: float = CONNECT_S,
        read_timeout_s: float = 600.0,
        trust_env: bool = False,
    ) -> None:
        self.base_url = (base_url or OPENAI).rstrip("/")
        try:
            parts = urlsplit(self.base_url)
        except ValueError:  # its words quote the address, which may hold a password
            raise ConfigError("the upstream's address cannot be read") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError("the upstream's address must be like `https://api.openai.com/v1`")
        self.host = parts.hostname  # what the breaker counts for
        self._authorization = f"Bearer {key}"
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s, sock_read=read_timeout_s)
        self._trust_env = trust_env
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()

    @asynccontextmanager
    async def post(
        self, path: str, headers: Mapping[str, str] | Iterable[Header], body: bytes, *, within_s: float | None = None
    ) -> AsyncGenerator[Answer]:
        """One attempt; `within_s` bounds all of it. Raises `UpstreamFailed`."""
        timeout = self._timeout if within_s is None else aiohttp.ClientTimeout(total=within_s)
        try:
            response = await self._open().post(
                f"{self.base_url}{path}",
                data=body,
                headers=self._headers(headers),
                timeout=timeout,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failed(error) from None
        try:
            yield Answer(response.status, _to_client(response.raw_headers), response)
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def _headers(self, headers: Mapping[str, str] | Iterable[Header]) -> list[tuple[str, str]]:
        if isinstance(headers, Mapping):
            found = list(headers.items())
        else:
            found = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        return [*found, ("Authorization", self._authorization)]

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=60),
                auto_decompress=False,  # bytes pass as they are
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._trust_env,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                read_bufsize=CHUNK_BYTES,
            )
        return session


def to_upstream(headers: Iterable[Header], identity: frozenset[bytes] = frozenset()) -> list[Header]:
    """A client's headers without what is between it and us; `identity` are the names by which it says who it is."""
    found = list(headers)
    dropped = _HOP_BY_HOP | _OURS | identity | _named(found)
    return [(name, value) for name, value in found if name not in dropped and not name.startswith(_OUR_PREFIXES)]


def _to_client(headers: Iterable[Header]) -> list[Header]:
    found = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _THEIRS | _named(found)
    return [(name, value) for name, value in found if name not in dropped and not name.startswith(_OUR_PREFIXES)]


def _named(headers: Iterable[Header]) -> frozenset[bytes]:
    """The headers that `connection` names as being between neighbours."""
    return frozenset(
        token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    )


def _failed(error: Exception) -> UpstreamFailed:
    return UpstreamFailed(Failure.TIMEOUT if isinstance(error, TimeoutError) else Failure.CUT)
