"""The README is the contract: what it lists is what there is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import yaml
from support import ORG, policies

from policyguard.policy.diagnostics import CODES
from policyguard.policy.document import Surface
from policyguard.settings import SETTINGS
from policyguard.telemetry.names import MEASURED, READ
from policyguard.testing.codes import CODES as TEST_CODES
from policyguard.testing.document import Given, NamedCase, SuiteDocument
from policyguard.testing.run import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


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


def test_every_verb_is_listed() -> None:
    from policyguard.cli import app

    verbs = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    groups = [str(group.name) for group in app.registered_groups]
    assert all(f"policyguard {verb}" in README for verb in verbs + groups)


def test_every_key_of_a_surface_is_listed() -> None:
    listed = re.search(r"\| key of a surface \|.*?\n\n", README, flags=re.S)
    assert listed is not None
    assert set(Surface.model_fields) - {"version"} <= set(re.findall(r"`(\w+)`", listed[0]))


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
        if not any(part.startswith(".") or part == "node_modules" for part in p.relative_to(ROOT).parts[:-1])
    ]
    texts = {p: p.read_text(errors="replace") for p in own if p != Path(__file__)}
    assert [p for p, text in texts.items() if re.search(r"--(extra-)?index-url|(?<![\w.])/(work|home)/", text)] == []
