"""The sealed record as it is typed: verified, proven, exported, erased; and the jobs that keep it."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS_S
from support import SURFACE, caller, request, write_policies

from policyguard.cli import main
from policyguard.demo.report import summarise
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator

VERBS = ("tail", "show", "verify", "prove", "export", "erase", "rotate")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A record with one held and two denied requests, the store's by its setting."""
    surface = SURFACE + "review: {reviewers: [group:trust]}\nmoderation: {review_at: {violence: 0.3}}\n"
    policies = write_policies(tmp_path / "policies", avatars=surface)
    url = f"sqlite:///{tmp_path / 'record.sqlite3'}"
    with Guard.open(policies, store=url, moderator=ScriptedModerator({"violence": 0.4})) as guard:
        guard.admit(request(prompt="a duel"), caller(), surface="avatars")
        for _ in range(2):
            guard.admit(request(n=9), caller(), surface="avatars")
    monkeypatch.setenv("POLICYGUARD_STORE", url)
    return tmp_path


def tamper(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "record.sqlite3")
    with connection:
        connection.execute(statement)
    connection.close()


class Typed:
    """What is typed, run in this process, because a new one for each would take most of the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        return "".join(self.outputs(*arguments, code=code))

    def outputs(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """The standard output and the errors."""
        self._monkeypatch.setattr(sys, "argv", ["policyguard", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, out + err
        return out, err

    def data(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.outputs(*arguments, "--format", "json", code=code)[0])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capsys)


@pytest.mark.parametrize("verb", [*(f"audit {verb}" for verb in VERBS), "jobs run"])
def test_every_verb_explains_itself_with_examples(verb: str, run: Typed) -> None:
    shown = run(*verb.split(), "--help")
    assert "Examples:" in shown
    assert f"policyguard {verb}" in shown


def test_a_record_is_sealed_and_verified_and_a_change_is_named(folder: Path, run: Typed) -> None:
    assert "sealed   0 rows" in run("audit", "verify")
    assert "seal: 4 rows" in run("jobs", "run", "--once")
    assert "nothing sealed was changed" in run("audit", "verify")
    report = run.data("audit", "verify")
    assert (report["clean"], report["sealed"], report["unsealed"], report["newest"]["size"]) == (True, 4, 0, 4)
    tamper(folder, "UPDATE events SET outcome = 'allow' WHERE seq = 3")
    assert "altered              row 3 `request.decided:dec_" in run("audit", "verify", code=1)
    (finding,) = run.data("audit", "verify", code=1)["findings"]
    assert (finding["what"], finding["seq"], finding["leaf"]) == ("altered", 3, 2)


def test_checkpoints_that_were_kept_elsewhere_find_a_record_that_was_set_back(folder: Path, run: Typed) -> None:
    kept = folder / "elsewhere.jsonl"
    run("jobs", "run", "--once", "--checkpoints", str(kept))
    run("audit", "verify", "--against", str(kept))
    for statement in ("DELETE FROM leaves", "DELETE FROM checkpoints", "DELETE FROM events"):
        tamper(folder, statement)
    run("audit", "verify")
    said = run("audit", "verify", "--against", str(kept), code=1)
    assert "the record is older than what was published: a checkpoint covers 4 rows, and only 0 are sealed" in said
    assert "there is no file" in run("audit", "verify", "--against", str(folder / "nothing"), code=2)


def test_a_proof_is_checked_without_a_store(folder: Path, run: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    run("jobs", "run", "--once")
    assert "there is no sealed row" in run("audit", "prove", "request.decided:dec_nothing", code=1)
    row = run.data("audit", "tail", "-n", "1")[0]["id"]
    proof = folder / "proof.json"
    proof.write_text(run.outputs("audit", "prove", row)[0])
    key = json.loads(proof.read_text())["checkpoint"]["public_key"]
    monkeypatch.setenv("POLICYGUARD_STORE", "sqlite:////nowhere/at.all")
    shown = run("audit", "verify", "--proof", str(proof), "--public-key", key)
    assert shown.startswith("holds: row 4 `request.decided:dec_")
    assert "the key is the proof's own" in run("audit", "verify", "--proof", str(proof))
    proof.write_text(proof.read_text().replace('"outcome": "deny"', '"outcome": "allow"'))
    assert run.data("audit", "verify", "--proof", str(proof), code=1)["holds"] is False
    proof.write_text("no json")
    assert "is no proof: it is no JSON" in run("audit", "verify", "--proof", str(proof), code=1)
    for malformed in ('{"kind": "policyguard proof 1"}', "[]", "7", '{"kind": "policyguard proof 1", "row": 1}', "{}"):
        proof.write_text(malformed)
        assert "no proof of policyguard" in run("audit", "verify", "--proof", str(proof), code=1)


def test_show_finds_rows_by_any_id_and_says_whether_they_are_sealed(folder: Path, run: Typed) -> None:
    assert "sealed                       not yet" in run("audit", "show", "1")
    run("jobs", "run", "--once")
    (row,) = run.data("audit", "show", "1")
    assert (row["seq"], row["leaf"]) == (1, 0)
    assert run.data("audit", "show", row["id"]) == [row]
    assert row in run.data("audit", "show", row["decision_id"])
    run("audit", "show", "99", code=1)


def test_an_export_goes_on_from_its_cursor(folder: Path, run: Typed) -> None:
    file = folder / "out.jsonl"
    assert "archive: 4 rows" in run("audit", "export", "--to", str(file), "--name", "archive")
    assert "archive: 0 rows" in run("audit", "export", "--name", "archive")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["seq"] for line in lines if "seq" in line] == [1, 2, 3, 4]
    assert "a duel" not in file.read_text()
    assert run.outputs("audit", "export", "--to", "-", "--name", "other")[0] == file.read_text()
    listed = run.data("audit", "export", "--list")
    assert [(c["name"], c["leaf"], c["waiting"]) for c in listed] == [("archive", 4, 0), ("other", 4, 0)]
    assert "archive" in run("audit", "export", "--list")
    run("audit", "export", "--name", "archive", "--forget")
    run("audit", "export", "--name", "archive", "--forget", code=1)


def test_an_export_that_cannot_work_is_said(folder: Path, run: Typed) -> None:
    assert "which cursor is missing" in run("audit", "export", code=2)
    assert "where to is missing" in run("audit", "export", "--name", "new", code=2)
    assert "https://" in run("audit", "export", "--name", "n", "--to", "http://example.com", code=2)
    assert "cannot be left" in run("audit", "export", "--name", "n", "--to", "-", "--background", code=2)
    assert "cannot be written" in run("audit", "export", "--name", "n", "--to", str(folder), code=1)
    assert "goes to" in run("audit", "export", "--name", "n", "--to", str(folder / "other"), code=2)


def test_jobs_go_on_with_what_was_left_to_the_background(folder: Path, run: Typed) -> None:
    file = folder / "out.jsonl"
    run("audit", "export", "--to", str(file), "--name", "archive", "--background")
    tamper(folder, "UPDATE export_cursors SET leaf = 0")  # as if nothing had arrived
    (line,) = run.outputs("jobs", "run", "--once", "--format", "json")[0].splitlines()
    told = json.loads(line)
    assert (told["job"], told["message"], told["failed"]) == ("export archive", "4 rows", False)
    file.unlink()
    file.mkdir()
    tamper(folder, "UPDATE export_cursors SET leaf = 0")
    assert "export archive: failed, the file cannot be written" in run("jobs", "run", "--once", code=1)


def test_jobs_do_not_start_with_a_secret_that_cannot_sign(
    folder: Path, run: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICYGUARD_WEBHOOK_SECRET", "whsec_")
    assert "24 to 64 random bytes" in run("jobs", "run", "--once", code=2)
    monkeypatch.setenv("POLICYGUARD_WEBHOOK_SECRET", "whsec_" + "A" * 32)
    run("audit", "export", "--to", "http://127.0.0.1:1/hook", "--name", "siem", "--background", code=1)
    monkeypatch.setenv("POLICYGUARD_WEBHOOK_SECRET", "")
    assert "is not set" in run("jobs", "run", "--once", code=2)


def test_erasing_needs_a_name_and_a_reason_and_the_record_still_verifies(folder: Path, run: Typed) -> None:
    run("audit", "erase", "--subject", "u1", code=2)
    run("jobs", "run", "--once")
    who = ("--by", "dpo@example.com", "--why", "asked for it")
    assert run.data("audit", "erase", "--subject", "u1", *who) == {
        "rows": 1,
        "keys": 1,
        "scrubbed": True,
        "known": True,
    }
    assert "erased 0 private rows and 0 keys" in run("audit", "erase", "--subject", "u1", *who)
    (review,) = run.data("review", "list")
    assert "a duel" not in run("review", "show", review["review_id"])
    run("jobs", "run", "--once")
    assert run.data("audit", "verify")["clean"] is True
    assert [row["type"] for row in run.data("audit", "tail", "--type", "audit.erased")] == ["audit.erased"] * 2


def test_erasing_nobody_says_so_and_ends_with_1(folder: Path, run: Typed) -> None:
    who = ("--by", "dpo@example.com", "--why", "asked for it")
    out, err = run.outputs("audit", "erase", "--subject", "u\u200b1", *who, code=1)
    assert (out, "nobody of the name `u\\u200b1` has asked for anything here" in err) == ("", True)
    assert run.data("audit", "erase", "--subject", "u2", *who, code=1)["known"] is False
    run("audit", "erase", "--subject", " ", *who, code=2)


def test_a_new_key_wraps_what_was_there_and_signs_what_comes(folder: Path, run: Typed) -> None:
    run("jobs", "run", "--once")
    before = run.data("audit", "verify")["newest"]["public_key"]
    assert run.data("audit", "rotate", "--by", "ops", "--why", "yearly") == {"rewrapped": 1}
    (review,) = run.data("review", "list")
    assert "a duel" in run("review", "show", review["review_id"])
    run("jobs", "run", "--once")
    report = run.data("audit", "verify")
    assert (report["clean"], report["newest"]["public_key"] == before) == (True, False)


def test_tail_follows_until_it_is_told_to_stop(folder: Path, run: Typed) -> None:
    command = [sys.executable, "-m", "policyguard", "audit", "tail", "--follow", "-n", "1", "--format", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert json.loads(process.stdout.readline())["seq"] == 4
        run("pause", "all", "--why", "leak")
        assert json.loads(process.stdout.readline())["type"] == "admin.paused"
        process.send_signal(signal.SIGINT)
        assert process.wait(HANGS_S) == 0


def test_jobs_run_until_they_are_told_to_stop(folder: Path, run: Typed) -> None:
    process = subprocess.Popen([sys.executable, "-m", "policyguard", "jobs", "run"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().endswith("seal: 4 rows\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS_S) == 0


def test_a_score_beyond_two_thresholds_is_one_reason(tmp_path: Path, run: Typed) -> None:
    surface = SURFACE + "review: {reviewers: [group:trust]}\nmoderation: {review_at: {violence: 0.3}}\n"
    policies = write_policies(tmp_path / "policies", avatars=surface)
    url = f"sqlite:///{tmp_path / 'record.sqlite3'}"
    with Guard.open(policies, store=url, moderator=ScriptedModerator({"violence": 0.9})) as guard:
        guard.admit(request(prompt="a duel"), caller(), surface="avatars")
        summary = summarise(guard.store, 1, None, seconds=0, record="")
    assert summary.by_reason == {"moderation.violence": 1}
    shown = run("audit", "tail", "--store", url)
    assert shown.count("moderation.violence") == 1
