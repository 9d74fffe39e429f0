"""How verbs speak: one `--format` option, tables for people, JSON for programs, one way to end with a finding.

Exit codes: 0 ok, 1 findings, 2 usage or configuration, 3 internal. Colours only on a terminal. Everything that is
printed passes here: a text is one line, and what a terminal would obey or nobody would see in it becomes an escape.
What others print in this process (usage errors, warnings, tracebacks) passes `Visible`.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NoReturn, TextIO, cast

import orjson
import typer
from rich.console import Console
from rich.table import Table

from policyguard.settings import setting, without_secrets
from policyguard.text.visible import visible, visible_json

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


class Visible:
    """A stream whose readers see every character: only line ends are left as they are."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        self.raw.write(visible(text, keep="\n"))
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def show_all() -> None:
    """From now on, whatever this process prints is visible."""
    sys.stdout = cast("TextIO", Visible(sys.stdout))
    sys.stderr = cast("TextIO", Visible(sys.stderr))


class Lines(Console):
    """Prints each text as one line: a line end in it is somebody's text, and no second line."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(visible(each) if isinstance(each, str) else each for each in objects), **options)

    def lines(self, text: str) -> None:
        """Print a layout of several lines."""
        for line in text.split("\n"):
            self.print(line)


def console(*, stderr: bool = False) -> Lines:
    """A console that wraps nothing when its output is read by a program."""
    stream = sys.stderr if stderr else sys.stdout
    stream = stream.raw if isinstance(stream, Visible) else stream  # colours are made of control characters
    width = None if stream.isatty() else 120
    return Lines(file=stream, width=width, highlight=False, emoji=False, markup=False, soft_wrap=not stream.isatty())


def as_json(data: Any, *, indent: bool = True) -> str:
    """JSON in the one form that all verbs write."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS if indent else 0
    try:
        text = orjson.dumps(data, option=options, default=_plain).decode()
    except TypeError:  # a file's name that is no UTF-8
        text = json.dumps(data, ensure_ascii=False, indent=2 if indent else None, sort_keys=indent, default=_plain)
    return visible_json(text)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else str(value)


def print_json(data: Any) -> None:
    sys.stdout.write(as_json(data) + "\n")


def csv_cell(text: str) -> str:
    """Spreadsheets run what begins so, and callers choose their names."""
    return visible(f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = (), whole: Iterable[str] = ()
) -> Table:
    """A plain table; the columns named in `right` are numbers, those in `right` and `whole` are never cut."""
    result = Table(box=None, pad_edge=False, header_style="dim")
    numbers = set(right)
    uncut = numbers.union(whole)
    for name in columns:
        result.add_column(visible(name), justify="right" if name in numbers else "left", no_wrap=name in uncut)
    for row in rows:
        result.add_row(*map(visible, row))
    return result


def print_rows(out: Lines, rows: Sequence[tuple[Sequence[str], str]]) -> None:
    """Short cells in columns, each row with what is longer below it: nothing is cut on a narrow terminal."""
    rows = [(tuple(map(visible, cells)), visible(below)) for cells, below in rows]
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
    out.print(f"error: {without_secrets(message)}")
    if hint:
        out.print(f"hint: {without_secrets(hint)}")
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


def bar(value: int, top: int, width: int = 20) -> str:
    """A bar for tables; anything above nothing is at least visible."""
    return "" if value <= 0 or top <= 0 else "█" * max(1, round(value / top * width))
