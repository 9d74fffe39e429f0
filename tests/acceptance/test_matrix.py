"""The same request through every door, in every form: the same decision, error body, header, record and upstream call.

One table says what each case must give. What may differ between doors is listed by name; everything else is compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from acceptance.cases import CASES, OUTPUT, PLAIN, Case, surface
from acceptance.doors import DOORS, LEAVING, STREAMING, Answer, World, all_doors
from acceptance.forms import FORMS, Asked, Form
from support import NOW, ORG, write_policies
from tool_bodies import PRICES

import policyguard
from policyguard.decision import PolicyRefused
from policyguard.errors import ConfigError

pytestmark = pytest.mark.acceptance
BUDGETS = "budgets: [{id: day, limit: $10 / day}, {id: images, limit: 50 images / day}]"
# What there is not, and why.
NO_SUCH_FORM: Mapping[tuple[str, str], str] = {
    ("decorator", "generations stream"): "a function has ended before its stream has",
    ("decorator", "edits stream"): "a function has ended before its stream has",
    ("decorator", "edits JSON"): "a function has arguments, whichever form it sends",
    ("decorator", "responses"): "a function has arguments, and no tools among them",
    ("decorator", "responses stream"): "a function has arguments, and no tools among them",
}
NO_SUCH_CASE: Mapping[tuple[str, str], str] = {
    ("decorator", "unknown-parameter"): "a function has only the arguments that it names",
    ("generations", "image-too-large"): "nothing but an edit brings a picture",
    ("generations stream", "image-too-large"): "nothing but an edit brings a picture",
}
NOTHING = {*NO_SUCH_FORM, *NO_SUCH_CASE}


def doors_of(case: str, form: str) -> list[str]:
    """The doors that have this cell."""
    if (form, case) in NOTHING:
        return []
    return [door for door in DOORS if (door, form) not in NOTHING and (door, case) not in NOTHING]


Opened = tuple[World, dict[str, Any]]
CELLS = [(case, form) for case, form in product(CASES, FORMS) if doors_of(case, form)]


# ---- what may differ --------------------------------------------------------------------------------------

# In a row of the record: which door it was, what the upstream and the moderator call their calls, what took how long.
OF_THE_CALL = re.compile(
    r"""\.body\.(
    door
    |upstream_request_id|moderation\.request_ids\.\d+|questions\.request_id
    |latency_ms\.\w+|moderation\.latency_ms|questions\.latency_ms
    )$""",
    re.VERBOSE,
)
# In what the sandbox noted: the SDK counts its attempts in a header.
OF_THE_CLIENT = ("retry_count",)
HEADERS = ("x-policyguard-adjusted", "x-should-retry", "retry-after", "location", "content-type")
IDS = ("decision_id", "review_id")


def row(event: Any) -> dict[str, Any]:
    return {
        "type": event.type,
        "outcome": event.outcome,
        "dimensions": dict(event.dimensions),
        "keep_days": event.keep_days,
        "ids": [getattr(event, name) is not None for name in (*IDS, "leg_id")],
        "body": event.body,
    }


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its path."""
    if not isinstance(value, dict | list):
        yield path, value
        return
    for name, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from flat(item, f"{path}.{name}" if path else str(name))


def differences(one: Any, other: Any) -> dict[str, tuple[Any, Any]]:
    """What differs and may not."""
    left, right = dict(flat(one)), dict(flat(other))
    differing = {path for path in left.keys() | right.keys() if left.get(path) != right.get(path)}
    return {path: (left.get(path), right.get(path)) for path in differing if not OF_THE_CALL.search(path)}


def error(answer: Answer) -> Any:
    found = answer.document["error"]
    policy = {name: value if name not in IDS else value is not None for name, value in found["policy"].items()}
    message = found["message"].replace(str(found["policy"]["review_id"]), "<review>")
    return {**found, "message": message, "policy": policy}


def headers(answer: Answer, review_id: str | None) -> dict[str, str]:
    found = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    if "location" in found:
        found["location"] = found["location"].replace(str(review_id), "<review>")
    return found


