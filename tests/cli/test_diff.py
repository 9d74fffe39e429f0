"""`policyguard diff` as it is typed: folders and revisions, every form, exit codes, witnesses that can be pasted."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import ORG, SURFACE, write_policies
from typer.testing import CliRunner, Result

from policyguard.cli import app
from policyguard.cli.diff_forms import _code, _markdown
from policyguard.errors import ConfigError

NOW = "2026-11-24T12:00:00Z"
RULE = "rules:\n  - {id: many, when: request.n > 1, then: deny}\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`old`, and `new` where n is looser, a threshold is tighter and a message is another."""
    rules = RULE.replace("then: deny", "then: flag")
    tighter = "moderation: {deny_at: {hate: 0.4}}\n"
    write_policies(tmp_path / "old", avatars=SURFACE + rules)
    changed = SURFACE.replace("max: 2", "max: 3") + rules.replace("flag", "flag, message: So many.") + tighter
    write_policies(tmp_path / "new", avatars=changed)
    write_policies(tmp_path / "tighter", avatars=SURFACE + rules + tighter)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_text_shows_direction_outcome_reasons_places_and_a_request(folders: Path) -> None:
    result = run("diff", "old", "new", "--now", NOW)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "old/ -> new/",
        "",
        "avatars: loosened, tightened",
        "  loosened   deny -> flag",
        "             old: deny by request.n (old/avatars.yaml:12)",
        "             new: flag by many (new/avatars.yaml:14)",
        "             policyguard explain avatars --model gpt-image-2-2026-04-21 --size 1024x1024 --quality low --n 3"
        " --caller user=somebody",
        "  tightened  allow -> deny",
        "             old: allow, see old/org.yaml:14",
        "             new: deny by moderation.hate (new/avatars.yaml:15)",
        "             policyguard explain avatars --model gpt-image-2-2026-04-21 --size 1024x1024 --quality low --n 1"
        " --caller user=somebody --score hate=0.4",
        "  9 cases tried, exact: no other decision differs",
        "",
        "1 surface: 1 loosened, 1 tightened, 0 without a change",
    ]


def test_nothing_changed_is_one_line(folders: Path) -> None:
    result = run("diff", "old", "old")
    assert result.stdout.splitlines()[-1] == "1 surface: nothing loosened or tightened, 1 without a change"


@pytest.mark.parametrize(
    ("new", "fail_on", "code"),
    [
        ("new", "loosen", 1),
        ("new", "tighten", 1),
        ("tighter", "loosen", 0),
        ("tighter", "tighten", 1),
        ("tighter", "any", 1),
        ("old", "any", 0),
    ],
)
def test_the_exit_code_is_one_where_asked_for(folders: Path, new: str, fail_on: str, code: int) -> None:
    assert run("diff", "old", new, "--fail-on", fail_on).exit_code == code


def test_json_has_all_of_it(folders: Path) -> None:
    data = json.loads(run("diff", "old", "new", "--now", NOW, "--format", "json").stdout)
    assert (data["old"], data["new"], data["now"]) == ("old/", "new/", "2026-11-24T12:00:00+00:00")
    (surface,) = data["surfaces"]
    assert (surface["surface"], surface["status"], surface["exact"]) == ("avatars", "changed", True)
    first = surface["findings"][0]
    assert (first["direction"], first["old"], first["new"], first["cases"]) == ("loosened", "deny", "flag", 1)
    assert first["old_reasons"] == [{"id": "request.n", "place": "old/avatars.yaml:12"}]
    assert first["witness"]["request"]["n"] == 3
    assert first["witness"]["command"].startswith("policyguard explain avatars ")


def explained(command: str, folder: str) -> dict[str, Any]:
    words = shlex.split(command.partition("  # ")[0])
    result = run(*words[1:], "--policies", folder, "--format", "json")
    assert result.exit_code == 0, result.stdout + result.stderr
    data: dict[str, Any] = json.loads(result.stdout)
    return data


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("request.n > 1", "request.n > 2"),
        ("scores.hate >= 0.4", "scores.hate > 0.4"),
        ('request.prompt.contains("a \\"fox\\"")', "false"),
        ("size(request.prompt) > 300", "false"),
        ('request.background == "transparent" && request.output_format == "webp"', "false"),
        ("request.input_images > 2 && request.has_mask", "false"),
        ("request.partial_images == 0 && scores.hate > 0.1", "scores.hate > 0.1"),
        ('has(caller.feature) && caller.feature == "beta"', "has(caller.feature)"),
        ('now.getHours("Asia/Tokyo") < 5', "false"),
        ("scores.hate > 0.3 || request.n == 2", "request.n == 2"),
    ],
)
def test_every_witness_can_be_pasted(folders: Path, old: str, new: str) -> None:
    for name, when in (("a", old), ("b", new)):
        rule = f"rules:\n  - id: r\n    when: >-\n      {when}\n    then: deny\n"
        write_policies(folders / name, avatars=SURFACE + "  partial_images: {max: 1}\n" + rule)
    found = json.loads(run("diff", "a", "b", "--now", "2026-11-24T03:00:00Z", "--format", "json").stdout)
    findings = found["surfaces"][0]["findings"]
    assert findings
    for finding in findings:
        command = finding["witness"]["command"]
        command = command if "--now" in command else f"{command} --now 2026-11-24T03:00:00Z"
        seen = [explained(command, name)["outcome"] for name in ("a", "b")]
        assert seen == [finding["old"], finding["new"]]


