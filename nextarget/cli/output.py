"""Writes results to standard output: tab-separated lines, or JSON; and explains errors on standard error. `tables`
writes tables for a terminal.

A text from the database or a setting must not control the program that reads it: a terminal, a spreadsheet, a program
that splits lines at tabs. Characters that could do so are written as escapes. A backslash is written as two, so that
an output can only mean one text. JSON has its own escapes.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from nextarget.errors import ConfigurationError, NexTargetError, OperatorError, UserAmbiguous
from nextarget.model import UNSEEN

_MARKS = frozenset({"Mn", "Me"})
_MOST_MARKS = 3
"""Combining marks on one letter. Scripts that use such marks need no more."""
_CELL_ENDS = frozenset(',;"')
_FORMULA_SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def say(text: str) -> None:
    """Write one line for the user to standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text with escapes for characters that are invisible, or that move or cover other text.

    These are control and format characters (also those that change the direction of writing), invisible fillers, and
    combining marks without a letter or beyond three on one letter, which would cover the lines above and below.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    shown = []
    marks = _MOST_MARKS  # a mark at the beginning has no letter
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in _MARKS else 0
        seen = char.isprintable() and char not in UNSEEN and char != "\\" and marks <= _MOST_MARKS
        shown.append(char if seen else _escape(char))
    return "".join(shown)


def field(text: str) -> str:
    """The text as a field of a tab-separated line, safe for a spreadsheet.

    In a spreadsheet, a comma, a semicolon or a quote can begin another cell, and some signs at the beginning of a cell
    begin a formula (OWASP, CSV Injection).
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
    """A line for every row, with tabs between its fields, without a header.

    With `own`, the operator or this program wrote the text: it needs no protection against formulas, and its commas
    are kept.
    """
    write = printable if own else field
    for row in rows:
        print("\t".join(map(write, row)))


def print_json(document: object) -> None:
    """A JSON document on several lines, in ASCII."""
    print(_json(document, indent=2))


def print_json_array(items: Iterable[Mapping[str, object]]) -> None:
    """A JSON array with one item on a line. An item is written as soon as it is read."""
    opening = "["
    for item in items:
        print(f"{opening}\n{_json(item)}", end="")
        opening = ","
    print("\n]" if opening == "," else "[]")


def _json(document: object, *, indent: int | None = None) -> str:
    # ASCII JSON escapes every control character but this one.
    return json.dumps(document, indent=indent).replace("\x7f", "\\u007f")


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, if that is a terminal. Call the result with the steps done and the total."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors into a sentence and SystemExit with the exit status."""
    try:
        yield
    except NexTargetError as error:
        _explain(error)
        raise SystemExit(error.exit_status if isinstance(error, OperatorError) else 1) from None
    except BrokenPipeError:
        _drop_output()  # the reader has ended, as in `nextarget list-users | head`
        raise SystemExit(0) from None
    except OSError as error:
        _drop_output()
        say(f"Error: {error.strerror or type(error).__name__}{f': {error.filename}' if error.filename else ''}.")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _explain(error: NexTargetError) -> None:
    if isinstance(error, ConfigurationError):
        count = len(error.problems)
        say(f"Error: {count} problem{'s' if count != 1 else ''} with the settings:")
        for problem in error.problems:
            say(f"  {problem}")
        return
    say(f"Error: {error.for_operator}")
    if isinstance(error, UserAmbiguous):
        for choice in error.choices:
            say(f"  {choice}")
    if error.note:
        say(f"Reason: {error.note}")


def _drop_output() -> None:
    """Send standard output to the null device: flushing it at the end of the program would fail again."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
