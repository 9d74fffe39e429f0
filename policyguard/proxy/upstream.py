"""The upstream over HTTP: the one module that knows aiohttp, because it forwards at a fifth of httpx's cost.

Bytes in, bytes out, as they come: nothing is decoded, followed or tried again here, and proxies of the environment are
used where asked for, as httpx uses them. The upstream's key is put on here and never leaves. What goes wrong is one
`UpstreamFailed`.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies
from weakref import WeakKeyDictionary

try:
    import aiohttp
    from yarl import URL
except ImportError as error:
    raise ImportError("this needs aiohttp: pip install 'policyguard[serve]'") from error

from policyguard.adapters.body import AppFailed
from policyguard.errors import ConfigError
from policyguard.request import Failure

OPENAI = "https://api.openai.com/v1"
CONNECT_S = 10.0
KEEP_ALIVE_S = 15.0
CHUNK_BYTES = 64 * 1024
RawHeader = tuple[bytes, bytes]


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
_OUR_PREFIXES = (b"x-policyguard-", b"x-forwarded-", b"x-openwebui-")  # the last ones are names of people
# What the upstream says to the holder of its key alone, and to browsers that ask it directly.
_THEIRS = _names(
    "set-cookie openai-organization openai-project access-control-allow-origin access-control-allow-credentials"
    " access-control-expose-headers"
)


class UpstreamFailed(AppFailed):
    """No answer, or not the whole of it. Never holds what was sent. `cause`: what lasts until somebody acts."""

    def __init__(self, failure: Failure, cause: str | None = None) -> None:
        super().__init__(failure)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """What came back: the status, the headers that concern the client, and the body as it comes."""

    status: int
    headers: list[RawHeader]
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
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                "the upstream's address cannot have a name or a password in it: the key is the credential"
            )
        self.host = parts.hostname  # what the breaker counts for
        self._authorization = f"Bearer {key}"
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s, sock_read=read_timeout_s)
        self._proxy = environment_proxy(parts.scheme, parts.hostname, parts.port) if trust_env else None
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()

    @asynccontextmanager
    async def post(
        self, path: str, headers: Mapping[str, str] | Iterable[RawHeader], body: bytes, *, within_s: float | None = None
    ) -> AsyncGenerator[UpstreamAnswer]:
        """One attempt; `within_s` bounds all of it. Raises `UpstreamFailed`."""
        async with self._ask("POST", path, headers, body, within_s) as answer:
            yield answer

    @asynccontextmanager
    async def get(
        self, path: str, headers: Mapping[str, str], *, within_s: float, base_url: str | None = None
    ) -> AsyncGenerator[UpstreamAnswer]:
        """As `post`; at another address of the same host, where one is given."""
        async with self._ask("GET", path, headers, None, within_s, base_url) as answer:
            yield answer

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | Iterable[RawHeader],
        body: bytes | None,
        within_s: float | None,
        base_url: str | None = None,
    ) -> AsyncGenerator[UpstreamAnswer]:
        timeout = self._timeout if within_s is None else aiohttp.ClientTimeout(total=within_s)
        try:
            response = await self._open().request(
                method,
                f"{base_url or self.base_url}{path}",
                data=body,
                headers=self._headers(headers),
                timeout=timeout,
                allow_redirects=False,
                proxy=self._proxy.url if self._proxy else None,
                proxy_headers=self._proxy.headers if self._proxy else None,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failed(error) from None
        try:
            yield UpstreamAnswer(response.status, _to_client(response.raw_headers), response)
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def _headers(self, headers: Mapping[str, str] | Iterable[RawHeader]) -> list[tuple[str, str]]:
        if isinstance(headers, Mapping):
            found = list(headers.items())
        else:
            found = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        ours = self._proxy.headers.items() if self._proxy and not self._proxy.tunnels else ()
        return [*found, ("Authorization", self._authorization), *ours]

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=60),
                auto_decompress=False,  # bytes pass as they are
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # it would take keys from .netrc, too
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                read_bufsize=CHUNK_BYTES,
            )
        return session


def to_upstream(headers: Iterable[RawHeader], identity: frozenset[bytes] = frozenset()) -> list[RawHeader]:
    """A client's headers without what is between it and us; `identity` are the names by which it says who it is."""
    found = list(headers)
    dropped = _HOP_BY_HOP | _OURS | identity | _named(found)
    return [(name, value) for name, value in found if name not in dropped and not name.startswith(_OUR_PREFIXES)]


def _to_client(headers: Iterable[RawHeader]) -> list[RawHeader]:
    found = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _THEIRS | _named(found)
    return [(name, value) for name, value in found if name not in dropped and not name.startswith(_OUR_PREFIXES)]


def _named(headers: Iterable[RawHeader]) -> frozenset[bytes]:
    """The headers that `connection` names as being between neighbours."""
    return frozenset(
        token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    )


def _failed(error: Exception) -> UpstreamFailed:
    return UpstreamFailed(Failure.TIMEOUT if isinstance(error, TimeoutError) else Failure.CUT, _cause(error))


def _cause(error: Exception) -> str | None:
    if isinstance(error, aiohttp.ClientConnectorDNSError) and _is_no_name(error.os_error):
        return "its host name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "it does not speak TLS"
    if isinstance(error, aiohttp.ClientHttpProxyError) and error.status in (401, 403, 407):
        return f"the proxy of the environment refuses with {error.status}"
    return None


def _is_no_name(error: OSError) -> bool:
    """The resolver's definite no, not that it cannot answer now."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, socket.gaierror):
        found = found.__cause__ or found.__context__
    return found is not None and found.errno == socket.EAI_NONAME


# ---- proxies of the environment -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnvironmentProxy:
    """`headers` are for the proxy alone: of a request to open a tunnel, else of each request."""

    url: str
    tunnels: bool
    headers: Mapping[str, str] = field(repr=False)


def environment_proxy(scheme: str, host: str, port: int | None) -> EnvironmentProxy | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name for an address, in either case of letters.

    Raises `ConfigError` for one that is not spoken here.
    """
    proxies = getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    if not found or _is_excepted(host, port, proxies.get("no", "")):
        return None
    url = URL(found if "://" in found else f"http://{found}")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError("the proxy of the environment (`HTTPS_PROXY`, `ALL_PROXY`) must be like `http://host:3128`")
    login = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    headers = {"Proxy-Authorization": f"Basic {login}"} if url.user else {}
    return EnvironmentProxy(str(url.with_user(None)), scheme == "https", headers)


def _is_excepted(host: str, port: int | None, listed: str) -> bool:
    """Whether NO_PROXY names the host: as a name with what is below it, an address, a network, with a port, or `*`."""
    for entry in (entry.strip().lower() for entry in listed.split(",")):
        name, _, only = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
        if name == "*" or (name and only in ("", str(port)) and _covers(name.strip("[]"), host)):
            return True
    return False


def _covers(name: str, host: str) -> bool:
    try:
        return ip_address(host) in ip_network(name, strict=False)
    except ValueError:
        name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")
