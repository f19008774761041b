"""Tables for a terminal, in its width. Rows are written in parts, as they are read.

No column is left out and no id is shortened, so that an id can be copied from a table into another command. Rich's
tables drop columns for which there is no room, and take several times as long as reading the rows.
"""

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

from nextarget.cli.output import printable

ROWS_AT_ONCE = 200
"""Rows that are in memory and written together."""
_USUAL_SIZE = (80, 24)
"""Columns and lines, if the terminal does not report its size."""
_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `width` is in characters. Columns without it share the remaining width, and need `least`.

    With `below`, the column may move to a line of its own under the others, if the terminal is too narrow.
    """

    title: str
    width: int | None = None
    least: int = 14
    below: bool = False

    @property
    def needs(self) -> int:
        return self.width or self.least


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """A table of rows; on a very narrow terminal, a line for every cell, with its column's title. If there are no rows,
    the sentence `empty`."""
    total = shutil.get_terminal_size(_USUAL_SIZE).columns
    layout = _Lines.fitting(columns, total) or _Cells([column.title for column in columns], total)
    remaining = iter(rows)
    part = list(islice(remaining, ROWS_AT_ONCE))
    if not part:
        _write(f"{empty}\n")
        return
    _write(layout.head(), *(layout.shown([printable(cell) for cell in row]) for row in part))
    while part := list(islice(remaining, ROWS_AT_ONCE)):
        _write(*(layout.shown([printable(cell) for cell in row]) for row in part))


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values, a pair on a line. A value that does not fit beside its name is on the next line."""
    total = shutil.get_terminal_size(_USUAL_SIZE).columns
    _write(_Cells([name for name, _ in facts], total).shown([printable(value) for _, value in facts], apart=False))


def _write(*parts: str) -> None:
    sys.stdout.write("".join(parts))


class _Lines:
    """A line for every row, and one for every cell that moves below. If the first cell is too wide for its column, it
    has a line of its own before the other cells; other cells are folded."""

    def __init__(self, columns: Sequence[Column], below: Sequence[bool], total: int) -> None:
        self._titles = [column.title for column in columns]
        self._below = [place for place, moved in enumerate(below) if moved]
        beside = [column for column, moved in zip(columns, below, strict=True) if not moved]
        flexible = sum(column.width is None for column in beside)
        room = total - sum(column.width or 0 for column in beside) - len(beside) + 1
        self._beside = [place for place, moved in enumerate(below) if not moved]
        self._widths = [column.width or room // flexible for column in beside]

    @classmethod
    def fitting(cls, columns: Sequence[Column], total: int) -> "_Lines | None":
        """The first layout that fits the terminal: all columns on one line, or some of them below; else None."""
        for below in ([False] * len(columns), [column.below for column in columns]):
            beside = [column.needs for column, moved in zip(columns, below, strict=True) if not moved]
            widest = max((column.needs for column, moved in zip(columns, below, strict=True) if moved), default=0)
            if sum(beside) + len(beside) - 1 <= total and len(_INDENT) + widest <= total:
                return cls(columns, below, total)
        return None

    def head(self) -> str:
        return self.shown(self._titles)

    def shown(self, cells: Sequence[str]) -> str:
        beside = [cells[place] for place in self._beside]
        lines = []
        if _width(beside[0]) > self._widths[0]:
            lines.append(beside[0])
            beside[0] = ""
        folded = map(_fold, beside, self._widths)
        lines += [_joined(line, self._widths) for line in zip_longest(*folded, fillvalue="")]
        lines += [_INDENT + cells[place] for place in self._below]
        return "".join(f"{line}\n" for line in lines)


class _Cells:
    """A line for every cell, after its column's title. A cell that does not fit is on the next line. A cell that is
    wider than the terminal gets no line break, so that an id can be copied."""

    def __init__(self, titles: Sequence[str], total: int) -> None:
        self._titles = titles
        self._width = max((len(title) for title in titles), default=0) + len(_INDENT)
        self._total = total

    def head(self) -> str:
        return ""

    def shown(self, cells: Sequence[str], *, apart: bool = True) -> str:
        return "".join(map(self._cell, self._titles, cells)) + ("\n" if apart else "")

    def _cell(self, title: str, text: str) -> str:
        width = _width(text)
        if self._width + width <= self._total:
            return f"{title:<{self._width}}{text}".rstrip() + "\n"
        return f"{title}\n{_INDENT if len(_INDENT) + width <= self._total else ''}{text}\n"


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    return " ".join(cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _fold(text: str, width: int) -> list[str]:
    """The text, split into pieces that fit into the column."""
    if text.isascii():
        return [text] if len(text) <= width else [text[at : at + width] for at in range(0, len(text), width)]
    from rich.cells import chop_cells

    return [text] if _width(text) <= width else list(chop_cells(text, width))


def _width(text: str) -> int:
    """The columns that a text takes on a terminal: letters of some scripts take two, combining marks none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
