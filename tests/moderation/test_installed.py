"""Moderators of other distributions: found by their entry points, checked when policies load, and never believed."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from support import ORG, SURFACE, caller, request, write_policies

from policyguard.decision import Admitted, Refused
from policyguard.errors import ConfigError, PolicyError
from policyguard.guard.guard import Guard
from policyguard.moderation import Assesses, ScriptedModerator
from policyguard.policy import moderators
from policyguard.policy.load import check
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, InputImage, Verdict

ROOT = Path(__file__).parents[2]
WHOLE = Assesses(images=frozenset(IMAGE_CATEGORIES))
SHIELD = SURFACE + "moderation: {model: acme-shield-2}\n"
CANARY = "canary-4711"


class Foreign(ScriptedModerator):
    """One of another distribution; `says` is what it answers, or raises."""

    says: Any = None

    def moderate(self, step: Any) -> Any:
        if isinstance(self.says, Exception):
            raise self.says
        return super().moderate(step) if self.says is None else self.says(step)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Installs declarations by model; each stands in a module of its own."""
    found = dict(moderators.installed())
    monkeypatch.setattr(moderators, "installed", lambda: found)

    def install(model: str, declaration: Any, by: str = "acme-shield 1.0") -> None:
        module = f"acme_{len(found)}_{len(found.get(model, ()))}"
        if declaration is not None:
            monkeypatch.setitem(sys.modules, module, SimpleNamespace(made=declaration))  # type: ignore[misc]
        entry = EntryPoint(model, f"{module}:made", moderators.GROUP)
        name, version = by.split()
        found[model] = (*found.get(model, ()), entry._for(SimpleNamespace(name=name, version=version)))  # type: ignore[attr-defined]
        moderators.declared.cache_clear()

    yield install
    moderators.declared.cache_clear()


def declares(made: Any, assesses: Assesses = WHOLE) -> Any:
    def make() -> Any:
        return made

    make.assesses = assesses  # type: ignore[attr-defined]
    return make


def problems(tmp_path: Path, **surfaces: str) -> list[tuple[str, str, str]]:
    found = check(write_policies(tmp_path / "policies", **surfaces))
    return [(problem.code, problem.message, problem.hint) for problem in found if problem.severity == "error"]


def opened(tmp_path: Path, **surfaces: str) -> Guard:
    folder = write_policies(tmp_path / "policies", **surfaces)
    return Guard.open(folder, store=f"sqlite:///{tmp_path / 'record.sqlite3'}", watch=False)


def foreign(says: Any = None, model: str = "acme-shield-2") -> Foreign:
    made = Foreign(models=frozenset({model}))
    made.says = says
    return made


# ---- policies ---------------------------------------------------------------------------------------------


def test_an_unknown_model_does_not_load_and_the_nearest_one_is_shown(tmp_path: Path, installed: Any) -> None:
    installed("acme-shield-2", declares(foreign()))
    text = SURFACE + "moderation: {model: acme-shield-3}\n"
    message = "no installed moderator declares the model `acme-shield-3`"
    assert problems(tmp_path, avatars=text) == [("PG204", message, "did you mean `acme-shield-2`?")]


def test_a_threshold_is_for_a_category_that_the_model_assesses(tmp_path: Path, installed: Any) -> None:
    installed("acme-shield-2", declares(foreign(), Assesses(prompt=frozenset({"hate/threatening", "sexual"}))))
    text = (
        SURFACE
        + "moderation: {model: acme-shield-2, when_unavailable: review, deny_at: {hate: 0.2}}\n"
        + "review: {reviewers: [group:trust]}\n"
    )
    hint = "there is `hate/threatening`, `sexual`"
    assert problems(tmp_path, avatars=text) == [("PG206", "`acme-shield-2` does not assess `hate`", hint)]


def test_a_model_that_would_deny_every_request_does_not_load(tmp_path: Path, installed: Any) -> None:
    installed("acme-shield-2", declares(foreign(), Assesses(prompt=frozenset(CATEGORIES) - {"hate"})))
    [(code, message, _)] = problems(tmp_path, avatars=SHIELD)
    assert code == "PG208"
    assert message == "`acme-shield-2` does not assess `hate` in prompts, so every request would be denied"


def test_two_that_declare_one_model_are_an_error_and_both_are_named(tmp_path: Path, installed: Any) -> None:
    installed("acme-shield-2", declares(foreign()))
    installed("acme-shield-2", declares(foreign()), by="other 2.1")
    message = "`acme-shield-2` is declared by `acme-shield 1.0` and `other 2.1`"
    assert problems(tmp_path, avatars=SHIELD) == [("PG508", message, "uninstall all but one of them")]


def test_one_that_cannot_be_imported_is_an_error_only_where_a_policy_names_it(tmp_path: Path, installed: Any) -> None:
    installed("acme-shield-2", None)
    assert problems(tmp_path / "a", avatars=SURFACE) == []
    [(code, message, hint)] = problems(tmp_path / "b", avatars=SHIELD)
    assert (code, "distribution `acme-shield 1.0`" in message) == ("PG508", True)
    assert hint.startswith("`No module named")


