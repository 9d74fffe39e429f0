"""`policyguard schema`: the JSON Schema of policy files, for editors.

The schema is made from the documents that the loader reads, so the two cannot differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from policyguard.cli.output import console, fail

SchemaKind = Literal["surface", "org", "prices", "tests"]
FILES: dict[SchemaKind, str] = {
    "surface": ".schema.json",
    "org": ".org.schema.json",
    "prices": ".prices.schema.json",
    "tests": "tests/.schema.json",
}
_NAMED: dict[str, SchemaKind] = {"org.yaml": "org", "prices.yaml": "prices"}


def schema(
    kind: Annotated[SchemaKind, typer.Argument(help="Which kind of file.")] = "surface",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file instead of printing.")] = None,
    write: Annotated[Path | None, typer.Option("--write", help="Write all kinds into this policies folder.")] = None,
) -> None:
    """Print the JSON Schema of a policy file or of a file of tests, so that an editor completes and checks it.

    An editor with a YAML language server reads it where a surface's file begins with
    `# yaml-language-server: $schema=.schema.json`, as do files of tests, and org.yaml and
    prices.yaml with `$schema=.org.schema.json` and `$schema=.prices.schema.json`.

    Examples:

      policyguard schema --write policies

      policyguard schema org

      policyguard schema -o schemas/surface.json
    """
    if write is not None:
        if output is not None:
            fail("`--write` and `--output` are two ways to do it", hint="give one of them")
        written = write_schemas(write)
    elif output is not None:
        written = [_write(output, kind)]
    else:
        typer.echo(_text(kind), nl=False)
        return
    for path in written:
        console().print(f"wrote {path}")


def write_schemas(folder: Path) -> list[Path]:
    """Write the schemas of all kinds where `first_line` names them."""
    if not folder.is_dir():
        fail(f"there is no folder `{folder}`", hint="`policyguard init` writes one")
    written = []
    for kind, name in FILES.items():
        if (folder / name).parent.is_dir():  # not every folder has tests
            written.append(_write(folder / name, kind))
    return written


def _write(path: Path, kind: SchemaKind) -> Path:
    try:
        path.write_text(_text(kind))
    except OSError as error:
        fail(f"`{path}` cannot be written: {(error.strerror or 'unknown').lower()}")
    return path


def first_line(path: Path) -> str:
    """The comment that tells editors the schema of a policy file."""
    kind = "tests" if path.parent.name == "tests" else _NAMED.get(path.name, "surface")
    return f"# yaml-language-server: $schema={Path(FILES[kind]).name}\n"


def _text(kind: SchemaKind) -> str:
    from policyguard.policy import schema

    if kind != "tests":
        return schema.as_text(schema.schema(kind))
    from policyguard.testing.document import SuiteDocument

    return schema.as_text(schema.schema_of(SuiteDocument))
