"""`policyguard serve` as its own process: the real SDK before it, the sandbox behind it."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from patience import HANGS_S, until
from PIL import Image
from support import AVATARS, SURFACE
from tool_bodies import MAIN, PRICES, RESPONSES, asked

pytestmark = pytest.mark.acceptance
GENERATIONS, MODERATIONS = "/v1/images/generations", "/v1/moderations"
BUDGET = "budgets: [{id: day, limit: $10 / day}]\n"
STREAMED = AVATARS.replace("  n:       {max: 2}", "  n: {max: 2}\n  partial_images: {max: 2}") + BUDGET
OTHER = SURFACE.replace("surface: avatars", "surface: marketing").replace("routes: [POST /v1/", "routes: [POST /m/v1/")
OTHER = OTHER.replace(", POST /v1/images/edits", "")


def png() -> io.BytesIO:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG")
    buffer.seek(0)
    buffer.name = "me.png"
    return buffer


def shipped(proxy: Callable[..., Any]) -> Any:
    """A proxy with the policies of this repository."""
    folder = Path(__file__).parents[2] / "policies"
    return proxy(**{path.stem: path.read_text() for path in folder.glob("*.yaml")})


def events(app: Any, type_: str = "") -> list[Any]:
    store = app.store()
    rows = [row.event for row in store.events(limit=1000) if row.event.type.startswith(type_)]
    store.close()
    return rows


def ask_for_ever(client: openai.OpenAI) -> None:
    while True:
        client.models.list()


def ends(app: Any) -> list[tuple[str, Any]]:
    """How the legs ended, once the proxy has finished what was in flight."""
    app.stop()
    return [(event.type, event.body["failure"]) for event in events(app, "leg.")]


# ---- what it does -----------------------------------------------------------------------------------------


def test_the_sdk_makes_edits_and_streams_pictures_through_it(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=STREAMED)
    client = app.sdk()
    made = client.images.with_raw_response.generate(prompt="a cat", extra_body={"moderation": "low"})
    assert made.headers["x-policyguard-decision"].startswith("dec_")
    assert made.headers["x-request-id"].startswith("req_")
    assert made.parse().data is not None
    edited = client.images.edit(image=png(), prompt="in oil", model="gpt-image-2-2026-04-21")
    assert edited.data is not None
    kinds = [event.type for event in client.images.generate(prompt="a cat", stream=True, partial_images=2)]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    counts = sandbox.counts()
    assert (counts["generations"], counts["edits"]) == (3, 1)
    assert {request["moderation"] for request in counts["requests"] if "moderation" in request} <= {"auto", None}
    decided = events(app, "request.decided")
    assert {(event.body["door"], event.outcome) for event in decided} == {("proxy", "allow")}
    assert ends(app) == [("leg.settled", None)] * 3


def test_refusals_are_the_typed_errors_of_the_sdk(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=AVATARS + "budgets: [{id: day, limit: 1 images / day}]\n", marketing=OTHER)
    client = app.sdk()
    with pytest.raises(openai.BadRequestError) as parameter:
        client.images.generate(prompt="a cat", size="2048x2048")
    assert (parameter.value.code, parameter.value.param) == ("policy_violation", "size")
    with pytest.raises(openai.BadRequestError) as moderated:
        client.images.generate(prompt="a swordfight at dawn")
    assert moderated.value.code == "moderation_blocked"
    with pytest.raises(openai.AuthenticationError) as wrong:
        app.sdk("sk-policyguard-wrong").images.generate(prompt="a cat")
    assert wrong.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError) as nobody:
        app.sdk(app.key(tenant="acme")).images.generate(prompt="a cat")
    assert nobody.value.code == "policy_caller_missing"
    with pytest.raises(openai.PermissionDeniedError) as elsewhere:
        client.images.generate(prompt="a cat", extra_headers={"x-policyguard-surface": "marketing"})
    assert elsewhere.value.code == "policy_no_surface"
    with pytest.raises(openai.PermissionDeniedError) as unseen:
        client.responses.create(model="gpt-5.6-luna", input="a cat")
    assert unseen.value.code == "policy_no_surface"
    with pytest.raises(openai.NotFoundError) as address:
        client.with_options(base_url=f"{app.url}").images.generate(prompt="a cat")
    assert "`/v1/images/generations`" in address.value.message
    assert "gpt-image-2-2026-04-21" in [model.id for model in client.models.list()]
    assert client.models.retrieve("gpt-image-2-2026-04-21").object == "model"
    assert sandbox.counts()["generations"] == 0
    client.images.generate(prompt="a cat")
    with pytest.raises(openai.RateLimitError) as spent:
        client.images.generate(prompt="a cat")
    assert spent.value.code == "policy_budget_exceeded"


def test_images_by_the_responses_tool_pass_and_text_does_not(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=RESPONSES, prices=PRICES)
    client = app.sdk()
    answer = client.responses.create(**asked({"moderation": "low"}))
    assert "image_generation_call" in [item.type for item in answer.output]
    kinds = [event.type for event in client.responses.create(**asked(stream=True))]
    assert kinds[-1] == "response.completed"
    with pytest.raises(openai.PermissionDeniedError) as text:
        client.responses.create(model=MAIN, input="a poem")
    assert text.value.code == "policy_no_surface"
    assert {request["moderation"] for request in sandbox.counts()["requests"] if "moderation" in request} == {"auto"}
    assert ends(app) == [("leg.settled", None)] * 2


def test_each_attempt_of_the_sdk_is_a_leg_of_its_own(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=AVATARS + BUDGET)
    sandbox.fault(GENERATIONS, "429", times=1)
    app.sdk(max_retries=1).images.generate(prompt="a cat")
    assert ends(app) == [("leg.released", "error"), ("leg.settled", None)]


def test_what_was_not_answered_is_presumed_and_told(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=AVATARS + BUDGET)
    sandbox.fault(GENERATIONS, "cut", times=1)
    with pytest.raises(openai.APIConnectionError):
        app.sdk().images.generate(prompt="a cat")
    (leg,) = ends(app)
    assert leg[0] == "leg.presumed"


# ---- its life ---------------------------------------------------------------------------------------------


def test_what_is_in_flight_ends_well_after_a_sigterm(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=AVATARS + BUDGET)
    client = app.sdk()
    sandbox.fault(GENERATIONS, "slow=2", times=1)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.images.generate, prompt="a cat")
        until(lambda: events(app, "request.decided"))
        app.process.send_signal(signal.SIGTERM)
        assert asked.result().data is not None
    assert app.process.wait(HANGS_S) == 0
    assert ends(app) == [("leg.settled", None)]


def test_two_workers_share_the_work_and_the_books(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy("--workers", "2", avatars=AVATARS + "budgets: [{id: day, limit: 10 images / day}]\n")
    key = app.key(user="u1")

    def ask(_: int) -> int:
        with httpx2.Client(trust_env=False, timeout=HANGS_S) as http:
            headers = {"authorization": f"Bearer {key}"}
            return http.post(f"{app.url}{GENERATIONS}", json={"prompt": "a cat"}, headers=headers).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(ask, range(24)))
    assert answers == [200] * 10 + [429] * 14
    assert sandbox.counts()["generations"] == 10
    assert ends(app) == [("leg.settled", None)] * 10


def test_a_killed_proxy_loses_nothing_and_starts_again(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=AVATARS + BUDGET)
    client = app.sdk()
    sandbox.fault(GENERATIONS, "slow=600", times=1)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.images.generate, prompt="a cat")
        until(lambda: sandbox.counts()["generations"])
        app.kill()
        with pytest.raises(openai.APIConnectionError):
            asked.result()
    again = proxy(avatars=AVATARS + BUDGET)
    again.sdk().images.generate(prompt="a cat")
    again.stop()
    store = again.store()
    store.sweep(datetime.now(UTC) + timedelta(minutes=12))
    legs = [row.event.type for row in store.events() if row.event.type.startswith("leg.")]
    (window,) = store.budget_windows()
    store.close()
    assert legs == ["leg.settled", "leg.presumed"]
    assert window.reserved == 0


def test_it_says_whether_it_lives_and_whether_it_can_decide(
    proxy: Callable[..., Any], tmp_path: Path, sandbox: Any
) -> None:
    app = proxy(avatars=AVATARS)
    with httpx2.Client(base_url=app.url, trust_env=False) as http:
        assert http.get("/healthz").json() == {"status": "alive"}
        assert (http.get("/readyz").status_code, http.get("/readyz").json()["problems"]) == (200, [])
        (tmp_path / "policies" / "avatars.yaml").write_text(AVATARS + "moderaton: {}\n")
        while http.get("/readyz").status_code == 200:
            pass
        assert "the policies folder does not load" in http.get("/readyz").json()["problems"][0]


def test_workers_whose_parent_was_killed_end_in_good_order(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy("--workers", "2", avatars=AVATARS + BUDGET)
    client = app.sdk()
    client.images.generate(prompt="a cat")
    app.kill()
    with pytest.raises(openai.APIConnectionError):
        ask_for_ever(client)
    assert [event.type for event in events(app, "leg.")] == ["leg.settled"]


def test_it_does_without_the_sdk() -> None:
    code = (
        "import sys; from policyguard.proxy import serving; from policyguard.cli import serve;"
        "print([name for name in ('openai', 'httpx2', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- what prompts say -------------------------------------------------------------------------------------

ASKING = AVATARS + (
    "questions: {real_person: {ask: Is it a real person?}}\n"
    "rules: [{id: real-people, when: answers.real_person > 0.7, then: deny}]\n"
)


def test_hidden_letters_and_answers_decide_at_the_proxy_too(proxy: Callable[..., Any], sandbox: Any) -> None:
    client = proxy(avatars=ASKING).sdk()
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a " + "\u200b".join("swordfight"))
    assert caught.value.code == "moderation_blocked"
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a face [sandbox: real_person=0.9]")
    assert caught.value.code == "policy_violation"
    with pytest.raises(openai.InternalServerError) as down:
        client.images.generate(prompt="a face [sandbox: real_person=refusal]")
    assert down.value.code == "policy_unavailable"
    assert client.images.generate(prompt="a cat").usage is not None
    assert sandbox.counts()["paths"]["/v1/decisions"] == 4
