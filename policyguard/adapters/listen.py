"""A socket to listen on, for the servers of the command line."""

from __future__ import annotations

import socket
from ipaddress import ip_address

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
