"""`policyguard review` on held answers: what is shown, what is written for the reviewer, and what never is."""

from __future__ import annotations

import base64
import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.test_verbs import run
from PIL import Image
from support import SURFACE, caller, request, write_policies

from policyguard.decision import Held
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Outcome, Usage
from policyguard.wire.output import read_output

POLICY = SURFACE + (
    "moderation:\n  check: [prompt, output_images]\n"
    "  deny_at: {sexual/minors: 0.9}\n  review_at: {sexual: 0.3, sexual/minors: 0.2}\n"
    "review: {reviewers: [group:trust]}\n"
)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def hold(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Holds an answer, and says the review's id and the store's address."""

    def make(**scores: float) -> tuple[str, str]:
        folder, url = write_policies(tmp_path / "policies", avatars=POLICY), f"sqlite:///{tmp_path / 'r.sqlite3'}"
        moderator = ScriptedModerator(scores, output_scores={"sexual": 0.4})
        body = json.dumps({"data": [{"b64_json": base64.b64encode(png()).decode()}]}).encode()
        with Guard.open(folder, store=url, moderator=moderator) as guard:
            admitted: Any = guard.admit(request(prompt="a duel"), caller(), surface="avatars")
            if isinstance(admitted, Held):
                guard.store.vote(admitted.review_id, "ada@example.com", "approve", "", guard.clock())
                again = {"surface": "avatars", "review_id": admitted.review_id}
                admitted = guard.admit(request(prompt="a duel"), caller(), **again)
            guard.sent(admitted.ticket)
            used = Outcome(status=200, usage=Usage(output_image_tokens=196))
            held: Any = guard.inspect(admitted.ticket, used, read_output(200, "application/json", body))
        return held.review_id, url

    return make


def test_a_held_answer_is_listed_and_shown_with_its_request(hold: Callable[..., tuple[str, str]]) -> None:
    review_id, url = hold()
    (row,) = json.loads(run("review", "list", "--store", url, "--format", "json"))
    assert (row["review_id"], row["kind"], row["reasons"]) == (review_id, "output", ["output.sexual"])
    shown = run("review", "show", review_id, "--by", "ada@example.com", "--store", url)
    assert "a duel" in shown
    assert "image/png, 64x48" in shown


def test_its_images_are_written_for_their_owner_alone_and_never_over_others(
    hold: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    review_id, url = hold()
    folder = tmp_path / "looking"
    show = ("review", "show", review_id, "--by", "ada@example.com", "--store", url, "--save", str(folder))
    assert f"{review_id}-1.png" in run(*show)
    (file,) = folder.iterdir()
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (png(), 0o600)
    assert "cannot be written" in run(*show, code=2)


def test_what_is_never_rendered_is_neither_shown_nor_written(
    hold: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    """The request was suspected and approved; what came of it is not rendered for anybody."""
    review_id, url = hold(**{"sexual/minors": 0.5})
    show = ("review", "show", review_id, "--by", "ada@example.com", "--store", url)
    shown = run(*show)
    assert "not shown" in shown
    assert "a duel" not in shown
    assert "never rendered" in run(*show, "--save", str(tmp_path / "looking"), code=1)
    assert not (tmp_path / "looking").exists()


def test_a_request_without_pictures_has_nothing_to_be_written(tmp_path: Path) -> None:
    folder, url = write_policies(tmp_path / "policies", avatars=POLICY), f"sqlite:///{tmp_path / 'r.sqlite3'}"
    moderator = ScriptedModerator({"sexual": 0.4})
    with Guard.open(folder, store=url, moderator=moderator) as guard:
        held: Any = guard.admit(request(), caller(), surface="avatars")
    show = ("review", "show", held.review_id, "--by", "ada@example.com", "--store", url)
    assert "no pictures to save" in run(*show, "--save", str(tmp_path / "looking"), code=1)
