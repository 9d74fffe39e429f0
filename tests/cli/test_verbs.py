"""Each verb as it is typed: output for people, data for programs, exit codes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import NOW, SURFACE, caller, request, write_policies

from policyguard.cli import app
from policyguard.cli.init import start_command
from policyguard.cli.output import Lines, print_rows
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Outcome, Usage

VERBS = (
    *"demo init check test explain diff price spend reconcile pause unpause".split(),
    *"serve sandbox schema doctor review audit keys jobs db".split(),
)
ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path | None = None, code: int = 0, **environment: str) -> str:
    command = [sys.executable, "-m", "policyguard", *arguments]
    env = {**os.environ, "COLUMNS": "120", **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def data(*arguments: str, **more: Any) -> Any:
    return json.loads(run(*arguments, "--format", "json", **more))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with one settled, one denied and one held request."""
    folder = tmp_path_factory.mktemp("record")
    surface = SURFACE + "review: {reviewers: [group:trust]}\nmoderation: {review_at: {violence: 0.3}}\n"
    policies = write_policies(folder / "policies", avatars=surface + "budgets: [{id: day, limit: $1 / day}]\n")
    url, moderator = f"sqlite:///{folder / 'record.sqlite3'}", ScriptedModerator()
    with Guard.open(policies, store=url, moderator=moderator) as guard:
        answer: Any = guard.admit(request(), caller(), surface="avatars")
        guard.sent(answer.ticket)
        guard.settle(answer.ticket, Outcome(status=200, usage=Usage(output_image_tokens=196)))
        guard.admit(request(n=9), caller(), surface="avatars")
        moderator.scores = {"violence": 0.4}
        guard.admit(request(prompt="a duel"), caller(), surface="avatars")
    return url


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_examples(verb: str) -> None:
    shown = run(verb, "--help")
    assert "Usage: " in shown
    if verb not in ("review", "audit", "keys", "jobs", "db"):
        assert "Examples:" in shown
        assert f"policyguard {verb}" in shown or f"{verb} " in shown


