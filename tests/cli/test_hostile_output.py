"""Nothing that others wrote moves, colours, clears or forges what a verb prints: every verb, with hostile words."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from support import ORG, SURFACE, caller, request, write_policies

from policyguard.cli import app, main
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Failure, Outcome
from policyguard.text.visible import visible

SOFT = "\u202e\u200b\ufe0f\U000e0041"  # what passes where controls are refused
LINE = "\r\n::error::owned\n::stop-commands::x\n\x1b]0;owned\x07"
EVIL = f"\x1b[2J\x9b31m{SOFT}\u2028{LINE}"
Run = Callable[..., tuple[int, str, str]]


def hidden(text: str) -> list[str]:
    return [repr(char) for char in text if char != "\n" and visible(char) != char]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The whole command line in this process: exit code, stdout, stderr."""

    def go(*arguments: str) -> tuple[int, str, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2)]
        monkeypatch.setattr(sys, "argv", ["policyguard", *arguments])
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        finally:
            monkeypatch.undo()
        written = []
        for stream in streams:
            stream.flush()
            written.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
        return code or 0, written[0], written[1]

    return go


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose names are hostile, with policies and a record whose words are."""
    folder = tmp_path_factory.mktemp("hostile") / f"here{EVIL.replace('/', '')}"
    title = json.dumps(f"Profile {SOFT}::error::owned", ensure_ascii=False)
    rules = f"rules: [{{id: big, when: 'request.n > 1', then: deny, message: {title}}}]\n"
    review = "review: {reviewers: ['group:trust']}\nmoderation: {review_at: {violence: 0.3}}\n"
    surface = SURFACE.replace("title: Profile pictures", f"title: {title}") + rules + review
    org = ORG.replace("organisation: Example Corp", f"organisation: {title}")
    policies = write_policies(folder / "policies", org=org, avatars=surface)
    (policies / "tests").mkdir()
    test = {"name": f"a test{EVIL}", "request": {"prompt": f"a cat{EVIL}"}, "expect": "deny"}
    (policies / "tests" / "avatars.yaml").write_text(json.dumps({"version": 1, "surface": "avatars", "tests": [test]}))
    write_policies(folder / "other", org=org, avatars=surface.replace("n:       {max: 2}", "n:       {max: 3}"))
    write_policies(folder / f"broken{LINE}", avatars=SURFACE + f'"mode{SOFT}": enforce\n"a\\nb": 1\n"a\\nb": 2\n')
    moderator = ScriptedModerator()
    with Guard.open(policies, store=store(folder), moderator=moderator, watch=False) as guard:
        guard.admit(request(n=2, prompt=f"no{EVIL}"), caller(tenant="acme\ufe0f"), surface="avatars")
        admitted: Any = guard.admit(request(), caller(), surface="avatars")
        guard.sent(admitted.ticket)
        guard.settle(admitted.ticket, Outcome(failure=Failure.TIMEOUT, request_id=f"req{EVIL}"))
        moderator.scores = {"violence": 0.4}
        for _ in range(2):
            guard.admit(request(prompt=f"a duel{EVIL}"), caller(user="u\ufe0f1"), surface="avatars")
        guard.sweep()
    return folder


def store(folder: Path) -> str:
    return f"sqlite:///{folder / 'r.sqlite3'}"


def ids(folder: Path) -> dict[str, str]:
    with Guard.open(folder / "policies", store=store(folder), moderator=ScriptedModerator(), watch=False) as guard:
        events = guard.store.events(limit=50)
        leg = next(event.event for event in events if event.event.type == "leg.presumed")
        reviews = [item.review_id for item in guard.store.reviews(["held", "approved", "rejected"])]
    decided = next(event.event for event in events if event.event.type == "request.decided")
    names = {"leg": leg.leg_id, "decision": leg.decision_id, "event": decided.id}
    return {**names, "review": reviews[0], "second": reviews[1]}  # type: ignore[dict-item]


HERE = ("--store", "{store}", "--policies", "{here}/policies")
COMMANDS = [
    ("check", "{here}/policies"),
    ("check", "{here}/broken" + LINE),
    ("check", "{here}/broken" + LINE, "--format", "github"),
    ("check", "{here}/broken" + LINE, "--format", "sarif"),
    ("check", "{here}/broken" + LINE, "--format", "junit"),
    ("check", "{here}/policies/avatars.yaml"),
    ("test", "{here}/policies"),
    ("test", "{here}/policies", "--format", "github"),
    ("test", "{here}/policies", "--format", "sarif"),
    ("test", "{here}/policies", "--format", "junit"),
    ("explain", "avatars", "--prompt", "a" + EVIL, "--n", "2", "--caller", "user=u" + EVIL, *HERE[2:]),
    ("explain", "avatars" + EVIL, "--policies", "{here}/policies"),
    ("explain", "avatars", "--caller", EVIL + "=1", "--score", EVIL, "--policies", "{here}/policies"),
    ("explain", "avatars", "--stages", "--policies", "{here}/policies"),
    ("explain", "avatars", "--policies", "{here}/broken" + LINE),
    ("diff", "{here}/policies", "{here}/other"),
    ("diff", "{here}/policies", "{here}/other", "--format", "github"),
    ("diff", "{here}/policies", "{here}/other", "--format", "markdown"),
    ("diff", "{here}/policies", "{here}/broken" + LINE),
    ("diff", EVIL, "{here}/policies"),
    ("price", "--model", "gpt" + EVIL),
    ("price", "--size", EVIL),
    ("price", "--policies", "{here}/policies", "--model", "gpt-image-2", "--prompt", EVIL),
    ("spend", "--by", "tenant", "--store", "{store}"),
    ("spend", "--by", "tenant", "--format", "csv", "--store", "{store}"),
    ("spend", "--budgets", "--store", "{store}"),
    ("spend", "--explain", EVIL, "--store", "{store}"),
    ("spend", "--zone", EVIL, "--store", "{store}"),
    ("reconcile", "--store", "{store}"),
    ("reconcile", "--import", "{here}/no" + EVIL.replace("/", ""), "--store", "{store}"),
    ("reconcile", "--leg", "leg" + EVIL, "--release", "--by", EVIL, "--why", EVIL, "--store", "{store}"),
    ("reconcile", "--leg", "{leg}", "--usage", EVIL + "=1", "--by", EVIL, "--store", "{store}"),
    ("pause", "tenant:" + EVIL, "--why", EVIL, "--store", "{store}"),
    ("unpause", "tenant:" + EVIL, "--why", EVIL, "--store", "{store}"),
    ("pause", EVIL, "--why", EVIL, "--store", "{store}"),
    ("serve", "--policies", "{here}/policies/avatars.yaml"),
    ("serve", "--metrics-from", EVIL),
    ("sandbox", "--host", EVIL),
    ("schema", "-o", "{here}/no/such" + EVIL.replace("/", "")),
    ("init", "{here}/policies"),
    ("init", "{here}/new" + EVIL.replace("/", ""), "--app", "{here}/app.py"),
    ("demo", "--prompts", "{here}/no" + EVIL.replace("/", "")),
    ("doctor",),
    ("review", "list", "--all", "--store", "{store}"),
    ("review", "show", "{review}", "--by", EVIL, "--store", "{store}"),
    ("review", "approve", "{review}", "--by", EVIL, "--reason", EVIL, "--store", "{store}"),
    ("review", "approve", "{review}", "--by", "ada@example.com", "--reason", "fine" + EVIL, "--store", "{store}"),
    ("review", "reject", "{second}", "--by", "ada@example.com", "--reason", "no" + EVIL, "--store", "{store}"),
    ("review", "show", "{review}", "--store", "{store}"),
    ("review", "show", EVIL, "--store", "{store}"),
    ("audit", "tail", "--store", "{store}"),
    ("audit", "tail", "--tenant", EVIL, "--store", "{store}"),
    ("audit", "show", "{decision}", "--store", "{store}"),
    ("audit", "show", EVIL, "--store", "{store}"),
    ("audit", "verify", "--store", "{store}"),
    ("audit", "verify", "--proof", "{here}/no" + EVIL.replace("/", "")),
    ("audit", "prove", "{event}", "--store", "{store}"),
    ("audit", "prove", EVIL, "--store", "{store}"),
    ("audit", "export", "--name", "c" + EVIL, "--to", "{here}/out" + EVIL.replace("/", ""), "--store", "{store}"),
    ("audit", "export", "--name", "out", "--to", "-", "--store", "{store}"),
    ("audit", "export", "--list", "--store", "{store}"),
    ("audit", "export", "--name", EVIL, "--to", "http://" + EVIL, "--store", "{store}"),
    ("audit", "erase", "--subject", EVIL, "--by", EVIL, "--why", EVIL, "--store", "{store}"),
    ("audit", "rotate", "--by", EVIL, "--why", EVIL, "--store", "{store}"),
    ("keys", "create", "--name", "k" + EVIL, "--surface", "avatars", "--caller", "user=u" + EVIL, *HERE),
    ("keys", "create", "--name", "k" + EVIL, "--surface", EVIL, *HERE),
    ("keys", "create", "--name", "k", "--surface", "avatars", "--caller", EVIL, *HERE),
    ("keys", "list", "--store", "{store}"),
    ("keys", "revoke", EVIL, "--why", EVIL, "--store", "{store}"),
    ("jobs", "run", "--once", "--store", "{store}"),
    ("db", "status", "--store", "{store}"),
    ("db", "migrate", "--store", "{store}"),
    ("db", "status", "--store", EVIL),
    ("db", "status", "--store", "x" + EVIL + "://y"),
    ("spend", "--store", "{here}/no" + EVIL.replace("/", "")),
    ("spend" + EVIL,),
    ("spend", "--no" + EVIL),
]  # fmt: skip
BOTH = {"explain", "diff", "price", "spend", "reconcile", "pause", "unpause", "doctor", "review", "audit", "keys"}
TEXT_ONLY = ("prove",)


def filled(command: tuple[str, ...], values: dict[str, str]) -> list[str]:
    return [re.sub(r"\{(\w+)\}", lambda found: values[found[1]], word) for word in command]


def as_json(command: tuple[str, ...]) -> list[tuple[str, ...]]:
    twice = command[0] in {*BOTH, "check", "test", "jobs", "db"} and "--format" not in command
    return [(*command, "--format", "json")] if twice and not set(TEXT_ONLY) & set(command) else []


def test_no_verb_prints_a_control_or_an_invisible_character_or_a_line_that_others_wrote(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"here": str(place), "store": store(place), **ids(place)}
    found = {}
    for command in COMMANDS:
        for each in (command, *as_json(command)):
            with monkeypatch.context() as patch:
                patch.setenv("POLICYGUARD_KEY_FILE", "")
                patch.chdir(place)
                if each[0] == "doctor":
                    for name in ("POLICYGUARD_POLICIES", "POLICYGUARD_RELOAD", "PROMETHEUS_MULTIPROC_DIR"):
                        patch.setenv(name, f"{place}{EVIL}".replace("\0", ""))
                code, out, err = run(*filled(each, values))
            forged = [line for line in (out + err).split("\n") if line.startswith(("::error::owned", "::stop"))]
            if code not in (0, 1, 2) or hidden(out + err) or forged:
                found[" ".join(map(repr, each))] = (code, hidden(out + err)[:5], forged, err[-300:])
            if each[-2:] == ("--format", "json") and out.startswith(("{", "[")):
                json.loads(out)
    assert not found, "\n".join(f"{command}: {what}" for command, what in found.items())


def test_every_verb_is_among_them() -> None:
    root = typer.main.get_command(app)
    verbs = set()
    for name, verb in root.commands.items():  # type: ignore[attr-defined]
        verbs |= {(name, each) for each in verb.commands} if hasattr(verb, "commands") else {(name,)}
    tried = {command[:1] for command in COMMANDS} | {command[:2] for command in COMMANDS}
    assert verbs - tried == set()


def test_a_prompt_of_several_lines_forges_no_line_of_a_review(place: Path, run: Run) -> None:
    _, out, _ = run("review", "show", ids(place)["second"], "--by", "ada@example.com", "--store", store(place))
    assert "prompt       a duel\\x1b[2J\\x9b31m\\u202e" in out
    assert "\n             ::error::owned\n" in out