@contextmanager
def pause(door: Any, surface: str) -> Iterator[None]:
    told: dict[str, Any] = {"why": "test", "by": "ada", "now": NOW}
    door.guard.store.pause("surface", surface, **told)
    yield
    door.guard.store.unpause("surface", surface, **told)


@dataclass(frozen=True)
class Seen:
    """Everything that a request shows, but for what may differ."""

    status: int
    error: Any
    record: list[dict[str, Any]]
    upstream: list[dict[str, Any]]
    generations: int
    headers: Mapping[str, str] | None
    body: bytes | None


def ask(world: World, door: Any, surface: str, form: Form, case: Case) -> Seen:
    world.reset()
    before = len(door.guard.store.events(limit=10_000))
    with (
        world.fault(case.down, "500") if case.down else nullcontext(),
        pause(door, surface) if case.paused else nullcontext(),
    ):
        answer = door.ask(surface, form, case.asked)
    rows = [row.event for row in door.guard.store.events(limit=10_000)[before:]]
    events = [event for event in rows if not event.type.startswith("admin.")]
    counts = world.counts()
    over_http = answer.status != 200 or bool(answer.body)
    review_id = next((event.review_id for event in events if event.review_id), None)
    return Seen(
        answer.status,
        error(answer) if answer.status != 200 else None,
        [row(event) for event in events],
        [{n: v for n, v in one.items() if n not in OF_THE_CLIENT} for one in counts["requests"]],
        counts["generations"],
        headers(answer, review_id) if over_http else None,
        answer.body if answer.status == 200 and over_http else None,
    )


# ---- the matrix -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("matrix")
    surfaces = {name: surface(name, case.policy) for name, case in CASES.items()}
    surfaces |= {"streams": surface("streams", BUDGETS)}
    with all_doors(folder, write_policies(folder / "policies", org=ORG, prices=PRICES, **surfaces)) as opened:
        yield opened


def test_no_cell_is_missing_but_those_that_cannot_be() -> None:
    tried = {(door, form, case) for case, form in CELLS for door in doors_of(case, form)}
    missing = set(product(DOORS, FORMS, CASES)) - tried
    why = {cell: NOTHING & {cell[:2], cell[::2], cell[1:]} for cell in missing}
    assert [cell for cell, reasons in why.items() if not reasons] == []
    assert NOTHING - {reason for reasons in why.values() for reason in reasons} == set()


@pytest.mark.parametrize(("case", "form"), CELLS)
def test_every_door_decides_answers_and_records_alike(doors: Opened, case: str, form: str) -> None:
    world, opened = doors
    seen = {name: ask(world, opened[name], case, FORMS[form], CASES[case]) for name in doors_of(case, form)}
    for name, one in seen.items():
        check(one, CASES[case], FORMS[form], name)
    first = seen["asgi"]
    for name, one in seen.items():
        assert (name, differences(one.record, first.record)) == (name, {})
        assert (name, differences(one.error, first.error), one.status) == (name, {}, first.status)
        assert (name, differences(one.upstream, first.upstream)) == (name, {})
        if one.headers is not None:
            assert (name, one.headers, one.body) == (name, first.headers, first.body)


def check(seen: Seen, case: Case, form: Form, door: str) -> None:
    """What the table says."""
    decided = seen.record[0]
    whole = ("partial_images=1->0",) if form.streams and case.policy.startswith(OUTPUT) else ()
    adjusted = [*whole, *case.adjusted]
    reasons = [(reason["id"], reason["effect"], reason["mode"]) for reason in decided["body"]["reasons"]]
    assert (door, decided["type"], decided["outcome"]) == (door, "request.decided", case.outcome)
    assert (door, sorted(reasons), seen.status) == (door, sorted(case.reasons), case.status)
    if seen.error is not None:
        named = [seen.error[name] for name in ("type", "code", "param")]
        param = "max_tool_calls" if case.code == "invalid_request" and form.path == "/responses" else case.param
        assert (door, named) == (door, [case.type, case.code, param])
        assert seen.headers is not None
        assert (door, seen.headers.get("x-should-retry")) == (door, case.retry)
    else:
        assert (door, decided["body"]["adjusted"]) == (door, adjusted)
    if seen.error is None and seen.headers is not None:
        assert (door, seen.headers["x-policyguard-adjusted"]) == (door, ",".join(adjusted))
    kinds = [one["type"] for one in seen.record[1:]]
    if case.sent is None:
        assert (door, kinds, seen.upstream) == (door, ["review.held"] if case.outcome == "hold" else [], [])
        return
    (upstream,) = seen.upstream
    assert (door, sorted(kinds), seen.generations) == (door, sorted(["leg.settled", *case.after]), 1)
    assert (door, {name: upstream[name] for name in case.sent}) == (door, case.sent)
    assert (door, upstream["moderation"] in (None, "auto"), bool(upstream["safety_identifier"])) == (door, True, True)
    if form.streams and seen.body is not None:
        assert form.last in seen.body.decode()


