"""`policyguard schema`: the JSON Schema of policy files, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from policyguard.cli.output import console


def schema(
    kind: Annotated[Literal["surface", "org", "tests"], typer.Argument(help="Which kind of file.")] = "surface",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file instead of printing.")] = None,
) -> None:
    """Print the JSON Schema of a policy file or of a file of tests, so that an editor completes and checks it.

    Put `# yaml-language-server: $schema=.schema.json` at the top of a surface's file.

    Examples:

      policyguard schema -o policies/.schema.json

      policyguard schema org -o policies/.org.schema.json

      policyguard schema tests -o policies/tests/.schema.json
    """
    text = orjson.dumps(_build(kind), option=orjson.OPT_INDENT_2).decode() + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text)
    console().print(f"wrote {output}")


def _build(kind: Literal["surface", "org", "tests"]) -> dict[str, Any]:
    from policyguard.policy import schema

    if kind != "tests":
        return schema.schema(kind)
    from policyguard.testing.document import SuiteDocument

    return schema.schema_of(SuiteDocument, kind)
