"""The log: lines for people and machines, levels by what became of a request, nothing of what it held."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from patience import HANGS_S
from support import SURFACE, caller, request
from telemetry.listening import heard_guard, listening

from policyguard import logs
from policyguard.guard.guard import Guard
from policyguard.logs import JsonFormatter, TextFormatter, configure, say
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Failure, Outcome, Usage

USAGE = Outcome(status=200, usage=Usage(output_image_tokens=196))


@pytest.fixture
def configured() -> Iterator[None]:
    """What a test configures is as it was afterwards."""
    known = [logging.getLogger(name) for name in (None, "policyguard", *logs._SERVERS, logs._ACCESS)]
    before = [(one, one.level, list(one.handlers), one.propagate) for one in known]
    yield
    for one, level, handlers, propagate in before:
        one.setLevel(level)
        one.handlers[:] = handlers
        one.propagate = propagate


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    with heard_guard(tmp_path, listening(), moderator=ScriptedModerator()) as guard:
        yield guard


def ask(guard: Guard, **changes: Any) -> Any:
    return guard.admit(request(**changes), caller(), surface="avatars")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.policyguard["event"]) for record in caplog.records]  # type: ignore[attr-defined]


def test_a_request_has_one_line_for_its_decision_and_one_for_its_end(
    guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "policyguard")
    ticket = ask(guard).ticket
    guard.sent(ticket)
    guard.settle(ticket, USAGE)
    assert lines(caplog) == [("INFO", "request.decided"), ("INFO", "leg.settled")]
    decided, ended = (json.loads(JsonFormatter().format(record)) for record in caplog.records)
    assert {name: decided[name] for name in ("decision_id", "surface", "outcome", "kind", "reasons", "door")} == {
        "decision_id": ticket.decision_id,
        "surface": "avatars",
        "outcome": "allow",
        "kind": "none",
        "reasons": [],
        "door": "python",
    }
    assert (ended["decision_id"], ended["outcome"], ended["charged_micros"]) == (ticket.decision_id, "settled", 5880)
    assert set(decided) >= {"time", "level", "logger", "message", "event", "latency_ms", "policy_digest"}


def test_levels_say_whether_somebody_has_to_look(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    moderator = ScriptedModerator()
    caplog.set_level(logging.INFO, "policyguard")
    with heard_guard(tmp_path, listening(), moderator=moderator) as guard:
        ask(guard, n=9)
        ticket = ask(guard).ticket
        guard.sent(ticket)
        guard.settle(ticket, Outcome(failure=Failure.TIMEOUT))
        moderator.error = "timeout"
        ask(guard)
    assert lines(caplog) == [
        ("INFO", "request.decided"),
        ("INFO", "request.decided"),
        ("WARNING", "leg.presumed"),
        ("WARNING", "request.decided"),
    ]
    assert caplog.records[0].getMessage().endswith("for surface avatars: deny (request.n)")


def test_reasons_in_shadow_stand_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "policyguard")
    rule = "rules: [{id: no-cats, when: 'request.n > 0', then: deny, mode: shadow}]\n"
    with heard_guard(tmp_path, listening(), SURFACE + rule) as guard:
        ask(guard)
    line = json.loads(JsonFormatter().format(caplog.records[0]))
    assert (line["outcome"], line["reasons"], line["shadow_reasons"]) == ("allow", [], ["no-cats"])


def test_a_line_names_the_span_that_it_was_written_in(caplog: pytest.LogCaptureFixture) -> None:
    with TracerProvider().get_tracer("host").start_as_current_span("host") as span:
        say(logging.WARNING, "x", "words")
        line = json.loads(JsonFormatter().format(caplog.records[0]))
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert "trace_id" not in json.loads(JsonFormatter().format(caplog.records[0]))


def raised() -> logging.LogRecord:
    try:
        raise ValueError("a prompt")
    except ValueError:
        return logging.LogRecord("x", logging.ERROR, __file__, 1, "it failed", None, sys.exc_info())


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_exception_is_shown_without_its_words(formatter: logging.Formatter) -> None:
    record = raised()
    logging.Formatter().format(record)  # another handler's, which keeps the whole text in the record
    text = formatter.format(record)
    assert "ValueError" in text
    assert f"{Path(__file__).name}:" in text
    assert "a prompt" not in text


def test_text_is_a_time_a_level_and_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    say(logging.WARNING, "x", "%d words", 2, count=2)
    record = caplog.records[0]
    record.created = 1795521600.5
    assert TextFormatter().format(record) == "2026-11-24T12:00:00.500+00:00 WARNING policyguard: 2 words"


def test_a_line_keeps_the_place_of_who_said_it(caplog: pytest.LogCaptureFixture) -> None:
    say(logging.WARNING, "x", "words")
    assert caplog.records[0].filename == Path(__file__).name


@pytest.mark.usefixtures("configured")
def test_configure_speaks_for_policyguard_and_the_server_alone(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "DEBUG")
    for name in ("policyguard", "uvicorn.error", "openai", "httpx2"):
        logging.getLogger(name).debug("by %s", name)
    logging.getLogger("openai").warning("slow")
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["message"]) for line in said] == [
        ("policyguard", "by policyguard"),
        ("uvicorn.error", "by uvicorn.error"),
        ("openai", "slow"),
    ]


@pytest.mark.usefixtures("configured")
def test_configured_as_text_it_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "WARNING")
    say(logging.INFO, "x", "not heard")
    say(logging.WARNING, "x", "heard")
    assert capsys.readouterr().err.splitlines()[0].endswith(" WARNING policyguard: heard")


def test_lines_of_the_normal_course_are_written_together_and_worse_ones_at_once() -> None:
    written: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    handler = logs.Gathered(Stream())
    log = logging.Logger("test")
    log.addHandler(handler)
    with handler.lock:  # type: ignore[union-attr] # the thread that writes waits
        log.info("one")
        log.info("two")
        assert written == []
        log.warning("three")
        log.info("four")
        handler.flush()
    assert written == ["one\ntwo\nthree\n", "four\n"]


def test_a_line_is_written_although_nothing_follows_it() -> None:
    ready = threading.Event()

    class Stream(io.StringIO):
        def flush(self) -> None:
            ready.set()

    stream = Stream()
    log = logging.Logger("test")
    log.addHandler(logs.Gathered(stream))
    log.info("the last word")
    assert ready.wait(HANGS_S)
    assert stream.getvalue() == "the last word\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_line_that_waits_at_a_fork_is_written_once(tmp_path: Path) -> None:
    """By the parent, which said it; the child writes what it says itself."""
    code = """
import logging, os
from policyguard.logs import configure, say
configure("text", "INFO")
say(logging.INFO, "x", "of the parent")
child = os.fork()
say(logging.INFO, "x", "of the %s", "child" if not child else "parent, later")
if child:
    os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = sorted(line.partition("policyguard: ")[2] for line in done.stderr.splitlines())
    assert said == ["of the child", "of the parent", "of the parent, later"]
