"""Which key a request brought, looked up at most every few seconds: a revoked key ends as soon as that.

Only keys that are good are remembered, so what is remembered is bounded by the keys that there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from policyguard.store import ProxyKey, Store
from policyguard.store.proxy_keys import digest

KEPT_S = 5.0  # a revoked key works at most this long, in every process
_MAX_CHARS = 200


class KeyRing:
    """Good keys by the digest of their secrets."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[float, ProxyKey]] = {}

    async def of(self, headers: Iterable[tuple[bytes, bytes]]) -> ProxyKey | None:
        """The key of a request, None where it brought no good one. Raises `StoreUnavailable`."""
        secret = _secret(headers)
        if secret is None:
            return None
        hashed, now = digest(secret), self._clock()
        until, key = self._known.get(hashed, (0.0, None))
        if key is not None and now < until:
            return key
        key = await self._store.aproxy_key(hashed)
        if key is None or key.caller is None:
            self._known.pop(hashed, None)
            return None
        self._known[hashed] = now + KEPT_S, key
        return key


def _secret(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The one secret of a request, as OpenAI's clients send it or Azure's; with two it would be anybody's guess which
    one counts.
    """
    found = [(name, value) for name, value in headers if name in (b"authorization", b"api-key")]
    if len(found) != 1 or not found[0][1].isascii():
        return None
    name, value = found[0]
    scheme, _, secret = ("bearer", "", value.decode()) if name == b"api-key" else value.decode().partition(" ")
    return secret.strip() if scheme.lower() == "bearer" and 0 < len(secret) <= _MAX_CHARS else None