@pytest.mark.parametrize("verb", ["check", "explain", "price", "schema", "test"])
def test_the_examples_of_the_help_work_on_the_shipped_policies(verb: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    (tmp_path / "schemas").mkdir()
    (told,) = (c.callback.__doc__ or "" for c in app.registered_commands if c.callback and c.callback.__name__ == verb)
    lines = [line.strip().partition(" > ")[0] for line in told.splitlines()]
    examples = [line for line in lines if line.startswith("policyguard ") and "--watch" not in line]
    assert examples
    for example in examples:
        run(*shlex.split(example)[1:], cwd=tmp_path)


def test_help_lists_every_verb_and_a_misspelt_one_is_a_usage_error() -> None:
    shown = run("--help")
    assert all(verb in shown for verb in VERBS)
    assert "chekc" in run("chekc", code=2)
    assert run("--version").startswith("policyguard 0.")


def test_check_says_what_loads_and_ends_with_1_on_a_problem(tmp_path: Path) -> None:
    assert "no problems in 4 surfaces" in run("check", str(ROOT / "policies"))
    folder = write_policies(tmp_path, avatars=SURFACE + "moderaton: {}\n")
    shown = run("check", str(folder), code=1)
    assert "error PG201: there is no key `moderaton` here" in shown
    assert "hint: did you mean `moderation`?" in shown
    (problem,) = json.loads(run("check", str(folder), "--format", "json", code=1))
    assert problem.keys() == {"code", "severity", "file", "line", "column", "path", "message", "hint"}


def test_a_file_in_place_of_the_folder_is_a_usage_error_that_says_how(tmp_path: Path) -> None:
    write_policies(tmp_path / "policies", avatars=SURFACE)
    for verb, file in (("check", "policies/avatars.yaml"), ("test", "policies/tests/avatars.yaml")):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
        assert f"`policyguard {verb} policies`" in run(verb, file, cwd=tmp_path, code=2)


def test_a_schema_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    assert "cannot be written: no such file or directory" in run(
        "schema", "-o", str(tmp_path / "no" / "x.json"), code=2
    )


def test_explain_shows_every_rule_with_its_place() -> None:
    policies = str(ROOT / "policies")
    shown = run("explain", "avatars", "--quality", "high", "--caller", "user=u1", "--policies", policies)
    assert shown.startswith("avatars: deny")
    assert all(
        word in shown for word in ("pro-quality", "avatars.yaml:", "21 moderation thresholds pass", "budget.user-day")
    )
    answer = data("explain", "id-photos", "--caller", "user=u1", "--policies", policies)
    assert answer["outcome"] == "review"
    assert (
        data("explain", "avatars", "--unavailable", "--caller", "user=u1", "--policies", policies)["outcome"] == "deny"
    )
    auto = data("explain", "avatars", "--size", "auto", "--caller", "user=u1", "--policies", policies)
    assert (auto["outcome"], auto["adjusted"]) == ("allow", ["size=auto->1024x1024"])
    assert "there is no surface `avatar`" in run("explain", "avatar", "--policies", policies, code=2)
    run("explain", "avatars", "--score", "sexul=1", "--policies", policies, code=2)
    given = ("explain", "avatars", "--caller", "user=u1", "--policies", policies)
    made = data(*given, "--output-score", "violence=0.6")
    assert (made["outcome"], {reason["id"] for reason in made["reasons"]}) == ("deny", {"output.violence"})
    assert "is no moderation category" in run(*given, "--output-score", "hate=0.6", code=2)


def test_explain_shows_what_a_surface_decides_while_moderation_is_down(tmp_path: Path) -> None:
    rules = "rules: [{id: either, when: 'scores.hate > 0.2 || request.quality == \"high\"', then: deny}]\n"
    folder = write_policies(tmp_path / "policies", avatars=SURFACE + rules)
    options = ("--policies", str(folder))
    shown = run("explain", "avatars", "--stages", *options)
    assert shown.startswith("avatars: while moderation is down, every request is denied (")
    assert "moderation (13 categories)" in shown
    example = next(line for line in shown.splitlines() if "--unavailable" in line)
    rows = data("explain", "avatars", "--stages", *options)["checks"]
    (either,) = [row for row in rows if row["what"] == "either"]
    assert (either["moderation_down"], either["example"]) == ("fires, or cannot be decided: deny", example.strip())
    lines = data(*shlex.split(example)[1:], *options)["lines"]
    assert [line["result"] for line in lines if line["what"] == "either"] == ["fires"]


def test_explain_shows_what_is_asked_and_takes_answers(tmp_path: Path) -> None:
    rules = (
        "questions: {logo: {ask: Is there a logo?}}\n"
        "rules: [{id: logos, when: 'caller.tier == \"free\" && answers.logo > 0.5', then: deny}]\n"
    )
    given = ("--caller", "user=u1", "--policies", str(write_policies(tmp_path / "policies", avatars=SURFACE + rules)))

    def line(*more: str) -> tuple[str, list[str]]:
        answer = data("explain", "avatars", *given, *more)
        return answer["outcome"], [row["result"] for row in answer["lines"] if row["what"] == "answers.logo"]

    assert line() == ("allow", ["is answered 0.000"])
    assert line("--answer", "logo=0.6") == ("deny", ["is answered 0.600"])
    assert line("--answer", "logo=unavailable") == ("deny", ["unavailable"])
    assert line("--caller", "tier=pro", "--answer", "logo=unavailable") == ("allow", ["is not asked"])
    assert "is no question that a rule reads" in run("explain", "avatars", *given, "--answer", "lgo=1", code=2)


def test_explain_says_why_a_caller_is_refused_and_tells_of_a_caller_value_that_is_not_declared() -> None:
    policies = str(ROOT / "policies")
    given = ("explain", "avatars", "--caller", "user=u1", "--policies", policies)
    answer = data(*given, "--caller", "tier=gold")
    assert next((line["what"], line["result"]) for line in answer["lines"]) == ("caller.tier", "fires")
    assert "did you mean `tier`?" in run(*given, "--caller", "teir=free")


def test_explain_follows_the_path_of_a_request() -> None:
    given = ("explain", "avatars", "--unavailable", "--caller", "user=u1", "--policies", str(ROOT / "policies"))
    stages = [line["stage"] for line in data(*given)["lines"]]
    assert stages == sorted(stages, key=["screen", "judge", "reserve", "inspect"].index)


def test_nothing_is_cut_on_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out = Lines(file=sys.stdout, width=40, force_terminal=True, highlight=False, color_system=None)
    print_rows(out, [(("screen", "pro-quality"), "policies/avatars.yaml:41: a condition of some length")])
    assert capsys.readouterr().out.splitlines() == [
        "screen  pro-quality",
        "        policies/avatars.yaml:41: a",
        "        condition of some length",
    ]


def test_spend_and_budgets_read_the_record(record: str) -> None:
    (row,) = data("spend", "--store", record)
    assert (row["by"], row["requests"], row["actual_micros"], row["refused"]) == ({"surface": "avatars"}, 1, 5880, 1)
    assert "avatars" in run("spend", "--by", "surface", "--by", "tenant", "--store", record)
    (window,) = data("spend", "--budgets", "--store", record)
    assert (window["budget_id"], window["spent"]) == ("day", 5880)
    assert "opens again" in run("spend", "--budgets", "--store", record)
    run("spend", "--by", "shoe", "--store", record, code=2)


def test_audit_shows_the_newest_rows_and_one_decision_whole(record: str) -> None:
    rows = data("audit", "tail", "--store", record)
    assert [row["outcome"] for row in rows if row["type"] == "request.decided"] == ["allow", "deny", "hold"]
    assert "leg.settled" in run("audit", "tail", "--store", record)
    decision = rows[0]["decision_id"]
    assert [row["type"] for row in data("audit", "show", decision, "--store", record)] == [
        "request.decided",
        "leg.settled",
    ]
    assert "estimated_micros" in run("audit", "show", decision, "--store", record)
    run("audit", "show", "dec_nothing", "--store", record, code=1)


def test_a_review_is_shown_with_its_prompt_and_only_reviewers_decide(record: str) -> None:
    (item,) = data("review", "list", "--store", record)
    review = item["review_id"]
    assert "a duel" in run("review", "show", review, "--by", "ada@example.com", "--store", record)
    assert "moderation.violence" in run("review", "list", "--store", record)
    run("review", "approve", review, "--by", "mallory@example.com", "--store", record, code=1)
    assert "rejected" in run("review", "reject", review, "--by", "ada@example.com", "--reason", "no", "--store", record)
    run("review", "approve", review, "--by", "grace@example.com", "--store", record, code=1)
    run("review", "show", "rev_nothing", "--store", record, code=1)


def test_pauses_are_set_and_lifted(record: str) -> None:
    assert "paused, in force" in run("pause", "tenant:acme", "--why", "unpaid", "--store", record)
    assert data("unpause", "tenant:acme", "--why", "paid", "--store", record)["result"] == "unpaused"
    run("unpause", "tenant:acme", "--why", "paid", "--store", record, code=1)
    assert data("pause", "all", "--why", "leak", "--store", record)["scope"] == "all"
    assert data("unpause", "all", "--why", "fixed", "--store", record)["result"] == "unpaused"
    run("pause", "planet:mars", "--why", "x", "--store", record, code=2)


def test_a_record_that_is_not_there_is_a_clear_error_and_nothing_is_made(tmp_path: Path) -> None:
    shown = run("spend", "--store", f"sqlite:///{tmp_path / 'no.sqlite3'}", code=2)
    assert "there is no record at" in shown
    assert list(tmp_path.iterdir()) == []


def test_db_brings_a_database_to_this_versions_schema(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'new.sqlite3'}"
    run("db", "status", "--store", store, code=1)
    assert data("db", "migrate", "--store", store)["up_to_date"] is True
    assert "up to date" in run("db", "status", "--store", store)


def test_init_writes_a_folder_that_loads_and_overwrites_nothing(tmp_path: Path) -> None:
    assert "app.py" in data("init", cwd=tmp_path)["written"]
    assert 'Guard.open("policies")' in (tmp_path / "app.py").read_text()
    assert "no problems" in run("check", cwd=tmp_path)
    assert "all pass" in run("test", "--require-tests", "--min-coverage", "100", cwd=tmp_path)
    compile((tmp_path / "app.py").read_text(), "app.py", "exec")
    assert "there already" in run("init", cwd=tmp_path, code=2)


@pytest.mark.parametrize(
    ("app", "start"),
    [
        ("app.py", "uvicorn app:app --no-proxy-headers"),
        ("service.py", "uvicorn service:app --no-proxy-headers"),
        ("src/web/service.py", "uvicorn service:app --app-dir src/web --no-proxy-headers"),
    ],
)
def test_init_says_how_its_app_is_started_wherever_it_stands(app: str, start: str) -> None:
    assert start_command(Path(app)) == start


def test_init_tells_editors_where_the_schemas_are(tmp_path: Path) -> None:
    run("init", cwd=tmp_path)
    files = sorted((tmp_path / "policies").rglob("*.yaml"))
    named = {file: file.read_text().split("\n")[0].removeprefix("# yaml-language-server: $schema=") for file in files}
    assert {schema for file, schema in named.items() if file.name == "org.yaml"} == {".org.schema.json"}
    assert {schema for file, schema in named.items() if file.name != "org.yaml"} == {".schema.json"}
    assert all((file.parent / schema).is_file() for file, schema in named.items())
    kinds = [json.loads((tmp_path / "policies" / place / ".schema.json").read_text()) for place in (".", "tests")]
    assert ["matrix" in kind["properties"] for kind in kinds] == [False, True]


def test_schema_is_printed_or_written_beside_the_policies(tmp_path: Path) -> None:
    schema = json.loads(run("schema"))
    assert schema["properties"]["request"]
    run("schema", "org", "-o", str(tmp_path / "org.json"))
    assert json.loads((tmp_path / "org.json").read_text())["properties"]["trusted_proxies"]["description"]
    assert json.loads(run("schema", "tests"))["properties"]["matrix"]
    assert run("schema", "--write", ".", cwd=tmp_path) == (
        "wrote .schema.json\nwrote .org.schema.json\nwrote .prices.schema.json\n"
    )
    assert json.loads((tmp_path / ".schema.json").read_text()) == schema
    assert "two ways" in run("schema", "--write", ".", "-o", "x.json", cwd=tmp_path, code=2)
    assert "there is no folder `nowhere`" in run("schema", "--write", "nowhere", cwd=tmp_path, code=2)


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    found = {
        row["what"]: row["mark"]
        for row in json.loads(run("doctor", "--offline", "--format", "json", cwd=tmp_path, code=1, OPENAI_API_KEY=""))
    }
    assert (found["policies"], found["python"], found["prices"]) == ("problem", "ok", "ok")
    run("init", cwd=tmp_path)
    assert "4 surfaces" in run("doctor", "--offline", cwd=tmp_path, OPENAI_API_KEY="sk-x")


def test_the_sandbox_listens_on_this_machine_only_unless_told() -> None:
    assert "--allow-remote" in run("sandbox", "--host", "0.0.0.0", code=2)


def test_a_fault_of_ours_ends_with_3(tmp_path: Path) -> None:
    (tmp_path / "r.sqlite3").write_text("this is no database, and long enough to be looked at as one")
    (tmp_path / "r.sqlite3.key").write_text("nonsense")
    (tmp_path / "r.sqlite3.key").chmod(0o600)
    assert "error: " in run("spend", "--store", f"sqlite:///{tmp_path / 'r.sqlite3'}", code=2)
    assert NOW.tzinfo is not None


def test_help_and_check_touch_neither_the_store_nor_the_sdk() -> None:
    code = (
        "import sys; sys.argv = ['policyguard', 'check', 'policies']\n"
        "from policyguard.cli import app\n"
        "try: app()\n"
        "except SystemExit: print([m for m in ('openai', 'sqlalchemy', 'starlette', 'alembic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip().endswith("[]")
