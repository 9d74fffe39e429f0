"""`policyguard audit verify` and `prove`: what the seal of the record shows, here and to others.

What a person reads of it is here; the arithmetic is in `audit`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from policyguard.cli.output import (
    FINDINGS,
    FormatOption,
    NowOption,
    StoreOption,
    console,
    fail,
    moment,
    print_json,
    progress,
)
from policyguard.cli.stores import existing_store, vault_of

if TYPE_CHECKING:
    from policyguard.audit.private import Vault
    from policyguard.audit.verify import VerificationReport

_SHOWN = 50  # findings, as text


def verify(
    proof: Annotated[Path | None, typer.Option(help="Check this proof instead; no store is needed.")] = None,
    public_key: Annotated[
        str | None, typer.Option("--public-key", help="Who must have signed the proof: `ed25519:...`.")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="A file of checkpoints that were kept elsewhere.")] = None,
    now: NowOption = None,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Prove that no sealed row was changed, removed, added or moved; else say which. Exit code 1 on findings.

    Rows that are not sealed yet are not covered. A record that was set back as a whole looks like an older one: against
    that, keep checkpoints elsewhere (`jobs run --checkpoints`, exports) and give them with --against.

    Examples:

      policyguard audit verify

      policyguard audit verify --against /mnt/elsewhere/checkpoints.jsonl --format json

      policyguard audit verify --proof proof.json --public-key ed25519:Xw3...
    """
    if proof is not None:
        _verify_proof(proof, public_key, format)
        return
    from policyguard.audit.proof import published
    from policyguard.audit.verify import verify as run

    with existing_store(store) as opened, progress("verifying") as report_progress:
        vault = vault_of(store)
        known = published(_readable(against), vault) if against else {}
        report = run(opened, vault, moment(now), published=known, progress=report_progress)
    if format == "json":
        print_json(_data(report, vault))
    else:
        _print(report, vault)
    if not report.clean:
        raise typer.Exit(FINDINGS)


def prove(
    event: Annotated[str, typer.Argument(help="The id of a row, for example `request.decided:dec_01J...`.")],
    since: Annotated[
        int | None, typer.Option(help="Also that the checkpoint over so many rows is the beginning.", min=1)
    ] = None,
    store: StoreOption = None,
) -> None:
    """Print a proof that a row stands in the sealed record, as JSON for `audit verify --proof`. It holds the whole row.

    Examples:

      policyguard audit prove request.decided:dec_01JD9Z6Q5TEXAMPLE0000000000 > proof.json

      policyguard audit prove leg.settled:leg_01JD9Z6Q5TEXAMPLE0000000000 --since 12000
    """
    from policyguard.audit.proof import prove as make

    with existing_store(store) as opened:
        proof = make(opened, vault_of(store), event, since=since)
    if proof is None:
        hint = "`policyguard audit show` says the ids of rows; `policyguard jobs run --once` seals those that wait"
        fail(f"there is no sealed row `{event}`", hint=hint, code=FINDINGS)
    print_json(proof)


def _verify_proof(file: Path, key: str | None, format: str) -> None:
    from policyguard.audit.proof import NoProof, check

    try:
        proof = orjson.loads(_readable(file).read_bytes())
        problems = check(proof, key)
    except orjson.JSONDecodeError:
        fail(f"`{file}` is no proof: it is no JSON", code=FINDINGS)
    except NoProof as error:
        fail(f"`{file}` is no proof: {error}", code=FINDINGS)
    row, checkpoint = proof["row"], proof["checkpoint"]
    if format == "json":
        print_json({"holds": not problems, "problems": problems, "row": row, "checkpoint": checkpoint})
    else:
        out = console()
        for problem in problems:
            out.print(f"does not hold: {problem}")
        if not problems:
            out.print(f"holds: row {row['seq']} `{row['id']}` is one of {checkpoint['size']} that were signed")
            out.print(f"signed at {checkpoint['at']} by {key or checkpoint['public_key']}")
        if key is None:
            out.print("the key is the proof's own; compare it with the one you know, or give that with --public-key")
    if problems:
        raise typer.Exit(FINDINGS)


def _readable(file: Path) -> Path:
    if not file.is_file():
        fail(f"there is no file `{file}`")
    return file


def _data(report: VerificationReport, vault: Vault) -> dict[str, Any]:
    from policyguard.audit.proof import document

    newest = document(report.newest, vault) if report.newest else None
    return {
        "clean": report.clean,
        "sealed": report.sealed,
        "rows": report.rows,
        "removed": report.removed,
        "unsealed": report.unsealed,
        "checkpoints": report.checkpoints,
        "newest": newest,
        "findings": [asdict(finding) for finding in report.findings],
        "more": report.more,
    }


def _print(report: VerificationReport, vault: Vault) -> None:
    from policyguard.audit.proof import public_key

    out = console()
    for finding in report.findings[:_SHOWN]:
        out.print(f"{finding.what:<20} {finding.message}")
    hidden = len(report.findings) - len(report.findings[:_SHOWN]) + report.more
    if hidden:
        out.print(f"and {hidden:,} more; --format json shows up to 1,000")
    out.print(f"sealed   {report.sealed:,} rows, {report.checkpoints:,} checkpoints")
    out.print(f"there    {report.rows:,} rows; {report.removed:,} more were removed by retention, after their time")
    out.print(f"waiting  {report.unsealed:,} rows, not covered yet; `policyguard jobs run` seals them")
    if report.newest is not None:
        out.print(f"newest   {report.newest.at:%Y-%m-%d %H:%M:%S} UTC, root {report.newest.root.hex()}")
        out.print(f"signer   {public_key(vault, report.newest.key_id)}")
    out.print("verified: nothing sealed was changed, removed, added or moved" if report.clean else "NOT verified")