# ---- what a function has not ------------------------------------------------------------------------------


def test_what_a_function_has_not_is_no_way_in(doors: Opened) -> None:
    """It cannot even be declared, or the call is refused."""
    guard = doors[1]["decorator"].guard
    called = []

    @guard.enforce("allowed", constants=PLAIN)
    def draw(prompt: str, stream: bool = False) -> None:
        called.append(prompt)

    with policyguard.caller(user="u1"), pytest.raises(PolicyRefused) as refused:
        draw("a cat", stream=True)
    assert (refused.value.code, refused.value.decision.reasons[0].param) == ("invalid_request", "stream")

    def tool(input: str, tools: list[Any]) -> None: ...

    def body(prompt: str, extra_body: Any) -> None: ...

    def anything(prompt: str, **more: Any) -> None: ...

    for function in (tool, body, anything):
        with pytest.raises(ConfigError):
            guard.enforce("allowed", constants=PLAIN)(function)
    assert called == []


# ---- streams ----------------------------------------------------------------------------------------------

STREAMS = [name for name, form in FORMS.items() if form.streams]


def legs_and_money(world: World, door: Any, act: Callable[[], object]) -> tuple[list[Any], dict[str, int], int]:
    """The legs that ended while `act` ran, what each budget was charged, and how often the sandbox generated."""
    store = door.guard.store
    world.reset()
    before, spent = len(store.events(limit=10_000)), {w.budget_id: w.spent for w in store.budget_windows()}
    act()
    rows = [row.event for row in store.events(limit=10_000)[before:] if row.event.type.startswith("leg.")]
    windows = store.budget_windows()
    assert [window.reserved for window in windows if window.budget_id in ("day", "images")] == [0, 0]
    charged = {w.budget_id: w.spent - spent.get(w.budget_id, 0) for w in windows if w.budget_id in ("day", "images")}
    return rows, charged, world.counts()["generations"]


@pytest.mark.parametrize("form", STREAMS)
@pytest.mark.parametrize("door", STREAMING)
def test_a_stream_generates_once_and_is_charged_once(doors: Opened, door: str, form: str) -> None:
    world, opened = doors
    answers = []
    (leg,), charged, generations = legs_and_money(
        world, opened[door], lambda: answers.append(opened[door].ask("streams", FORMS[form], Asked()))
    )
    assert (leg.type, leg.body["failure"], generations) == ("leg.settled", None, 1)
    assert charged == {"day": leg.body["actual_micros"], "images": 1}
    assert answers[0].body.decode().count(f"event: {FORMS[form].last}") == 1


@pytest.mark.parametrize("form", STREAMS)
@pytest.mark.parametrize("door", LEAVING)
def test_a_client_that_leaves_after_the_first_event_is_charged_once_too(doors: Opened, door: str, form: str) -> None:
    """The sandbox waits before the last event, so that the answer cannot have come to its end by itself."""
    world, opened = doors
    with world.fault(f"/v1{FORMS[form].path}", "slow=60"):
        (leg,), charged, generations = legs_and_money(
            world, opened[door], lambda: opened[door].leave("streams", FORMS[form], Asked())
        )
    assert (leg.type, leg.body["failure"], generations) == ("leg.presumed", "cancelled", 1)
    assert charged == {"day": leg.body["ceiling_micros"], "images": 1}