def test_one_that_ends_the_process_while_it_is_imported_is_an_error(
    tmp_path: Path, installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_that_ends.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("acme-shield-2", "acme_that_ends:made", moderators.GROUP)
    installed("acme-shield-2", None)
    moderators.installed()["acme-shield-2"] = (entry._for(SimpleNamespace(name="acme-shield", version="1.0")),)  # type: ignore[attr-defined]
    [(code, message, _)] = problems(tmp_path / "b", avatars=SHIELD)
    assert (code, "cannot be imported" in message) == ("PG508", True)


def test_what_declares_nothing_is_an_error(tmp_path: Path, installed: Any) -> None:
    installed("acme-shield-2", lambda: foreign())
    [(code, message, _)] = problems(tmp_path, avatars=SHIELD)
    assert (code, "does not declare what it assesses" in message) == ("PG508", True)


def test_a_category_that_does_not_exist_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="did you mean `violence`"):
        Assesses(prompt=frozenset({"violense"}))
    with pytest.raises(ValueError, match="`hate` is no category of `images`"):
        Assesses(images=frozenset({"hate"}))


# ---- opening ----------------------------------------------------------------------------------------------


def test_each_screen_goes_to_the_moderator_that_declares_the_model(tmp_path: Path, installed: Any) -> None:
    first, second = foreign(), foreign(model="other-1")
    installed("acme-shield-2", declares(first))
    installed("other-1", declares(second))
    posters = SURFACE.replace("surface: avatars", "surface: posters").replace("/v1/", "/p/v1/")
    posters += "moderation: {model: other-1}\n"
    with opened(tmp_path, avatars=SHIELD, posters=posters) as guard:
        for surface in ("avatars", "posters", "posters"):
            assert isinstance(guard.admit(request(), caller(), surface=surface), Admitted)
    assert (first.calls, second.calls) == (1, 2)


@pytest.mark.parametrize("made", ["a text", KeyError(CANARY), ConfigError("set `ACME_KEY`")])
def test_one_that_cannot_be_made_is_said_when_the_guard_opens(tmp_path: Path, installed: Any, made: Any) -> None:
    def make() -> Any:
        if isinstance(made, Exception):
            raise made
        return made

    make.assesses = WHOLE  # type: ignore[attr-defined]
    installed("acme-shield-2", make)
    with pytest.raises(PolicyError, match=r"PG508.*the moderator of `acme-shield-2` cannot be made") as raised:
        opened(tmp_path, avatars=SHIELD)
    assert CANARY not in str(raised.value)
    assert not (tmp_path / "record.sqlite3").exists()


