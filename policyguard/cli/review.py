"""`policyguard review`: see held requests and held answers, and decide them, as a named person.

Who may decide, and what a vote does, is for the store to say; a refusal of it is printed as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
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
from policyguard.cli.review_content import Shown, content, save_pictures
from policyguard.cli.stores import existing_store, me

if TYPE_CHECKING:
    from policyguard.flow.steps import ReviewItem
    from policyguard.store import Store

app = typer.Typer(no_args_is_help=True, help="Held requests and answers: list, show, approve, reject.")
ReviewId = Annotated[str, typer.Argument(help="The review's id, for example `rev_01J...`.")]
ByOption = Annotated[str, typer.Option("--by", help="Who decides: one of the item's reviewers.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept encrypted beside the vote.")]


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
    from policyguard.flow.states import ReviewState

    states = [state.value for state in ReviewState] if all else [ReviewState.HELD.value]
    now = datetime.now(UTC)
    with existing_store(store) as opened:
        items = opened.reviews(states, now=None if all else now)
    if format == "json":
        print_json([_data(item) for item in items])
        return
    out = console()
    if not items:
        out.print("nothing waits for a review")
        return
    rows = [
        (
            item.review_id,
            item.surface,
            item.kind,
            item.state.value,
            ", ".join(item.reasons),
            f"{_approvals(item)}/{item.approvals}",
            str(item.level),
            _left(item.due_at - now) if item.state is ReviewState.HELD else "",
            dollars(item.ceiling_micros),
        )
        for item in items
    ]
    columns = ("review", "surface", "held", "state", "because of", "votes", "level", "time left", "at most")
    out.print(table(columns, rows, right=("votes", "level", "at most"), whole=("review",)))


@app.command()
def show(
    review_id: ReviewId,
    by: Annotated[str | None, typer.Option("--by", help="Who looks.", show_default="the login name")] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write its pictures there, to be looked at.")] = None,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Show one held request, or the request of a held answer, with its prompt. That somebody looked is recorded.

    With `--save` its pictures are written to a folder, to be looked at and deleted: those of a held answer; the photos,
    the mask and the markup of a held edit; and what other fields of an own route hold. Those of a category that is
    never rendered are not.

    Examples:

      policyguard review show rev_01JD9Z6Q5TEXAMPLE0000000000 --by ada@example.com

      policyguard review show rev_01JD9Z6Q5TEXAMPLE0000000000 --save /tmp/review
    """
    with existing_store(store) as opened:
        item = _find(opened, review_id)
        shown = content(opened, item, by or me())
    written = [] if save is None else _saved(shown, save, item.review_id)
    if format == "json":
        print_json({**_data(item), "request": shown.request, "saved": [str(path) for path in written]})
        return
    _print(item, shown)
    for path in written:
        console().print(f"saved        {path}")


def _saved(shown: Shown, folder: Path, review_id: str) -> list[Path]:
    if shown.restricted:
        fail("this is in a category that is never rendered", code=FINDINGS)
    if not any(picture.data for picture in shown.pictures):
        fail("this review has no pictures to save", hint="leave `--save` out", code=FINDINGS)
    return save_pictures(shown.pictures, folder, review_id)


@app.command()
def approve(
    review_id: ReviewId,
    by: ByOption,
    reason: ReasonOption = "",
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Approve a held request. The caller sends it again with the review's id and is admitted once.

    Examples:

      policyguard review approve rev_01JD9Z6Q5TEXAMPLE0000000000 --by ada@example.com --reason "consent on file"
    """
    _vote(review_id, by, "approve", reason, store, format)


@app.command()
def reject(
    review_id: ReviewId,
    by: ByOption,
    reason: ReasonOption = "",
    store: StoreOption = None,
    format: FormatOption = "text",
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


def _data(item: ReviewItem) -> dict[str, Any]:
    return asdict(item)


def _print(item: ReviewItem, shown: Shown) -> None:
    out, request = console(), shown.request
    where = f"(surface {item.surface}, level {item.level}, round {item.round})"
    out.print(f"{item.review_id}  {item.kind} {item.state.value}  {where}")
    out.print(f"because of   {', '.join(item.reasons)}")
    out.print(f"costs        at most {dollars(item.ceiling_micros)}")
    out.print(f"held since   {item.created_at:%Y-%m-%d %H:%M} UTC, runs out {item.due_at:%Y-%m-%d %H:%M} UTC")
    out.print(f"reviewers    {', '.join(item.reviewers)} ({item.approvals} must approve)")
    for at, people in item.escalate:
        out.print(f"escalates    {at:%Y-%m-%d %H:%M} UTC to {', '.join(people)}")
    for vote in item.votes:
        out.print(f"vote         {vote.reviewer}: {vote.verdict} in round {vote.round} {vote.reason}")
    if shown.restricted:
        out.print("request      not shown: it is in a category that is never rendered")
    elif request is None:
        out.print("request      not kept any more")
    else:
        out.print(f"asked for    {', '.join(f'{k} {v}' for k, v in request['parameters'].items())}")
        out.print(f"caller       {', '.join(f'{k} {v}' for k, v in request['caller'].items())}")
        for image in request["images"]:
            out.print(f"{image['part']:<12} {_picture(image)}")
        for number, line in enumerate(request["prompt"].split("\n")):
            out.print(f"{'prompt' if number == 0 else '':<12} {line}")
        for line in _also_sent(request):
            out.print(f"also sent    {line}")


def _also_sent(request: dict[str, Any]) -> Iterator[str]:
    """What no policy looked at and the approval covers, a line for each value."""
    whole = request.get("whole") or {}
    if whole.get("query"):
        yield f"?{whole['query']}"
    for path, value in _leaves({**request.get("more", {}), **whole.get("body", {})}):
        if value != request["prompt"]:
            yield f"{path}: {orjson.dumps(value).decode()}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that holds no others, with its path, like `style.colors[0]`."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for at, each in enumerate(value):
            yield from _leaves(each, f"{path}[{at}]")
    else:
        yield path, value


def _picture(row: dict[str, Any]) -> str:
    if "url" in row:
        return f"at {row['url']}, not fetched"
    size = f"{row['pixels']}, " if row["pixels"] else ""
    return f"{row['media_type']}, {size}{row['bytes'] // 1000} kB, sha256 {row['sha256'][:12]}"


def _left(time: timedelta) -> str:
    if time <= timedelta():
        return "ran out"
    minutes = int(time.total_seconds()) // 60
    return f"{minutes // 60}h {minutes % 60:02}m"
