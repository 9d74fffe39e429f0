"""Faults on demand: by a request header, or switched on for a path, a number of times or until cleared.

Each is something that the real API or a network does; none exists for a test alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from policyguard.sandbox.wire import ApiError, blocked

HEADER = "x-sandbox-fault"
FOR_STREAMS = ("error_event", "unfinished")
NAMES = ("429", "500", "502", "503", "slow", "cut", "moderation_blocked", "no_usage", "nonsense", *FOR_STREAMS)
_SLOW = re.compile(r"slow=[0-9]{1,3}(\.[0-9]{1,3})?", re.ASCII)


@dataclass(slots=True)
class Switch:
    """`times` None: until it is cleared."""

    path: str
    fault: str
    times: int | None


class Faults:
    """The switched-on faults of one server."""

    def __init__(self) -> None:
        self.switches: list[Switch] = []

    def add(self, path: str, fault: str, times: int | None) -> None:
        _check(fault)
        if times is not None and (type(times) is not int or times < 1):
            raise ApiError(400, "'times' must be a whole number above 0, or null.", param="times")
        self.switches.append(Switch(path, fault, times))

    def clear(self) -> None:
        self.switches.clear()

    def take(self, path: str, header: str | None) -> str | None:
        """The fault for one request; a header wins."""
        if header:
            _check(header)
            return header
        for switch in self.switches:
            if switch.path == path and switch.times != 0:
                switch.times = None if switch.times is None else switch.times - 1
                return switch.fault
        return None


def _check(fault: str) -> None:
    """A misspelt fault must not pass as none."""
    if fault not in NAMES and not _SLOW.fullmatch(fault):
        raise ApiError(400, f"Unknown fault. There is {', '.join(NAMES)}.", param="fault")


def raise_fault(fault: str | None) -> None:
    """Faults that are answers of their own."""
    if fault == "429":
        raise ApiError(429, "Rate limit reached. Please try again in 1s.", type="requests", code="rate_limit_exceeded")
    if fault == "500":
        raise ApiError(500, "The server had an error.", type="server_error")
    if fault == "502":
        raise ApiError(502, "Bad gateway.", type="server_error")
    if fault == "503":
        raise ApiError(503, "The server is overloaded.", type="service_unavailable_error", code="server_is_overloaded")
    if fault == "moderation_blocked":
        raise blocked(["violence"])


def seconds(fault: str | None) -> float:
    """How long a `slow` or `slow=2.5` request waits."""
    if fault is None or not fault.startswith("slow"):
        return 0.0
    return float(fault.partition("=")[2] or 1.0)
