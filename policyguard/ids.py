"""Ids that sort by time: a prefix, 48 bits of milliseconds and 80 random bits in Crockford's base 32 (a ULID)."""

from __future__ import annotations

from datetime import datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHIFTS = tuple(range(120, -1, -10))


def new_id(prefix: str, now: datetime, random: bytes) -> str:
    """`random` is 10 bytes; `now` is aware. For example `dec_01JD9Z6Q5T...`, 26 characters after the prefix."""
    value = (int(now.timestamp() * 1000) << 80) | int.from_bytes(random)
    return f"{prefix}_" + "".join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])
