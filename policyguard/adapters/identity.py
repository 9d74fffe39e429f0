"""Who asks, from an HTTP request: declared headers from trusted proxies, then code, which is always trusted more.

What a value means, and whether it has to be there, is for `engine.callers` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from policyguard.guard.current import current_caller
from policyguard.policy.model import PolicySet
from policyguard.request import Caller, IdentityValue
from policyguard.text.identity import decoded

CallerOf = Callable[[Any], Caller | Mapping[str, IdentityValue] | None]  # from an ASGI scope
_MAX_CHARS = 256


def caller_of(scope: Any, policies: PolicySet, given: CallerOf | None) -> Caller:
    """The values as they came; the guard resolves them. A callable wins over `policyguard.caller`, it over headers."""
    values: dict[str, IdentityValue] = _from_headers(scope, policies)
    values.update(current_caller().items())
    return said_by(given(scope) if given else None, values)


def said_by(given: Caller | Mapping[str, IdentityValue] | None, values: Mapping[str, IdentityValue]) -> Caller:
    """What a callable of the app's says, over the values that are there already."""
    return Caller.of({**values, **dict(given.items() if given else ())})


def _from_headers(scope: Any, policies: PolicySet) -> dict[str, IdentityValue]:
    client = scope.get("client")
    if not client or not _trusted(client[0], policies):
        return {}
    headers = scope["headers"]
    return {f.name: name_in(headers, f.header) for f in policies.caller if f.header is not None}


def origin(scope: Any, policies: PolicySet) -> str | None:
    """The address that a request comes from; behind trusted proxies the one that the outermost of them names."""
    client = scope.get("client")
    if not client:
        return None
    if not _trusted(client[0], policies):
        return str(client[0])[:_MAX_ADDRESS_CHARS]
    named = (header(scope["headers"], "x-forwarded-for") or "").split(",")
    hops = [hop.strip() for hop in named if _address(hop.strip()) is not None]
    return next((hop for hop in reversed(hops) if not _trusted(hop, policies)), str(client[0]))


def _trusted(host: str, policies: PolicySet) -> bool:
    address = _address(host)
    return address is not None and any(
        address in network for network in policies.trusted_proxies if network.version == address.version
    )


_MAX_ADDRESS_CHARS = 100  # an IPv6 address with a zone; some servers take the peer's address from a header


def _address(host: str) -> IPv4Address | IPv6Address | None:
    return _parsed(host) if len(host) <= _MAX_ADDRESS_CHARS else None


@lru_cache(maxsize=1_024)  # the same few proxies ask again and again
def _parsed(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:  # a Unix socket, or a test client's name
        return None
    return getattr(address, "ipv4_mapped", None) or address


def header(headers: Iterable[tuple[bytes, bytes]], name: str) -> str | None:
    """The one value of a header; one that is there twice could be anybody's and counts as absent."""
    raw = _only(headers, name)
    text = raw.decode("latin-1").strip() if raw is not None else ""
    return text if text and len(text) <= _MAX_CHARS and text.isprintable() else None


def name_in(headers: Iterable[tuple[bytes, bytes]], name: str) -> str | None:
    """The same of a caller value, in any alphabet. What is no name is left for the policy to refuse."""
    raw = _only(headers, name)
    return None if raw is None else decoded(raw)


def _only(headers: Iterable[tuple[bytes, bytes]], name: str) -> bytes | None:
    raw = name.encode()
    found = [value for key, value in headers if key.lower() == raw]
    return found[0] if len(found) == 1 else None
