"""How verbs speak: one `--format` option, tables for people, JSON for programs, one way to end with a finding.

Exit codes: 0 ok, 1 findings, 2 usage or configuration, 3 internal. Colours only on a terminal.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table

from policyguard.settings import setting

FormatOption = Annotated[Literal["text", "json"], typer.Option("--format", help="Text for people, JSON for programs.")]
PoliciesOption = Annotated[
    str | None,
    typer.Option("--policies", envvar="POLICYGUARD_POLICIES", help="The policies folder.", show_default="policies"),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", envvar="POLICYGUARD_STORE", help="The store's URL.", show_default="sqlite:///policyguard.sqlite3"
    ),
]
NowOption = Annotated[
    str | None,
    typer.Option("--now", help="Another time than now, like 2026-11-24T12:00:00Z.", show_default=False),
]

FINDINGS, USAGE, INTERNAL = 1, 2, 3
FOLLOW_EVERY_S = 1.0


def console(*, stderr: bool = False) -> Console:
    """A console that wraps nothing when its output is read by a program."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    return Console(file=stream, width=width, highlight=False, emoji=False, markup=False, soft_wrap=not stream.isatty())


def print_json(data: Any) -> None:
    text = orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS, default=str).decode()
    sys.stdout.write(text + "\n")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = (), whole: Iterable[str] = ()
) -> Table:
    """A plain table; the columns named in `right` are numbers, those in `right` and `whole` are never cut."""
    result = Table(box=None, pad_edge=False, header_style="dim")
    numbers = set(right)
    uncut = numbers.union(whole)
    for name in columns:
        result.add_column(name, justify="right" if name in numbers else "left", no_wrap=name in uncut)
    for row in rows:
        result.add_row(*row)
    return result


def print_rows(out: Console, rows: Sequence[tuple[Sequence[str], str]]) -> None:
    """Short cells in columns, each row with what is longer below it: nothing is cut on a narrow terminal."""
    columns = zip(*(cells for cells, _ in rows), strict=True)
    widths = [max(map(len, column)) for column in columns]
    for cells, below in rows:
        out.print("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())
        indent = " " * (widths[0] + 2)
        wrapped = textwrap.wrap(below, max(out.width, len(indent) + 20) - len(indent)) if out.is_terminal else [below]
        for line in wrapped:
            out.print(f"{indent}{line}")


def rounds(follow: bool = True) -> Iterator[None]:
    """One round now, and with `follow` another one every second, until Ctrl-C ends what is done in them."""
    yield
    while follow:
        time.sleep(FOLLOW_EVERY_S)
        yield


@contextmanager
def progress(doing: str) -> Iterator[Callable[[int, int], None] | None]:
    """For long work: a bar on the error stream of a terminal, moved by `(done, total)`; None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def dollars(micros: int | None, *, places: int = 4) -> str:
    """Micro-dollars as people read them: `$0.2107`."""
    if micros is None:
        return "-"
    sign = "-" if micros < 0 else ""
    return f"{sign}${abs(micros) / 1_000_000:,.{places}f}"


def fail(message: str, *, hint: str = "", code: int = USAGE) -> NoReturn:
    """End with an error in plain words."""
    out = console(stderr=True)
    out.print(f"error: {message}")
    if hint:
        out.print(f"hint: {hint}")
    raise typer.Exit(code)


def policies_folder(given: str | None, verb: str) -> str:
    """The folder as given, else by the setting. A file of it, as commit hooks name them, is a usage error."""
    path = given or setting("policies") or "policies"
    if os.path.isfile(path):
        folder = os.path.dirname(path)
        folder = os.path.dirname(folder) if os.path.basename(folder) == "tests" else folder
        fail(f"`{path}` is a file", hint=f"policies mean something together: `policyguard {verb} {folder or '.'}`")
    return path


def moment(text: str | None) -> datetime:
    """The time that `--now` gives, else the current one."""
    if text is None:
        return datetime.now(UTC)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        given = None
    if given is None or given.tzinfo is None:
        fail(f"`--now {text}` is no time", hint="write it like `2026-11-24T12:00:00Z`, with its zone")
    return given.astimezone(UTC)
