"""A socket to listen on, for the servers of the command line.

They are opened before the server starts, so that a busy port is an error and not a log line.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from policyguard.errors import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises `ConfigError` where the address is taken or is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # with the protocol named, asyncio sets TCP_NODELAY; without it every answer waits some 40 ms
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        reason = (error.strerror or "unknown").lower()
        raise ConfigError(f"cannot listen on port {port} of `{host}`: {reason}") from None
    return listening


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_here(listening: socket.socket, url: str) -> bool:
    """Whether a URL leads to `listening`, as far as its host is an address or a name of this machine's own."""
    parts = urlsplit(url)
    host, port = listening.getsockname()[:2]
    if (parts.port or (443 if parts.scheme == "https" else 80)) != port:
        return False
    bound = ip_address(host)
    return any(_leads_to(address, bound) for address in _own_addresses(parts.hostname or ""))


def _own_addresses(host: str) -> Iterator[IPv4Address | IPv6Address]:
    """What is neither an address nor ours by name is left alone: asking a name server takes time."""
    if host == "localhost" or host.endswith(".localhost"):
        yield from (ip_address("127.0.0.1"), ip_address("::1"))
    elif host == socket.gethostname().lower():
        with suppress(OSError):
            yield from (ip_address(found[4][0]) for found in socket.getaddrinfo(host, None))
    else:
        with suppress(ValueError):
            yield ip_address(host)


def _leads_to(address: IPv4Address | IPv6Address, bound: IPv4Address | IPv6Address) -> bool:
    local = address.is_loopback or address.is_unspecified  # an unspecified one is reached over loopback
    if bound.is_unspecified:
        return local or _is_ours(address)
    return address == bound or (
        local and bound.is_loopback and (address.is_unspecified or address.version != bound.version)
    )


def _is_ours(address: IPv4Address | IPv6Address) -> bool:
    """Only an address of this machine can be bound."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((str(address), 0))
        return True
    return False
