"""Spend, prices and reconciliation as they are typed."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from support import SURFACE, caller, request, write_policies
from typer.testing import CliRunner

from policyguard.cli import app, main
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Failure, Outcome, Usage

DAY = datetime(2026, 11, 20, 9, tzinfo=UTC)
BIG = "budgets: [{id: day, limit: $10 / day}]\n"


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def record(week: Path, tmp_path: Path) -> str:
    """A copy of the week for one test."""
    shutil.copytree(week, tmp_path, dirs_exist_ok=True)
    return f"sqlite:///{tmp_path / 'record.sqlite3'}"


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A week with two requests a day, then a day on which one tenant asks for high quality; one timeout, one denial."""
    place = tmp_path_factory.mktemp("week")
    folder = write_policies(place / "policies", avatars=SURFACE + BIG)
    url = f"sqlite:///{place / 'record.sqlite3'}"
    clock = Clock()
    with Guard.open(folder, store=url, moderator=ScriptedModerator(), clock=clock, watch=False) as guard:
        for days in range(7, 0, -1):
            clock.now = DAY - timedelta(days=days)
            for tenant in ("acme", "beta"):
                spent(guard, tenant, "low", Outcome(status=200, usage=Usage(output_image_tokens=196)))
        clock.now = DAY
        for _ in range(3):
            usage = Usage(output_image_tokens=7_024)
            spent(guard, "acme", "high", Outcome(status=200, usage=usage))
        spent(guard, "beta", "low", Outcome(failure=Failure.TIMEOUT, request_id="req_1"))
        guard.admit(request(n=9), caller(tenant="beta"), surface="avatars")
    return place


class Clock:
    now = DAY

    def __call__(self) -> datetime:
        return self.now


def spent(guard: Guard, tenant: str, quality: str, outcome: Outcome) -> None:
    admitted: Any = guard.admit(request(quality=quality), caller(tenant=tenant), surface="avatars")
    guard.sent(admitted.ticket)
    guard.settle(admitted.ticket, outcome)


# ---- spend ------------------------------------------------------------------------------------------------


def test_spend_between_days_as_csv(record: str) -> None:
    text = run(
        "spend",
        "--by",
        "day",
        "--by",
        "tenant",
        "--since",
        "2026-11-20",
        "--until",
        "2026-11-20",
        "--format",
        "csv",
        "--store",
        record,
    )
    rows = {row["tenant"]: row for row in csv.DictReader(StringIO(text))}
    assert rows["acme"] == {
        "day": "2026-11-20",
        "tenant": "acme",
        "requests": "3",
        "images": "3",
        "estimated_micros": "632475",
        "reserved_micros": "0",
        "actual_micros": "632160",
        "presumed_micros": "0",
        "spent_micros": "632160",
        "refused": "0",
        "refused_micros": "0",
    }
    beta = rows["beta"]
    assert (beta["requests"], beta["presumed_micros"], beta["refused"]) == ("1", "5985", "1")
    assert int(beta["refused_micros"]) > 9 * 5_880


