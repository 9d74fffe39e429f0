"""Receivers of exports: lines at the end of a file or on the standard output; a webhook is in `webhook`.

Which rows are due, and what is tried again, is for `export` to say: a sink takes one batch or fails.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from policyguard.audit.batch import Batch, Sink, SinkError
from policyguard.settings import setting
from policyguard.text.visible import visible_json

STDOUT = "-"


class JSONLines:
    """JSON lines at the end of a file, or on the standard output: a line for each row, then one for the checkpoint."""

    limit = 1_000_000

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def send(self, batch: Batch, now: datetime) -> None:
        lines = b"".join(_line(each) for each in (*batch.events, batch.checkpoint))
        try:
            if self._path is None:
                sys.stdout.buffer.write(lines)
                sys.stdout.buffer.flush()
            else:
                append(self._path, lines)
        except OSError as error:
            raise SinkError(f"the file cannot be written: {error.strerror}") from error


def _line(document: Mapping[str, Any]) -> bytes:
    return visible_json(orjson.dumps(document).decode()).encode() + b"\n"  # people look into these files


def append(path: Path, lines: bytes) -> None:
    """Put whole lines at the end of a file, safe when this returns; half a line of a killed writer is ended first."""
    with path.open("ab+") as stream:
        if _ends_within_a_line(stream):
            lines = b"\n" + lines
        stream.write(lines)
        stream.flush()
        os.fsync(stream.fileno())


def _ends_within_a_line(stream: BinaryIO) -> bool:
    if stream.seek(0, 2) == 0:
        return False
    stream.seek(-1, 2)
    return stream.read(1) != b"\n"


def address(target: str) -> str:
    """A target as it is stored: a URL as it is, a file by its whole path."""
    return target if target == STDOUT or "://" in target else str(Path(target).absolute())


@contextmanager
def open_sink(target: str) -> Iterator[Sink]:
    """The receiver at a URL, in a file, or `-`. Raises `ConfigError` for an address that cannot be one."""
    if "://" not in target:
        yield JSONLines(None if target == STDOUT else Path(target))
        return
    from policyguard.audit.webhook import Webhook  # here, because files need no HTTP client

    with closing(Webhook(target, setting("webhook_secret"))) as webhook:
        yield webhook
