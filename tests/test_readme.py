"""The README is the contract: what it lists is what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from patience import HANGS_S
from pydantic import BaseModel
from support import ORG, policies
from typer.main import get_command

from policyguard.cli import app
from policyguard.policy import document, prices
from policyguard.policy.diagnostics import CODES
from policyguard.policy.document import Surface
from policyguard.settings import SETTINGS
from policyguard.telemetry.names import MEASURED, READ
from policyguard.testing.codes import CODES as TEST_CODES
from policyguard.testing.document import Given, NamedCase, SuiteDocument
from policyguard.testing.run import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def leaves(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb by its words, groups taken apart."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, *words, name) if hasattr(inner, "commands") else [((*words, name), inner)]


VERBS = dict(leaves(get_command(app)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_setting_is_listed_with_its_default_and_meaning() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`(.*?)`)? ?\| (.*?) \|$", README, flags=re.M)
    assert rows == [(s.environment, s.default or "", s.help) for s in SETTINGS.values()]


def test_every_code_is_listed_with_its_meaning() -> None:
    listed = dict(re.findall(r"^\| `(PG\d+)` \| (.*) \|$", README, flags=re.M))
    assert listed == {**CODES, **TEST_CODES}


def test_every_metric_is_listed() -> None:
    section = re.search(r"## Telemetry.*?\n## ", README, flags=re.S)
    assert section is not None
    assert [metric.name for metric in (*MEASURED, *READ) if f"`{metric.name}`" not in section[0]] == []


def test_every_verb_is_listed_and_no_other() -> None:
    listed, group = set(), ""
    for cell in re.findall(r"^\| (`policyguard .*?) \|", README, flags=re.M):
        for name in re.findall(r"`(.*?)`", cell):
            whole = name.removeprefix("policyguard ")
            group = whole.partition(" ")[0] if whole != name else group
            listed.add(tuple(whole.split()) if whole != name else (group, name))
    assert listed == set(VERBS)


def test_every_verb_has_help_with_examples_and_a_format_but_for_those_that_are_named() -> None:
    named = re.search(r"`--format json` but for (.*?),", README)
    assert named is not None
    said = {tuple(name.split()) for name in re.findall(r"`([a-z ]+)`", named[1])}
    assert {words for words, verb in VERBS.items() if "Examples:" not in (verb.help or "")} == set()
    assert {words for words, verb in VERBS.items() if "format" not in {p.name for p in verb.params}} == said


def test_every_option_says_what_it_is() -> None:
    unsaid = [(*words, p.name) for words, verb in VERBS.items() for p in verb.params if not getattr(p, "help", None)]
    assert unsaid == []


def test_every_key_of_a_surface_is_listed() -> None:
    listed = re.search(r"\| key of a surface \|.*?\n\n", README, flags=re.S)
    assert listed is not None
    assert set(Surface.model_fields) - {"version"} <= set(re.findall(r"`(\w+)`", listed[0]))


@pytest.mark.parametrize(("title", "module"), [("The policies folder", document), ("Money", prices)])
def test_every_key_within_them_is_told(title: str, module: ModuleType) -> None:
    section = re.search(rf"## {title}\n.*?\n## ", README, flags=re.S)
    assert section is not None
    told = set(re.findall(r"\w+", " ".join(re.findall(r"```.*?```|`[^`]*`", section[0], flags=re.S))))
    models = [m for m in vars(module).values() if isinstance(m, type) and issubclass(m, BaseModel)]
    own = [model for model in models if model.__module__ == module.__name__]
    keys = {field.alias or name for model in own for name, field in model.model_fields.items()}
    assert keys - told == set()


def test_every_extra_is_described() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    described = re.search(r"Extras bring.*?\n\n", README, flags=re.S)
    assert described is not None
    assert set(extras) - set(re.findall(r"`(\w+)`", described[0])) == set()


def test_the_first_steps_lead_to_a_guarded_picture(tmp_path: Path) -> None:
    (steps,) = (b for b in re.findall(r"```sh\n(.*?)```", README, flags=re.S) if "policyguard sandbox &" in b)
    here, there = free_port(), free_port()
    steps = steps.replace("sandbox &", f"sandbox --port {there} &").replace("serve &", f"serve --port {here} &")
    steps = steps.replace(":8787/", f":{there}/").replace(":8080/", f":{here}/")
    installed = tmp_path / "policyguard"
    installed.write_text(f'#!/bin/sh\nexec {sys.executable} -m policyguard "$@"\n')
    installed.chmod(0o755)
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    script = f"trap 'kill $(jobs -p); wait' EXIT\nset -e\n{steps}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=own, capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "policies: no problems in 4 surfaces" in done.stdout
    assert "x-policyguard-adjusted: n=9->2" in done.stdout
    assert len(json.loads((tmp_path / "picture.json").read_text())["data"]) == 2
    assert re.search(r"request\.decided +avatars +public +allow +n=9->2", done.stdout)


def test_the_policy_on_the_first_screen_loads(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", README, flags=re.S)
    assert block is not None
    loaded = policies(tmp_path, org=ORG, avatars=block[1])
    assert [rule.id for rule in loaded.surfaces["avatars"].rules] == ["pro-quality"]
    assert yaml.safe_load(block[1])["surface"] == "avatars"


def test_the_suite_of_the_readme_passes_on_the_shipped_policies(tmp_path: Path) -> None:
    (block,) = (b for b in re.findall(r"```yaml\n(.*?)```", README, flags=re.S) if "\ntests:" in b)
    shutil.copytree(ROOT / "policies", tmp_path / "policies", ignore=shutil.ignore_patterns("tests"))
    (tmp_path / "policies" / "tests").mkdir()
    (tmp_path / "policies" / "tests" / "avatars.yaml").write_text(block)
    found = run(tmp_path / "policies")
    assert (len(found.results), found.passed) == (8, True)


def test_every_key_of_a_suite_is_told() -> None:
    section = re.search(r"## Test your policies.*?\n## ", README, flags=re.S)
    assert section is not None
    keys = {*SuiteDocument.model_fields, *Given.model_fields, *NamedCase.model_fields}
    assert {key for key in keys if f"{key}:" not in section[0]} == set()


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_nothing_names_a_machine_or_a_registry() -> None:
    files = [p for p in ROOT.rglob("*") if p.suffix in (".py", ".md", ".toml", ".yaml", ".txt", "") and p.is_file()]
    own = [
        p
        for p in files
        if p.name != ".git"
        and not any(part.startswith(".") or part == "node_modules" for part in p.relative_to(ROOT).parts[:-1])
    ]
    texts = {p: p.read_text(errors="replace") for p in own if p != Path(__file__)}
    assert [p for p, text in texts.items() if re.search(r"--(extra-)?index-url|(?<![\w.])/(work|home)/", text)] == []