def test_a_report_of_other_days_is_another_one(record: str) -> None:
    assert json.loads(run("spend", "--until", "2026-11-12", "--format", "json", "--store", record)) == []
    two = json.loads(run("spend", "--until", "2026-11-13", "--format", "json", "--store", record))
    assert [row["requests"] for row in two] == [2]
    apia = json.loads(run("spend", "--by", "day", "--zone", "Pacific/Apia", "--format", "json", "--store", record))
    assert {row["by"]["day"] for row in apia} == {f"2026-11-{day}" for day in range(13, 21)}


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--since", "yesterday"), "is no day"),
        (("--zone", "Berlin"), "no time zone `Berlin`"),
        (("--by", "tenent"), "did you mean `tenant`?"),
        (("--days", "3", "--since", "2026-11-20"), "exclude each other"),
    ],
)
def test_what_is_mistyped_is_said(record: str, option: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(app, ["spend", *option, "--store", record])
    assert says in result.output + str(result.exception)


def test_no_name_of_a_tenant_is_a_formula(tmp_path: Path) -> None:
    from policyguard.cli.output import csv_cell

    assert [csv_cell(text) for text in ("=1+1", "@x", "acme")] == ["'=1+1", "'@x", "acme"]


def test_a_spike_is_explained_in_plain_sentences(record: str) -> None:
    shown = run("spend", "--explain", "2026-11-20", "--store", record)
    assert "2026-11-20: $0.64 spent, 5326 % more than the mean of the seven days before, $0.01." in shown
    assert "4 requests (mean 2.0), $0.1595 each (mean $0.0059)." in shown
    assert "What moved most is the quality: `high` spent $0.63 and nothing before." in shown
    assert "Then: tenant (acme, +$0.6263)" in shown
    answer = json.loads(run("spend", "--explain", "2026-11-20", "--format", "json", "--store", record))
    assert [moved["by"] for moved in answer["dimensions"][:2]] == ["quality", "tenant"]
    assert "nothing was spent on 2026-01-01" in run("spend", "--explain", "2026-01-01", "--store", record, code=1)


# ---- reconcile --------------------------------------------------------------------------------------------


def leg(record: str) -> str:
    answer = json.loads(run("reconcile", "--format", "json", "--now", "2026-11-21T09:00:00Z", "--store", record))
    (row,) = answer["presumed"]
    assert (row["age_s"], row["why"], row["request_id"], row["charged_micros"]) == (86_400, "timeout", "req_1", 5_985)
    return str(row["leg_id"])


def test_presumed_legs_are_listed_with_their_age(record: str) -> None:
    shown = run("reconcile", "--now", "2026-11-21T09:00:00Z", "--store", record)
    assert "1d" in shown
    assert "1 presumed, $0.0060 together" in shown


def test_one_is_settled_by_its_usage(record: str) -> None:
    options = ("--leg", leg(record), "--usage", "input_text_tokens=7,output_image_tokens=196")
    assert "say who with `--by NAME`" in run("reconcile", *options, "--store", record, code=2)
    assert "settled" in run("reconcile", *options, "--by", "ada@example.com", "--store", record)
    assert "nothing is presumed" in run("reconcile", "--store", record)
    assert "not changed" in run("reconcile", *options, "--by", "ada@example.com", "--store", record, code=1)


def test_one_is_given_back_with_a_name_and_a_reason(record: str) -> None:
    options = ("--leg", leg(record), "--release", "--by", "ada@example.com", "--store", record)
    assert "needs a reason" in run("reconcile", *options, code=2)
    assert "released" in run("reconcile", *options, "--why", "not on the invoice")
    rows = json.loads(run("spend", "--format", "json", "--store", record))
    assert rows[0]["presumed_micros"] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--leg", "leg_1", "--by", "ada"), "give one of them"),
        (("--release",), "not said which leg"),
        (("--leg", "leg_1", "--usage", "output_tokens=1", "--by", "ada"), "presumed"),
    ],
)
def test_what_is_missing_is_said(record: str, options: tuple[str, ...], says: str) -> None:
    assert says in CliRunner().invoke(app, ["reconcile", *options, "--store", record]).output


COUNTS = "request_id,input_text_tokens,output_image_tokens\nreq_1,7,196\nreq_2,7,196\n"


@pytest.mark.parametrize(
    "text",
    [COUNTS, json.dumps({"data": [{"request_id": "req_1", "input_text_tokens": 7, "output_image_tokens": 196}]})],
)
def test_legs_are_settled_by_the_providers_counts(record: str, tmp_path: Path, text: str) -> None:
    file = tmp_path / "counts"
    file.write_text(text)
    options = ("--import", str(file), "--store", record, "--format", "json")
    (would,) = json.loads(run("reconcile", *options))["legs"]
    assert (would["result"], would["charged_micros"], would["was_micros"]) == ("would settle", 5_915, 5_985)
    (did,) = json.loads(run("reconcile", *options, "--by", "ada@example.com"))["legs"]
    assert (did["result"], did["charged_micros"]) == ("settled", 5_915)
    assert json.loads(run("reconcile", *options))["legs"] == []


