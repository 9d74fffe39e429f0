"""One run of the demo: start everything, send, review, resume, read the record.

Every run starts a new record in its folder; the key beside it stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from policyguard.demo.app import create_app
from policyguard.demo.report import Summary, summarise
from policyguard.demo.traffic import ClientAnswer, Traffic
from policyguard.guard.guard import Guard
from policyguard.moderation.openai import OpenAIModerator
from policyguard.policy.starter import starter_folder
from policyguard.proxy import serving
from policyguard.sandbox.prompts import DemoPrompt, demo_prompts
from policyguard.sandbox.server import Server

LIVE_URL = "https://api.openai.com/v1"
RECORD = "record.sqlite3"
REJECT_EVERY = 4  # the share of held requests that the demo's reviewers reject
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DemoUpstream:
    """Where images are made: the sandbox, or the real API (`counts` is then None)."""

    url: str
    key: str
    counts: Callable[[], dict[str, int]] | None


def run(
    folder: Path,
    *,
    prompts: Sequence[DemoPrompt] | None,
    limit: int | None,
    live_key: str | None,
    report: Progress | None,
) -> Summary:
    """Send `prompts` (else the demo's own) and say what became of them. `report(done, total)` shows progress."""
    chosen = list(demo_prompts() if prompts is None else prompts)[:limit]
    record = _fresh_record(folder)
    started = time.monotonic()
    with ExitStack() as stack:
        upstream = stack.enter_context(_upstream(live_key))
        guard = stack.enter_context(_guard(record, upstream))
        proxied = serving.create_app(
            serving.Options(policies=str(starter_folder()), store=_url(record), upstream=upstream.url, key=upstream.key)
        )
        with Server(create_app(guard, upstream.url, upstream.key)) as app, Server(proxied) as proxy:
            traffic = Traffic(guard, app.url, proxy.url, upstream.url, upstream.key)
            stack.callback(traffic.close)
            answers = _send(traffic, chosen, report)
            resumed = _review_and_resume(guard, traffic, answers)
        # The app has ended, so that every leg has: an answer is settled after its last byte has left.
        counts = upstream.counts() if upstream.counts else None
        return summarise(
            guard.store,
            len(answers) + resumed,
            counts,
            seconds=time.monotonic() - started,
            record=str(record),
        )


def _fresh_record(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / RECORD
    for path in (record, *(folder / f"{RECORD}{suffix}" for suffix in ("-wal", "-shm"))):
        path.unlink(missing_ok=True)
    return record


def _url(record: Path) -> str:
    return f"sqlite:///{record}"


@contextmanager
def _upstream(live_key: str | None) -> Iterator[DemoUpstream]:
    if live_key is not None:
        yield DemoUpstream(LIVE_URL, live_key, None)
        return
    from policyguard.sandbox import SandboxServer

    with SandboxServer() as sandbox:
        yield DemoUpstream(f"{sandbox.url}/v1", "sk-sandbox", lambda: _counts(sandbox.url))


def _counts(url: str) -> dict[str, int]:
    counts = httpx2.get(f"{url}/sandbox/requests", trust_env=False).json()
    return {"generations": counts["generations"], "images": counts["images"]}


@contextmanager
def _guard(record: Path, upstream: DemoUpstream) -> Iterator[Guard]:
    moderator = OpenAIModerator(base_url=upstream.url, api_key=upstream.key)
    with Guard.open(starter_folder(), store=_url(record), moderator=moderator) as guard:
        yield guard
        guard.sweep()  # seals the rows, so that the record can be verified


def _send(traffic: Traffic, prompts: list[DemoPrompt], report: Progress | None) -> list[ClientAnswer]:
    answers = []
    for answer in traffic.send(prompts):
        answers.append(answer)
        if report is not None:
            report(len(answers), len(prompts))
    return answers


def _review_and_resume(guard: Guard, traffic: Traffic, answers: list[ClientAnswer]) -> int:
    """The named reviewers decide what was held; each approved request is sent again, with its review. How many were."""
    held = [answer for answer in answers if answer.review_id]
    approved = []
    for number, answer in enumerate(held, start=1):
        reject = number % REJECT_EVERY == 0
        if answer.review_id and _decide(guard, answer.review_id, reject=reject):
            approved.append(answer)
    for answer in approved:
        traffic.resume(answer.prompt, answer.review_id or "")
    return len(approved)


def _decide(guard: Guard, review_id: str, *, reject: bool) -> bool:
    item = guard.store.review(review_id)
    if item is None:
        return False
    verdict, why = ("reject", "not for this surface") if reject else ("approve", "looks right")
    for reviewer in item.reviewers[: item.approvals]:
        item = guard.store.vote(review_id, reviewer, verdict, why, guard.clock())  # type: ignore[arg-type]
    return item.state.value == "approved"
