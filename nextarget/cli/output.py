"""How results reach standard output: a table on a terminal, tab-separated lines elsewhere, JSON when asked.

What a database or a setting holds is shown, never interpreted: control characters are escaped, markup is text.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_ROWS_AT_ONCE = 200
_NARROWEST = 14


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; one without `width` (in characters) shares what the others leave."""

    title: str
    width: int | None = None


def say(text: str) -> None:
    """One line to the person at the terminal, on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text with everything that would move a cursor, or end a line or a field, written as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def on_terminal() -> bool:
    return sys.stdout.isatty()


def print_lines(rows: Iterable[Sequence[str]]) -> None:
    """One line for each row, its fields separated by tabs, without a header."""
    for row in rows:
        print("\t".join(printable(field) for field in row))


def print_json(document: object) -> None:
    """One JSON document, over several lines, in ASCII."""
    print(_json(document, indent=2))


def print_json_array(items: Iterable[Mapping[str, object]]) -> None:
    """One JSON array, an item a line, each written as it is read."""
    opening = "["
    for item in items:
        print(f"{opening}\n{_json(item)}", end="")
        opening = ","
    print("\n]" if opening == "," else "[]")


def _json(document: object, *, indent: int | None = None) -> str:
    # The one control character that JSON, when it is ASCII, leaves as it is.
    return json.dumps(document, indent=indent).replace("\x7f", "\\u007f")


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """A table for people, written in parts as its rows are read, so that its length does not matter."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    widths = _widths(columns, console.width)
    remaining = iter(rows)
    part = list(islice(remaining, _ROWS_AT_ONCE))
    first = True
    while first or part:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=first)
        for column, width in zip(columns, widths, strict=True):
            table.add_column(column.title, width=width, overflow="fold")
        for row in part:
            table.add_row(*(Text(printable(field)) for field in row))
        console.print(table)
        first = False
        part = list(islice(remaining, _ROWS_AT_ONCE))


def _widths(columns: Sequence[Column], total: int) -> list[int]:
    taken = sum(column.width or 0 for column in columns) + len(columns) - 1
    flexible = sum(column.width is None for column in columns)
    share = max(_NARROWEST, (total - taken) // flexible) if flexible else 0
    return [column.width or share for column in columns]


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, told how much of how much is done; nothing at all unless that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