def test_one_that_cannot_be_closed_is_said_by_its_class_and_the_rest_is_closed(
    tmp_path: Path, installed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[str] = []

    def broken() -> None:
        raise OSError(CANARY)

    first, second = foreign(), foreign(model="other-1")
    first.close, second.close = broken, lambda: closed.append("other-1")  # type: ignore[method-assign]
    installed("acme-shield-2", declares(first))
    installed("other-1", declares(second))
    posters = SURFACE.replace("surface: avatars", "surface: posters").replace("/v1/", "/p/v1/")
    opened(tmp_path, avatars=SHIELD, posters=posters + "moderation: {model: other-1}\n").close()
    assert closed == ["other-1"]
    assert ("OSError" in caplog.text, CANARY in caplog.text) == (True, False)


# ---- what it says -----------------------------------------------------------------------------------------


class Lying(Verdict):
    """A verdict whose scores were never looked at."""

    def __post_init__(self) -> None: ...


def whole(**changes: float) -> dict[str, float]:
    return {**dict.fromkeys(CATEGORIES, 0.0), **changes}


NONSENSE: dict[str, Any] = {
    "it raises": RuntimeError(CANARY),
    "nothing": lambda step: None,
    "a dict": lambda step: whole(),
    "NaN": lambda step: Lying(model="m", scores=whole(hate=float("nan"))),
    "more than 1": lambda step: Lying(model="m", scores=whole(hate=1.5)),
    "a text as score": lambda step: Lying(model="m", scores={**whole(), "hate": "0"}),  # type: ignore[dict-item]
    "a missing category": lambda step: Verdict(model="m", scores={c: 0.0 for c in CATEGORIES if c != "hate"}),
    "no scores": lambda step: Verdict(model="m"),
    "scores beside an error": lambda step: Verdict(model="m", scores=whole(), error="partial"),
    "incomplete is a text": lambda step: Verdict(model="m", scores=whole(), incomplete="hate"),  # type: ignore[arg-type]
    "calls are a text": lambda step: Verdict(model="m", scores=whole(), calls=CANARY),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("side", ["sync", "async"])
@pytest.mark.parametrize("says", NONSENSE)
def test_nonsense_is_unavailable_and_never_fine(
    tmp_path: Path, installed: Any, says: str, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    installed("acme-shield-2", declares(foreign(NONSENSE[says])))
    with caplog.at_level(logging.DEBUG), opened(tmp_path, avatars=SHIELD) as guard:
        found = admitted(guard, side)
    assert isinstance(found, Refused)
    assert [reason.id for reason in found.decision.reasons] == ["moderation.unavailable"]
    assert CANARY not in caplog.text + repr(found)


def admitted(guard: Guard, side: str, **changes: Any) -> Any:
    asked = request(prompt=f"a cat {CANARY}", **changes)
    if side == "sync":
        return guard.admit(asked, caller(), surface="avatars")

    async def ask() -> Any:
        return await guard.aadmit(asked, caller(), surface="avatars")

    return anyio.run(ask)


class Hanging(Foreign):
    """Never answers: until the test is over."""

    def __init__(self) -> None:
        super().__init__(models=frozenset({"acme-shield-2"}))
        self.over = threading.Event()

    def moderate(self, step: Any) -> Any:
        self.over.wait()

    async def amoderate(self, step: Any) -> Any:
        await anyio.sleep_forever()


@pytest.mark.parametrize("side", ["sync", "async"])
def test_one_that_hangs_is_unavailable_at_the_time_out(tmp_path: Path, installed: Any, side: str) -> None:
    hanging = Hanging()
    installed("acme-shield-2", declares(hanging))
    try:
        with opened(tmp_path, avatars=SURFACE + "moderation: {model: acme-shield-2, timeout: 1s}\n") as guard:
            found = admitted(guard, side)
    finally:
        hanging.over.set()
    assert found.decision.verdict.error == "timeout"
    assert [reason.id for reason in found.decision.reasons] == ["moderation.unavailable"]


def test_what_it_does_not_declare_counts_as_unavailable_whatever_it_says(tmp_path: Path, installed: Any) -> None:
    installed("acme-shield-2", declares(foreign(), Assesses()))
    picture = InputImage(b"picture", "image/png")
    edits = SHIELD.replace("model: acme", "check: [prompt, input_images], model: acme")
    with opened(tmp_path, avatars=edits) as guard:
        assert isinstance(admitted(guard, "sync"), Admitted)
        found = admitted(guard, "sync", operation="edit", images=(picture,))
    assert "moderation.unavailable" in [reason.id for reason in found.decision.reasons]


def test_only_names_and_known_categories_get_into_the_record(tmp_path: Path, installed: Any) -> None:
    def says(step: Any) -> Verdict:
        said = step.request.prompt
        return Verdict(model=said, scores={**whole(), said: 0.1}, request_ids=(said, "req-1"), calls=1)

    installed("acme-shield-2", declares(foreign(says)))
    with opened(tmp_path, avatars=SHIELD) as guard:
        verdict = admitted(guard, "sync").decision.verdict
    assert (verdict.model, verdict.request_ids, set(verdict.scores)) == ("acme-shield-2", ("req-1",), set(CATEGORIES))


# ---- end to end -------------------------------------------------------------------------------------------

ASK = """
import json, sys
from policyguard import Caller, Guard, ImageRequest
with Guard.open(sys.argv[1], store=sys.argv[2], watch=False) as guard:
    who = Caller.of({"user": "u1"})
    for prompt in ("a cat", "a swordfight"):
        asked = ImageRequest(prompt=prompt, model="gpt-image-2-2026-04-21", size="1024x1024", quality="low", n=1)
        found = guard.admit(asked, who, surface="avatars").decision
        print(json.dumps([found.verdict.model, found.effect.name, [reason.id for reason in found.reasons]]))
    for row in guard.store.events(): print(json.dumps(row.event.body.get("moderation")))
"""


def distribution(folder: Path) -> None:
    """The example as somebody else would install it: a module, and the metadata that pip writes."""
    (folder / "acme_shield-2.0.dist-info").mkdir(parents=True)
    (folder / "acme_shield.py").write_text((ROOT / "examples" / "moderator.py").read_text())
    info = folder / "acme_shield-2.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-shield\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[policyguard.moderators]\nacme-shield-2 = acme_shield:Shield\n")


def test_a_distribution_adds_a_moderator_and_no_file_here_changes(tmp_path: Path) -> None:
    distribution(tmp_path / "site")
    org = ORG.replace("deny_at: {default: 0.50}", "deny_at: {default: 0.80}")
    folder = write_policies(tmp_path / "policies", org=org, avatars=SHIELD)
    path = os.pathsep.join((str(tmp_path / "site"), str(ROOT)))
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI")} | {"PYTHONPATH": path}

    def run(*command: str) -> str:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("-m", "policyguard", "check", str(folder))
    record = f"sqlite:///{tmp_path / 'record.sqlite3'}"
    allowed, denied, *rows = map(json.loads, run("-c", ASK, str(folder), record).splitlines())
    assert allowed == ["acme-shield-2", "ALLOW", []]
    assert denied == ["acme-shield-2", "DENY", ["moderation.violence"]]
    assert [row["scores_milli"]["violence"] for row in rows if row] == [0, 900]
