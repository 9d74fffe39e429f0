"""`policyguard review show` for every kind of held request and held answer, and what `--save` writes of each."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import ORG, caller, request, write_policies
from tool_bodies import PRICES, RESPONSES, asked
from typer.testing import CliRunner

from policyguard.cli import app
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.policy.model import PolicySet
from policyguard.request import ImageRequest, Outcome, Usage
from policyguard.wire.forms import read
from policyguard.wire.output import IMAGES_API, RESPONSES_API, read_output
from policyguard.wire.own import read_own

JSON = "application/json"
OWN = (
    "{route: POST /draw, fields: {prompt: body.what.prompt, size: body.what.size},"
    " constants: {model: gpt-image-2-2026-04-21, n: 1, quality: low}, images: 'response.pictures[].content'}"
)
REVIEW = (
    "moderation:\n  check: [prompt, input_images, output_images]\n"
    "  review_at: {sexual: 0.3, sexual/minors: 0.2}\n"
    "review: {reviewers: [group:trust]}\n"
)
HELD = REVIEW.replace("trust]}", "trust], hold: output}")


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output + str(result.exception)
    return result.output


def png(mode: str = "RGB", color: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (64, 48), color).save(buffer, "PNG")
    return buffer.getvalue()


PHOTO, MASK, MARKUP = png(), png("RGBA"), png("RGBA", "red")
PART = '--X\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def form(**parts: bytes) -> tuple[bytes, str]:
    body = b""
    for name, value in parts.items():
        more = "" if name == "prompt" else '; filename="../../me.png"\r\nContent-Type: image/png'
        body += PART.format(name=name, more=more).encode() + value + b"\r\n"
    return body + b"--X--\r\n", "multipart/form-data; boundary=X"


def generation(_: PolicySet) -> ImageRequest:
    return request(prompt="a duel")


def form_edit(_: PolicySet) -> ImageRequest:
    return read("edits", *form(prompt=b"a duel", image=PHOTO, mask=MASK)).request


def json_edit(_: PolicySet) -> ImageRequest:
    images = [{"image_url": data_url(PHOTO)}]
    body = {"prompt": "a duel", "images": images, "mask": {"image_url": data_url(MASK)}}
    return read("edits", json.dumps(body).encode(), JSON).request


def listed(_: PolicySet) -> ImageRequest:
    images = [{"image_url": "https://pictures.example.com/a.png"}, {"image_url": data_url(PHOTO)}]
    return read("edits", json.dumps({"prompt": "a duel", "images": images}).encode(), JSON).request


def tool(_: PolicySet) -> ImageRequest:
    content = [{"type": "input_text", "text": "a duel"}, {"type": "input_image", "image_url": data_url(PHOTO)}]
    body = asked(input=[{"role": "user", "content": content}])
    return read("responses", json.dumps(body).encode(), JSON).request


def own_route(policies: PolicySet) -> ImageRequest:
    (route,) = (route for route in policies.surfaces["avatars"].routes if route.fields)
    body = {"what": {"prompt": "a duel", "size": "1024x1024"}, "more": data_url(PHOTO)}
    return read_own(json.dumps(body).encode(), JSON, route).request


def with_markup(_: PolicySet) -> ImageRequest:
    edit = read("edits", *form(prompt=b"a duel", image=PHOTO)).request
    mask = read("edits", *form(prompt=b"a duel", image=PHOTO, mask=MARKUP)).request.mask
    return request(prompt="a duel", operation="edit", images=edit.images, markup=mask)


REQUESTS: dict[str, tuple[Callable[[PolicySet], ImageRequest], dict[str, bytes]]] = {
    "a generation": (generation, {}),
    "an edit as a form, with a mask": (form_edit, {"-1.png": PHOTO, "-mask.png": MASK}),
    "an edit as JSON, with a mask": (json_edit, {"-1.png": PHOTO, "-mask.png": MASK}),
    "an edit of a listed address": (listed, {"-2.png": PHOTO}),
    "an edit with a markup": (with_markup, {"-1.png": PHOTO, "-markup.png": MARKUP}),
    "the tool of the Responses API": (tool, {"-1.png": PHOTO}),
    "an own route": (own_route, {"-1.png": PHOTO}),
}

ENCODED = base64.b64encode(PHOTO).decode()
CALL = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": ENCODED}


def sse(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


ANSWERS: dict[str, tuple[str, bytes]] = {
    "an answer": (JSON, json.dumps({"data": [{"b64_json": ENCODED}]}).encode()),
    "a stream": ("text/event-stream", sse("image_generation.completed", b64_json=ENCODED)),
    "an answer of the Responses API": (JSON, json.dumps({"output": [CALL]}).encode()),
    "a stream of the Responses API": (
        "text/event-stream",
        sse("response.output_item.done", item=CALL) + sse("response.completed", response={"output": [CALL]}),
    ),
    "an answer of an own route": (JSON, json.dumps({"pictures": [{"content": ENCODED}]}).encode()),
}


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"sqlite:///{folder / 'r.sqlite3'}"

    def open(self, review: str, *, org: str = ORG, **scores: float) -> Guard:
        surface = RESPONSES.replace("POST /v1/responses]", f"POST /v1/responses, {OWN}]") + review
        surface = surface.replace(
            "  n:       {max: 2}",
            "  n:       {max: 2}\n  input_images: {hosts: [pictures.example.com]}\n  unknown_parameters: pass",
        )
        policies = write_policies(self.folder / "policies", org=org, avatars=surface)
        (policies / "prices.yaml").write_text(PRICES)
        moderator = ScriptedModerator({"sexual": 0.4} | scores, output_scores={"sexual": 0.4})
        return Guard.open(policies, store=self.url, moderator=moderator, watch=False)

    def show(self, review_id: str, *more: str, code: int = 0) -> str:
        return run("review", "show", review_id, "--by", "ada@example.com", "--store", self.url, *more, code=code)

    def saved(self, review_id: str) -> dict[str, bytes]:
        folder = self.folder / "looking"
        self.show(review_id, "--save", str(folder))
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        return {file.name.removeprefix(review_id): file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def held_request(place: Place, make: Callable[[PolicySet], ImageRequest], **scores: float) -> str:
    with place.open(REVIEW, **scores) as guard:
        held: Any = guard.admit(make(guard.policies), caller(), surface="avatars")
        return str(held.review_id)


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_kind_of_held_request_is_shown_whole_and_without_its_bytes(place: Place, kind: str) -> None:
    make, files = REQUESTS[kind]
    review_id = held_request(place, make)
    shown = place.show(review_id)
    assert "a duel" in shown
    as_json = place.show(review_id, "--format", "json")
    assert not any(base64.b64encode(data).decode()[:60] in shown + as_json for data in (PHOTO, MASK, MARKUP))
    rows = json.loads(as_json)["request"]["images"]
    assert [row["sha256"] for row in rows if "sha256" in row] == [hashlib.sha256(d).hexdigest() for d in files.values()]
    assert [(row["bytes"], row["pixels"]) for row in rows if "bytes" in row] == [
        (len(d), "64x48") for d in files.values()
    ]
    assert [row["part"] for row in rows if row["part"] not in ("image", "field")] == [
        name[1:-4] for name in files if "ma" in name
    ]
    if files:
        assert place.saved(review_id) == files
        assert "cannot be written" in place.show(review_id, "--save", str(place.folder / "looking"), code=2)
    else:
        assert "no pictures to save" in place.show(review_id, "--save", str(place.folder / "looking"), code=1)


def test_what_an_app_reads_beside_its_declared_fields_is_shown(place: Place) -> None:
    """The approval covers it: what the reviewer does not see could turn the picture into another."""

    def make(policies: PolicySet) -> ImageRequest:
        (route,) = (route for route in policies.surfaces["avatars"].routes if route.fields)
        what = {"prompt": "a duel", "style": {"moods": ["noir", "b\u202eg"]}, "seed": 7, "empty": {}}
        body = {"what": what, "photo": base64.urlsafe_b64encode(PHOTO).decode().rstrip("="), "token": "QUJD" * 30}
        return read_own(json.dumps(body).encode(), JSON, route, b"style=oil&x=%0A").request

    review_id = held_request(place, make)
    shown = [line for line in place.show(review_id).split("\n") if line.startswith("also sent")]
    assert shown == [
        "also sent    ?style=oil&x=%0A",
        f'also sent    photo: "(image/png, {len(PHOTO)} bytes, sha256 {hashlib.sha256(PHOTO).hexdigest()[:12]})"',
        f'also sent    token: "(encoded, 90 bytes, sha256 {hashlib.sha256(b"ABC" * 30).hexdigest()[:12]})"',
        "also sent    what.empty: {}",
        "also sent    what.seed: 7",
        'also sent    what.style.moods[0]: "noir"',
        r'also sent    what.style.moods[1]: "b\u202eg"',
    ]
    as_json = json.loads(place.show(review_id, "--format", "json"))["request"]["whole"]
    assert (as_json["query"], as_json["body"]["what"]["seed"]) == ("style=oil&x=%0A", 7)
    assert place.saved(review_id) == {"-1.png": PHOTO}


def test_unknown_parameters_that_a_policy_allows_are_shown(place: Place) -> None:
    review_id = held_request(place, lambda _: request(prompt="a duel", extra={"seed": 7}, output_compression=40))
    shown = place.show(review_id)
    assert "also sent    seed: 7\n" in shown
    assert "output_compression 40" in shown


def test_an_address_is_shown_and_not_fetched(place: Place) -> None:
    review_id = held_request(place, listed)
    assert "image        at https://pictures.example.com/a.png, not fetched" in place.show(review_id)
    first = json.loads(place.show(review_id, "--format", "json"))["request"]["images"][0]
    assert first == {"part": "image", "url": "https://pictures.example.com/a.png"}


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_kind_of_held_answer_is_shown_and_saved(place: Place, kind: str) -> None:
    media_type, body = ANSWERS[kind]
    with place.open(HELD, sexual=0.0) as guard:
        admitted: Any = guard.admit(request(prompt="a duel"), caller(), surface="avatars")
        guard.sent(admitted.ticket)
        used = Outcome(status=200, usage=Usage(output_image_tokens=196))
        held: Any = guard.inspect(
            admitted.ticket,
            used,
            read_output(200, media_type, body, RESPONSES_API if "Responses" in kind else IMAGES_API),
        )
    assert "image        image/png, 64x48, " in place.show(held.review_id)
    assert ENCODED[:60] not in place.show(held.review_id, "--format", "json")
    assert place.saved(held.review_id) == {"-1.png": PHOTO}


@pytest.mark.parametrize("kind", ["a generation", "an edit as a form, with a mask"])
@pytest.mark.parametrize("scores", [{"sexual/minors": 0.3}, {"sexual": 0.0, "sexual/minors": 0.3}])
def test_nothing_is_shown_or_written_of_what_is_suspected_of_a_category_that_is_never_rendered(
    place: Place, kind: str, scores: dict[str, float]
) -> None:
    review_id = held_request(place, REQUESTS[kind][0], **scores)
    assert "a duel" not in place.show(review_id) + place.show(review_id, "--format", "json")
    assert "never rendered" in place.show(review_id, "--save", str(place.folder / "looking"), code=1)
    assert not (place.folder / "looking").exists()


def test_a_suspicion_that_is_only_noted_counts_too(place: Place) -> None:
    """A review names the reasons that hold it; what a surface in shadow says is in the record alone."""
    rule = "rules: [{id: everything, when: 'request.n > 0', then: review}]\n"
    org = ORG.replace("defaults:\n", "defaults:\n  review: {reviewers: [group:trust]}\n") + rule
    with place.open(REVIEW + "mode: shadow\n", org=org, **{"sexual/minors": 0.3}) as guard:
        held: Any = guard.admit(form_edit(guard.policies), caller(), surface="avatars")
    assert json.loads(run("review", "list", "--store", place.url, "--format", "json"))[0]["reasons"] == ["everything"]
    assert "never rendered" in place.show(held.review_id, "--save", str(place.folder / "looking"), code=1)


def test_a_prompt_of_several_lines_forges_no_other_line(place: Place) -> None:
    review_id = held_request(place, lambda _: request(prompt="a duel\nreviewers    mallory@example.com\r\x1b[2J"))
    lines = place.show(review_id).split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("prompt"))
    assert lines[at : at + 2] == ["prompt       a duel", " " * 13 + r"reviewers    mallory@example.com\r\x1b[2J"]
    assert sum(line.startswith("reviewers") for line in lines) == 1
