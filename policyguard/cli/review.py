"""`policyguard review`: see held requests and decide them, as a named person."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from policyguard.cli.output import (
    FINDINGS,
    FormatOption,
    StoreOption,
    console,
    dollars,
    fail,
    print_json,
    table,
)
from policyguard.cli.stores import existing_store, me

if TYPE_CHECKING:
    from policyguard.steps import ReviewItem
    from policyguard.store import Store

app = typer.Typer(no_args_is_help=True, help="Held requests: list, show, approve, reject.")
ReviewId = Annotated[str, typer.Argument(help="The review's id, for example `rev_01J...`.")]
By = Annotated[str, typer.Option("--by", help="Who decides: one of the item's reviewers.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept encrypted beside the vote.")]
RESTRICTED = "moderation.sexual/minors"  # never rendered, whoever asks


@app.command("list")
def list_(
    all: Annotated[bool, typer.Option("--all", help="Also those that are decided.")] = False,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """List what waits for a decision, the most urgent first.

    Examples:

      policyguard review list

      policyguard review list --all --format json
    """
    from policyguard.states import Review

    states = [state.value for state in Review] if all else [Review.HELD.value]
    with existing_store(store) as opened:
        items = opened.reviews(states)
    if format == "json":
        print_json([_data(item) for item in items])
        return
    out = console()
    if not items:
        out.print("nothing waits for a review")
        return
    now = datetime.now(UTC)
    rows = [
        (
            item.review_id,
            item.surface,
            item.state.value,
            ", ".join(item.reasons),
            f"{_approvals(item)}/{item.approvals}",
            str(item.level),
            _left(item.due_at - now) if item.state is Review.HELD else "",
            dollars(item.ceiling_micros),
        )
        for item in items
    ]
    columns = ("review", "surface", "state", "because of", "votes", "level", "time left", "at most")
    out.print(table(columns, rows, right=("votes", "level", "at most"), whole=("review",)))


@app.command()
def show(
    review_id: ReviewId,
    by: Annotated[str | None, typer.Option("--by", help="Who looks.", show_default="the login name")] = None,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Show one held request with its prompt. That somebody looked goes into the record.

    Examples:

      policyguard review show rev_01JD9Z6Q5TEXAMPLE0000000000 --by ada@example.com
    """
    with existing_store(store) as opened:
        item = _find(opened, review_id)
        request = None if RESTRICTED in item.reasons else _request(opened, item, by or me())
    if format == "json":
        print_json({**_data(item), "request": request})
    else:
        _print(item, request)


@app.command()
def approve(
    review_id: ReviewId, by: By, reason: Reason = "", store: StoreOption = None, format: FormatOption = "text"
) -> None:
    """Approve a held request. The caller sends it again with the review's id and is admitted once.

    Examples:

      policyguard review approve rev_01JD9Z6Q5TEXAMPLE0000000000 --by ada@example.com --reason "consent on file"
    """
    _vote(review_id, by, "approve", reason, store, format)


@app.command()
def reject(
    review_id: ReviewId, by: By, reason: Reason = "", store: StoreOption = None, format: FormatOption = "text"
) -> None:
    """Reject a held request. One rejection is final.

    Examples:

      policyguard review reject rev_01JD9Z6Q5TEXAMPLE0000000000 --by grace@example.com --reason "not a passport photo"
    """
    _vote(review_id, by, "reject", reason, store, format)


def _vote(
    review_id: str, by: str, verdict: Literal["approve", "reject"], reason: str, store: str | None, format: str
) -> None:
    from policyguard.store import ReviewConflict

    with existing_store(store) as opened:
        seen = _find(opened, review_id)
        try:
            item = opened.vote(review_id, by, verdict, reason, datetime.now(UTC), policy_digest=seen.policy_digest)
        except ReviewConflict as conflict:
            fail(str(conflict), code=FINDINGS)
    if format == "json":
        print_json(_data(item))
        return
    missing = item.approvals - _approvals(item)
    more = f", {missing} more approval{'s' if missing != 1 else ''} needed" if item.state.value == "held" else ""
    console().print(f"{review_id}: {item.state.value}{more}")


def _find(store: Store, review_id: str) -> ReviewItem:
    item = store.review(review_id)
    if item is None:
        fail(f"there is no review `{review_id}`", hint="`policyguard review list` shows what waits", code=FINDINGS)
    return item


def _approvals(item: ReviewItem) -> int:
    return sum(vote.verdict == "approve" and vote.round == item.round for vote in item.votes)


def _request(store: Store, item: ReviewItem, by: str) -> dict[str, Any] | None:
    """The stored request without its image bytes; None where retention removed it."""
    sealed = store.private(f"request:{item.review_id}", by=by, now=datetime.now(UTC))
    if sealed is None:
        return None
    request: dict[str, Any] = orjson.loads(sealed)
    for image in [*request.pop("images"), request.pop("mask")]:
        if image is not None:
            kilobytes = len(image["base64"]) * 3 // 4 // 1000
            request.setdefault("images", []).append(f"{image['media_type']}, {kilobytes} kB")
    return request


def _data(item: ReviewItem) -> dict[str, Any]:
    return asdict(item)


def _print(item: ReviewItem, request: dict[str, Any] | None) -> None:
    out = console()
    out.print(f"{item.review_id}  {item.state.value}  (surface {item.surface}, level {item.level}, round {item.round})")
    out.print(f"because of   {', '.join(item.reasons)}")
    out.print(f"costs        at most {dollars(item.ceiling_micros)}")
    out.print(f"held since   {item.created_at:%Y-%m-%d %H:%M} UTC, runs out {item.due_at:%Y-%m-%d %H:%M} UTC")
    out.print(f"reviewers    {', '.join(item.reviewers)} ({item.approvals} must approve)")
    for at, people in item.escalate:
        out.print(f"escalates    {at:%Y-%m-%d %H:%M} UTC to {', '.join(people)}")
    for vote in item.votes:
        out.print(f"vote         {vote.reviewer}: {vote.verdict} in round {vote.round} {vote.reason}")
    if RESTRICTED in item.reasons:
        out.print("request      not shown: it is in a category that is never rendered")
    elif request is None:
        out.print("request      not kept any more")
    else:
        out.print(f"asked for    {', '.join(f'{k} {v}' for k, v in request['parameters'].items())}")
        out.print(f"caller       {', '.join(f'{k} {v}' for k, v in request['caller'].items())}")
        for image in request.get("images", []):
            out.print(f"image        {image}")
        out.print(f"prompt       {request['prompt']}")


def _left(time: timedelta) -> str:
    if time <= timedelta():
        return "ran out"
    minutes = int(time.total_seconds()) // 60
    return f"{minutes // 60}h {minutes % 60:02}m"
