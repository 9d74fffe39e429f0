"""What policyguard says to the log: one logger, one way to say something, and a format for machines.

Every line has a name (`event`) and fields that programs read, and a sentence for people. Fields are ids, counts and
words from the policies: nothing from a prompt or an image, no name of a person, no key. The package only speaks; a
host that wants it shown sets up logging as it always does, and `configure` does so for a process of ours.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO
from weakref import WeakSet

import orjson

from policyguard.settings import without_secrets
from policyguard.text.visible import visible, visible_json

LogFormat = Literal["text", "json"]
log = logging.getLogger("policyguard")
_FIELDS = "policyguard"  # where a record keeps its fields
_SERVERS = ("uvicorn", "uvicorn.error")
_ACCESS = "uvicorn.access"  # says of each request what the line of its decision says already
_EVERY_S = 0.1
_Thrown = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def say(level: int, event: str, words: str, *args: object, **fields: Any) -> None:
    """Log a sentence (`words % args`) that machines know as `event`. Fields that are None are left out."""
    if log.isEnabledFor(level):
        known = {name: value for name, value in fields.items() if value is not None}
        log.log(level, words, *args, extra={_FIELDS: {"event": event, **known}}, stacklevel=2)


def configure(format: LogFormat = "text", level: str = "INFO") -> None:
    """Log to stderr, in this process: `level` counts for policyguard and the server, others speak from WARNING on.

    So a DEBUG of ours switches on nobody else's: what libraries show there changes with their versions.
    """
    handler = Gathered(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    log.setLevel(level)
    for name in _SERVERS:
        server = logging.getLogger(name)
        server.handlers.clear()  # it speaks through ours
        server.propagate = True
        server.setLevel(level)
    access = logging.getLogger(_ACCESS)
    access.handlers.clear()
    access.propagate = False


class Gathered(logging.StreamHandler[TextIO]):
    """Writes INFO lines of a tenth of a second at once, by a thread of its own; what is worse at once, with them.

    A thread that writes lets others in between, and may wait long for its turn: too long, twice for each request.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._thread: threading.Thread | None = None
        _gathered.add(self)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record))
        except Exception:
            self.handleError(record)
            return
        if record.levelno > logging.INFO:
            self.flush()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._write, name="policyguard-log", daemon=True)
            self._thread.start()

    def forked(self) -> None:
        """In a child: the lines that wait are its parent's to write, and the thread stayed with the parent."""
        self._lines, self._thread = [], None

    def flush(self) -> None:
        """Write what there is. Called at the end of the process, too."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                with suppress(ValueError):  # the stream is closed: nobody reads any more
                    self.stream.write("\n".join([*lines, ""]))
                    self.stream.flush()

    def _write(self) -> None:
        while True:
            time.sleep(_EVERY_S)
            self.flush()


# ---- forks: a line is written by the process that said it, once ---------------------------------------------

_gathered: WeakSet[Gathered] = WeakSet()
_held: list[Gathered] = []


def _before_fork() -> None:
    """Nobody is within a write: else the child would write what is left of it, too."""
    for handler in list(_gathered):
        handler.acquire()
        _held.append(handler)


def _in_parent() -> None:
    held = _held.copy()
    _held.clear()  # before another thread can hold them
    for handler in held:
        handler.release()


def _in_child() -> None:
    """The lock needs no release: logging gives every handler a new one in a child."""
    for handler in _held:
        handler.forked()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


# ---- formats ------------------------------------------------------------------------------------------------


class _Discreet(logging.Formatter):
    """Says where something was raised and of what kind it is. What it says itself may quote a request."""

    def formatException(self, ei: _Thrown) -> str:
        kind, _, traceback = ei
        lines = []
        while traceback is not None:
            code = traceback.tb_frame.f_code
            lines.append(f"  {code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
            traceback = traceback.tb_next
        return "\n".join([*lines, kind.__name__ if kind else "no error"])

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class TextFormatter(_Discreet):
    """`2026-11-24T12:00:00.000+00:00 INFO policyguard: a sentence`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        told, record.exc_text = record.exc_text, None  # a formatter before this one may have kept all of it
        try:
            return super().format(record)
        finally:
            record.exc_text = told

    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible(without_secrets(super().formatMessage(record)))  # one line, whoever chose the words in it


class JsonFormatter(_Discreet):
    """One JSON object a line: time, level, logger, message, the fields, and the trace that it belongs to."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            **{name: _shown(value) for name, value in getattr(record, _FIELDS, {}).items()},
            **_trace(),
        }
        if record.exc_info:
            line["raised"] = self.formatException(record.exc_info)
        return visible_json(orjson.dumps(line, default=str).decode())


def _shown(value: Any) -> Any:
    return without_secrets(value) if isinstance(value, str) else value


def _trace() -> dict[str, str]:
    """Ids of the span that the line was written in, if there is one."""
    telemetry = sys.modules.get("opentelemetry.trace")  # not imported: there is no span
    if telemetry is None:
        return {}
    span = telemetry.get_current_span().get_span_context()
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"} if span.is_valid else {}
