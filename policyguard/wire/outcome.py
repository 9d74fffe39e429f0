"""An answer to an `Outcome`: token counts by kind, digests of the images, what an error says.

What cannot be read leaves the outcome unknown, and an unknown outcome is charged at its ceiling.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from policyguard.policy.model import Route
from policyguard.request import Failure, Outcome, Usage
from policyguard.wire.events import EventReader
from policyguard.wire.own import at
from policyguard.wire.responses_outcome import tool_said
from policyguard.wire.skeleton import DIGEST, Skeleton
from policyguard.wire.usage import usage_from

_DIGESTED = re.compile(f"{DIGEST}[0-9a-f]{{64}}")
_WORD = re.compile(r"[A-Za-z0-9._:-]{1,100}", re.ASCII)


class OutcomeReader:
    """What an answer means, read while it passes by: a JSON body, or a stream of events.

    `feed` what comes, then ask for the `outcome`. `images` is how many were asked for: a stream says so for each.
    `route` says where an app's own answer has usage and images; `main`: it is one of the Responses API. Header names
    are in lower case.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        *,
        images: int = 1,
        route: Route | None = None,
        main: bool = False,
    ) -> None:
        self._main = main
        self._status, self._images = status, images
        self._request_id = plain_word(headers.get("x-request-id"))
        self._route = route if route is not None and route.shape == "custom" else None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        self._events = EventReader() if kind == "text/event-stream" else None
        self._body = Skeleton()

    @property
    def is_stream(self) -> bool:
        return self._events is not None

    def feed(self, chunk: bytes) -> None:
        (self._events or self._body).feed(chunk)

    def outcome(self, *, failure: Failure | None = None, latency_ms: int = 0, definite: bool = False) -> Outcome:
        """`failure` says why nothing more came; usage that came before it counts all the same."""
        said = self._streamed(self._events) if self._events else self._answered(failure is None)
        failed = Failure.ERROR if self._status >= 400 or said.error is not None else failure
        usage = said.usage if self._status < 400 else None
        return Outcome(
            status=self._status,
            usage=usage,
            failure=None if usage else failed or Failure.NO_USAGE,
            definite=definite,
            error_code=plain_word((said.error or {}).get("code")),
            moderation_stage=_stage((said.error or {}).get("moderation_details")),
            request_id=self._request_id,
            latency_ms=latency_ms,
            size=plain_word(said.document.get("size")),
            quality=plain_word(said.document.get("quality")),
            image_digests=digests(said.images) if self._status < 400 else (),
        )

    def _answered(self, complete: bool) -> _Stated:
        document = self._body.document() if complete else {}
        if self._main and self._status < 400:
            return _Stated(*tool_said(document))
        error = document.get("error") if self._status >= 400 else None
        route = self._route
        usage = _first(document, route.usage) if route else document.get("usage")
        images = at(document, (route.images or ()) if route else ("data", "[]", "b64_json"))
        return _Stated(document, usage_from(usage), error if isinstance(error, dict) else None, images)

    def _streamed(self, events: EventReader) -> _Stated:
        events.end()
        if self._main:
            said = _Stated(*tool_said(events.response))
            return said._replace(error=events.error or said.error)
        last = events.completed[-1] if events.completed else {}
        images = [event.get("b64_json") for event in events.completed]
        return _Stated(last, _total(events.completed, self._images), events.error, images)


class _Stated(NamedTuple):
    document: Mapping[str, Any]
    usage: Usage | None
    error: Mapping[str, Any] | None
    images: Iterable[Any]


def _total(completed: Sequence[Mapping[str, Any]], images: int) -> Usage | None:
    """Over all images of a stream, once each of them is there; None before that, or where one says nothing."""
    counts = [usage for event in completed if (usage := usage_from(event.get("usage"))) is not None]
    if len(counts) < max(images, len(completed)):
        return None
    return Usage(**{name: sum(getattr(usage, name) for usage in counts) for name in Usage.__dataclass_fields__})


def read_outcome(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    latency_ms: int = 0,
    definite: bool = False,
    route: Route | None = None,
    main: bool = False,
) -> Outcome:
    """What an answer means that is there as a whole."""
    reader = OutcomeReader(status, headers, route=route, main=main)
    reader.feed(body)
    return reader.outcome(latency_ms=latency_ms, definite=definite)


def _first(document: Mapping[str, Any], path: tuple[str, ...] | None) -> Any:
    return next(at(document, path), None) if path else None


def _stage(details: object) -> str | None:
    return plain_word(details.get("moderation_stage")) if isinstance(details, Mapping) else None


def plain_word(value: object) -> str | None:
    """A code or an id as it may stand in the record. An app can answer anything there; no sentence fits in here."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def digests(images: Iterable[Any]) -> tuple[str, ...]:
    """Of the decoded images; what is no base64 has none."""
    return tuple(digest for image in images if (digest := _digest(image)) is not None)


def _digest(image: object) -> str | None:
    if not isinstance(image, str):
        return None
    if _DIGESTED.fullmatch(image):  # long, and hashed as it passed by
        return image.removeprefix(DIGEST)
    try:
        return hashlib.sha256(base64.b64decode(image, validate=True)).hexdigest()
    except ValueError:  # binascii.Error for a wrong alphabet, plain ValueError for what is not ASCII
        return None