def test_github_annotations_stand_at_the_new_line_and_are_escaped(folders: Path) -> None:
    lines = run("diff", "old", "new", "--format", "github").stdout.splitlines()
    assert [line.split("::")[1] for line in lines] == [
        "warning file=new/avatars.yaml,line=12,title=avatars%3A loosened",
        "notice file=new/avatars.yaml,line=15,title=avatars%3A tightened",
    ]
    assert all("%0Apolicyguard explain avatars" in line for line in lines)


def test_markdown_has_a_section_for_each_changed_surface(folders: Path) -> None:
    shown = run("diff", "old", "new", "--format", "markdown").stdout
    assert "### Policies: `old/` -> `new/`" in shown
    assert "**avatars**: loosened, tightened" in shown
    assert len(re.findall(r"^  ```sh$", shown, re.MULTILINE)) == 2


def test_a_side_that_does_not_load_ends_with_two_and_its_problems(folders: Path) -> None:
    write_policies(folders / "wrong", avatars=SURFACE.replace("quality:", "qualty:"))
    result = run("diff", "old", "wrong")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: `wrong/` does not load, so there is nothing to compare" in result.stderr
    assert "wrong/avatars.yaml:11:3: error PG201" in result.stderr


def test_the_organisation_and_added_surfaces_are_shown(folders: Path) -> None:
    more = SURFACE.replace("surface: avatars", "surface: badges").replace("/v1/", "/badges/v1/")
    write_policies(folders / "more", org=ORG.replace("grace@", "hopper@"), avatars=SURFACE + RULE, badges=more)
    shown = run("diff", "old", "more").stdout
    assert "org.yaml\n  neutral    the group `trust`: +hopper@example.com, -grace@example.com\n" in shown
    assert "badges: loosened\n  loosened   the surface `badges` is new: its requests were refused\n" in shown


# ---- revisions --------------------------------------------------------------------------------------------


def git(*arguments: str) -> None:
    names = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *names, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    for name, n in (("one", 1), ("two", 2)):
        write_policies(tmp_path / "policies", avatars=SURFACE.replace("max: 2", f"max: {n}"))
        git("add", ".")
        git("commit", "-qm", name)
        git("tag", name)
    return tmp_path


def test_a_revision_is_compared_with_the_folder_as_it_is_now(repository: Path) -> None:
    assert "1 without a change" in run("diff", "main").stdout
    write_policies(repository / "policies", avatars=SURFACE.replace("max: 2", "max: 3"))
    shown = run("diff", "main").stdout
    assert "main:policies/ -> policies/" in shown
    assert "old: deny by request.n (main:policies/avatars.yaml:12)" in shown
    assert "new: allow, see policies/avatars.yaml:12" in shown


def test_two_revisions_are_compared_and_annotated_where_the_files_are(repository: Path) -> None:
    result = run("diff", "one", "two", "--policies", "policies", "--fail-on", "loosen", "--format", "github")
    assert result.exit_code == 1
    assert result.stdout.startswith("::warning file=policies/avatars.yaml,line=12,title=avatars%3A loosened::deny")


def test_hostile_revisions_are_a_usage_error(repository: Path) -> None:
    with pytest.raises(ConfigError, match="is no git revision"):
        run("diff", "--", "--output=x")
    assert not (repository / "x").exists()


def test_a_revision_that_does_not_load_names_its_files_as_in_the_repository(repository: Path) -> None:
    write_policies(repository / "policies", avatars=SURFACE.replace("quality:", "qualty:"))
    git("commit", "-qam", "wrong")
    result = run("diff", "one", "HEAD")
    assert result.exit_code == 2
    assert "HEAD:policies/avatars.yaml:11:3: error PG201" in result.stderr


def test_a_time_without_its_zone_is_a_usage_error(folders: Path) -> None:
    result = run("diff", "old", "new", "--now", "2026-11-24")
    assert result.exit_code == 2
    assert "hint: write it like `2026-11-24T12:00:00Z`, with its zone" in result.stderr


def test_words_of_policies_are_no_markdown_and_no_mention() -> None:
    assert _markdown("`day` -> <img src=x> [go](http://x) @team a@b `<b>`") == (
        "`day` -> \\<img src=x> \\[go\\](http://x) @<!-- -->team a@b `<b>`"
    )
    assert _markdown("a ` <b>") == "``a ` <b>``"
    assert _code("``x`") == "``` ``x` ```"
