"""How results reach standard output: tab-separated lines, JSON when asked; tables for a terminal are in `tables`.

What a database or a setting holds is shown, never interpreted, by whatever reads it: a terminal, a program that cuts
lines at tabs, a spreadsheet. What would be is written as an escape, and a backslash as two, so that no text can pass
for the escape of another. JSON holds the text itself.
"""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_MARKS = frozenset({"Mn", "Me"})
_MOST_MARKS = 3
"""On one letter. Scripts that need marks get by with so many."""
_UNSEEN = frozenset(
    [chr(code) for code in (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180F, 0x2800, 0x3164, 0xFFA0, 0x1D159)]
    + [
        chr(code)
        for first, last in ((0x180B, 0x180D), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
        for code in range(first, last + 1)
    ]
)
"""What Python calls printable and nobody sees: fillers, joiners, and selectors of a variant."""
_CELL_ENDS = frozenset(',;"')
_FORMULA_SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def say(text: str) -> None:
    """One line to the person at the terminal, on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text with an escape for whatever is not seen, or moves or covers what is.

    That is every control and format character, turns of direction among them, fillers that take no space or only
    space, and combining marks that have nothing to stand on, or are piled up beyond the neighbouring lines.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    shown = []
    marks = _MOST_MARKS  # the first one would stand on what comes before the text
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in _MARKS else 0
        seen = char.isprintable() and char not in _UNSEEN and char != "\\" and marks <= _MOST_MARKS
        shown.append(char if seen else _escape(char))
    return "".join(shown)


def field(text: str) -> str:
    """The text as a field of a tab-separated line, which a spreadsheet may be given to read.

    There a comma, a semicolon or a quote would begin another cell, and some signs at a cell's beginning a formula
    (OWASP, CSV Injection).
    """
    shown = "".join(_escape(char) if char in _CELL_ENDS else char for char in printable(text))
    cell = shown.lstrip(" ")
    if not cell.startswith(_FORMULA_SIGNS):
        return shown
    return shown[: -len(cell)] + _escape(cell[0]) + cell[1:]


def _escape(char: str) -> str:
    escape = char.encode("unicode_escape").decode()
    return escape if escape != char else f"\\x{ord(char):02x}"


def on_terminal() -> bool:
    return sys.stdout.isatty()


def print_lines(rows: Iterable[Sequence[str]], *, own: bool = False) -> None:
    """One line for each row, its fields separated by tabs, without a header.

    What the operator wrote, `own`, is trusted to be no formula: lists of his keep their commas.
    """
    write = printable if own else field
    for row in rows:
        print("\t".join(map(write, row)))


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
