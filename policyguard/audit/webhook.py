"""A webhook as a receiver of exports, by the Standard Webhooks specification: signed, bounded, no redirects.

The same rows always have the same message id, so that a receiver can tell what it has already.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
from contextlib import suppress
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import httpx2
import orjson

from policyguard.audit.batch import Batch, SinkError
from policyguard.errors import ConfigError

TIMEOUT_S = 20.0
_SECRET = "whsec_"  # noqa: S105 (the prefix of one)
_SECRET_BYTES = range(24, 65)  # by the specification
_GONE = 410
_LONGEST_WAIT = timedelta(days=1)


class Webhook:
    """Sends batches to a URL. Close it when done."""

    limit = 18_000  # the specification asks for less than 20 kB

    def __init__(self, url: str, secret: str | None) -> None:
        self._url = checked(url)
        self._secret = secret_bytes(secret)
        self._client = httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False)

    def send(self, batch: Batch, now: datetime) -> None:
        id_ = f"msg_{batch.cursor}_{batch.first}_{batch.stop}"
        data = {"cursor": batch.cursor, "events": batch.events, "checkpoint": batch.checkpoint}
        body = orjson.dumps({"type": "audit.events", "timestamp": now.isoformat(), "data": data})
        try:
            answer = self._client.post(self._url, content=body, headers=signed(id_, now, body, self._secret))
        except httpx2.HTTPError as error:
            raise SinkError(f"the receiver cannot be reached: {type(error).__name__}") from error
        if not answer.is_success:
            wait = _wait(answer.headers.get("retry-after"))
            message = f"the receiver answered with {answer.status_code}"
            raise SinkError(message, wait=wait, gone=answer.status_code == _GONE)

    def close(self) -> None:
        self._client.close()


def signed(id_: str, now: datetime, body: bytes, secret: bytes) -> dict[str, str]:
    """The headers of a message."""
    timestamp = str(int(now.timestamp()))
    digest = hmac.digest(secret, f"{id_}.{timestamp}.".encode() + body, "sha256")
    return {
        "content-type": "application/json",
        "webhook-id": id_,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def checked(url: str) -> str:
    """Raises `ConfigError` for an address that rows of the record should not be sent to."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError("a webhook's address cannot be read") from None
    if parts.username or parts.password:
        raise ConfigError("a webhook's address is stored, so it cannot have a name or a password in it")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_local(parts.hostname or "")):
        raise ConfigError("a webhook needs an `https://` address; `http://` works on this machine only")
    return url


def _is_local(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def secret_bytes(secret: str | None) -> bytes:
    """The key that a secret stands for. Raises `ConfigError`, without the secret, for one that signs nothing safely."""
    with suppress(ValueError):
        if secret and secret.startswith(_SECRET):
            key = base64.b64decode(secret.removeprefix(_SECRET), validate=True)
            if len(key) in _SECRET_BYTES:
                return key
    found = "is not one" if secret else "is not set"
    raise ConfigError(
        f"`POLICYGUARD_WEBHOOK_SECRET` {found}: a webhook is signed with `whsec_` and 24 to 64 random bytes in base64,"
        " for example `echo whsec_$(openssl rand -base64 32)`"
    )


def _wait(text: str | None) -> timedelta | None:
    """What the receiver asked for, in seconds."""
    return min(timedelta(seconds=int(text)), _LONGEST_WAIT) if text and text.isdigit() and len(text) < 10 else None