def test_days_of_the_provider_stand_beside_ours(record: str, tmp_path: Path) -> None:
    file = tmp_path / "days.csv"
    file.write_text("day,model,output_image_tokens\n2026-11-20,gpt-image-2-2026-04-21,21268\n")
    (day,) = json.loads(run("reconcile", "--import", str(file), "--store", record, "--format", "json"))["days"]
    assert day == {
        "day": "2026-11-20",
        "model": "gpt-image-2-2026-04-21",
        "billed_micros": 638_040,
        "actual_micros": 632_160,
        "presumed_micros": 5_985,
        "unexplained_micros": 5_880,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("request_id,model,output_image_tokens\n,m,1\n", "row 1"),
        ("request_id,output_image_tokens\nreq_1,many\n", "is no number of tokens"),
        ("{", "is no JSON"),
        ('{"data": 1}', "no list of counts"),
    ],
)
def test_a_file_that_cannot_be_read_is_said(record: str, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "counts"
    file.write_text(text)
    result = CliRunner().invoke(app, ["reconcile", "--import", str(file), "--store", record])
    assert says in result.output + str(result.exception)


# What OpenAI exports, in the shapes of the SDK's types and of files that people have posted.
NOVEMBER_20, A_DAY = 1_795_132_800, 86_400
TIMES = {"start_time": NOVEMBER_20, "end_time": NOVEMBER_20 + A_DAY}
IMAGE_MODEL = "gpt-image-2-2026-04-21"
USED = {
    "object": "organization.usage.completions.result",
    "input_tokens": 0,
    "output_tokens": 21_268,
    "num_model_requests": 4,
    "input_uncached_tokens": 0,
    "input_text_tokens": 0,
    "input_cached_text_tokens": 0,
    "input_image_tokens": 0,
    "input_cached_image_tokens": 0,
    "output_text_tokens": 0,
    "output_image_tokens": 21_268,
    "model": IMAGE_MODEL,
    "project_id": None,
}
LISTED = {"object": "organization.costs.result", "project_id": None, "quantity": None}
MADE = {"object": "organization.usage.images.result", "num_model_requests": 7, "model": IMAGE_MODEL}


def page(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    empty = {"object": "bucket", "start_time": NOVEMBER_20 - A_DAY, "end_time": NOVEMBER_20, "results": []}
    bucket = {"object": "bucket", **TIMES, "results": list(results)}
    return {"object": "page", "data": [empty, bucket], "has_more": False, "next_page": None, **more}


def cost(dollars: float, line: str | None) -> dict[str, Any]:
    return {**LISTED, "amount": {"value": dollars, "currency": "usd"}, "line_item": line}


USAGE_CSV = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,"
    "service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens,input_text_tokens,"
    "output_text_tokens,input_cached_text_tokens,input_audio_tokens,input_cached_audio_tokens,output_audio_tokens,"
    "input_image_tokens,input_cached_image_tokens,output_image_tokens\n"
    f"{NOVEMBER_20 - A_DAY},{NOVEMBER_20},2026-11-19T00:00:00+00:00,2026-11-20T00:00:00+00:00" + "," * 20 + "\n"
) + "".join(
    f"{NOVEMBER_20 + 60 * n},{NOVEMBER_20 + 60 * n + 60},,,proj_1,2.0,user-1,key_1,{model},FALSE,default,"
    f"0.0,{tokens}.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,{tokens}.0\n"
    for n, (model, tokens) in enumerate([(IMAGE_MODEL, 21_072), (IMAGE_MODEL, 196), ("gpt-5-2025-08-07", 9)])
)
COSTS_CSV = (
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id,"
    "organization_id,organization_name\n"
    f'{NOVEMBER_20},{NOVEMBER_20 + A_DAY},,,0.6380400000000000,usd,"{IMAGE_MODEL}, output",,org-1,Personal\n'
    f"{NOVEMBER_20 + A_DAY},{NOVEMBER_20 + 2 * A_DAY},,,,,,,,\n"
)
MONEY = {"billed_micros": 638_040, "actual_micros": 632_160, "presumed_micros": 5_985, "unexplained_micros": 5_880}
IMAGES = {"made_images": 9, "ours_images": 4, "unexplained_images": 5}
EXPORTS = {
    "usage of completions as JSON": (json.dumps(page(USED, {**USED, "model": "gpt-5-2025-08-07"})), MONEY),
    "its pages in one list": (json.dumps([page(USED, has_more=True), page()]), MONEY),
    "usage of completions as CSV": (USAGE_CSV, MONEY),
    "costs as JSON": (
        json.dumps(page(cost(0.5, f"{IMAGE_MODEL}, output"), cost(0.13804, f"{IMAGE_MODEL}, input"))),
        MONEY,
    ),
    "costs as CSV": (COSTS_CSV, MONEY),
    "costs of all models together": (json.dumps(page(cost(0.63804, None))), MONEY),
    "usage of images as JSON": (json.dumps(page({**MADE, "images": 4}, {**MADE, "images": 5})), IMAGES),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_openais_own_exports_are_compared_by_day_and_settle_nothing(record: str, tmp_path: Path, kind: str) -> None:
    text, numbers = EXPORTS[kind]
    file = tmp_path / "export"
    file.write_text(text)
    options = ("--import", str(file), "--store", record, "--by", "ada@example.com")
    found = json.loads(run("reconcile", *options, "--format", "json"))
    model = None if "together" in kind else IMAGE_MODEL
    assert found["days"] == [{"day": "2026-11-20", "model": model, **numbers}]
    assert found["legs"] == []
    assert ("gpt-5-2025-08-07" in found["left_out"]) == ("gpt-5" in text)
    assert "2026-11-20" in run("reconcile", *options)
    leg(record)  # still presumed


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in USED.items() if name not in names}


REFUSED = {
    "no token columns": ("request_id,tokens\nreq_1,196\n", ("`tokens`", "`output_image_tokens`")),
    "no output tokens": ("request_id,input_text_tokens\nreq_1,7\n", ("`input_text_tokens`", "expected are")),
    "a row without counts": ("request_id,output_image_tokens\nreq_1,196\nreq_2,\n", ("row 2", "absent is not zero")),
    "one count missing": ("request_id,input_text_tokens,output_image_tokens\nreq_1,,196\n", ("row 1", "input_text")),
    "one key missing in JSON": (
        json.dumps([{"request_id": "req_1", "output_image_tokens": 1}, {"request_id": "req_2"}]),
        ("row 2", "`output_image_tokens`"),
    ),
    "a request twice": ("request_id,output_image_tokens\nreq_1,196\nreq_1,1\n", ("row 2", "twice")),
    "half a row": ("request_id,input_text_tokens,output_image_tokens\nreq_1,7\n", ("row 1", "fewer values")),
    "nothing": ("", ("its columns are none",)),
    "an empty export": (
        "start_time,end_time,start_time_iso,end_time_iso\n1,2,a,b\n",
        ("`start_time_iso`", "expected are"),
    ),
    "a page of several": (json.dumps(page(USED, has_more=True)), ("has_more",)),
    "no parts of the tokens": (json.dumps(page(without("output_image_tokens"))), ("expected are",)),
    "a part that is null": (json.dumps(page({**USED, "input_image_tokens": None})), ("`input_image_tokens`",)),
    "parts that are not the total": (json.dumps(page({**USED, "input_tokens": 5})), ("are not its `input_tokens`",)),
    "no model": (json.dumps(page({**USED, "model": None})), ("grouped by model",)),
    "another currency": (
        json.dumps(page({**LISTED, "amount": {"value": 1, "currency": "eur"}, "line_item": None})),
        ("another currency",),
    ),
    "no amount": (
        json.dumps(page({**LISTED, "amount": {"value": None, "currency": "usd"}, "line_item": IMAGE_MODEL})),
        ("`amount_value`",),
    ),
    "a bucket of two days": (
        json.dumps(page(USED)).replace(str(NOVEMBER_20 + A_DAY), str(NOVEMBER_20 + 2 * A_DAY)),
        ("more than one day",),
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_count_that_is_absent_is_not_zero_and_nothing_is_changed(
    record: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    text, says = REFUSED[kind]
    file = tmp_path / "counts"
    file.write_text(text)
    monkeypatch.setattr(
        "sys.argv", ["policyguard", "reconcile", "--import", str(file), "--store", record, "--by", "ada"]
    )
    monkeypatch.setattr("sys.stdout", sys.stdout)  # the command line puts its own there
    monkeypatch.setattr("sys.stderr", sys.stderr)
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr().err
    assert (end.value.code, [word for word in says if word not in shown]) == (2, [])
    leg(record)  # still presumed, at its ceiling


def test_one_request_that_cannot_be_priced_leaves_all_as_they_are(record: str, tmp_path: Path) -> None:
    file = tmp_path / "counts"
    file.write_text(COUNTS + "req_3,x,1\n")
    done = CliRunner().invoke(app, ["reconcile", "--import", str(file), "--store", record, "--by", "ada@example.com"])
    assert done.exit_code != 0
    leg(record)  # still presumed, at its ceiling


def test_what_is_typed_for_one_leg_says_its_output(record: str) -> None:
    options = ("--leg", leg(record), "--usage", "input_text_tokens=7", "--by", "ada@example.com", "--store", record)
    assert "no `output_image_tokens`" in run("reconcile", *options, code=2)


# ---- prices -----------------------------------------------------------------------------------------------


def test_a_price_says_which_row_it_is_from(tmp_path: Path) -> None:
    folder = write_policies(tmp_path / "policies", avatars=SURFACE)
    options = ("price", "--model", "gpt-image-2", "--quality", "low", "--size", "1024x1024", "--policies", str(folder))
    assert "row        packaged" in run(*options)
    (folder / "prices.yaml").write_text(
        "version: 1\nprices:\n  gpt-image-2: {family: gpt-image-2, image_out: $15, text_in: $5, status: current,"
        " date: 2026-11-20, source: contract 4711, confidence: contract}\n"
    )
    shown = run(*options)
    assert "prices     as of 2026-11-20, agreed in a contract" in shown
    assert "source     contract 4711" in shown
    answer = json.loads(run(*options, "--format", "json"))
    assert answer["row"] == f"{folder / 'prices.yaml'}:3:3"
    assert answer["ceiling_micros"] == 196 * 15 + 17 * 5
