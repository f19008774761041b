"""Writes the published table from the rows of a run: `python -m tests.benchmarks.table [FILE]`.

FILE comes from `python -m tests.benchmarks --json FILE`. It is kept as `published.json`, and a test compares the page
with it.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks.rows import Row, Run
from tests.benchmarks.servers import ROOT
from tests.reference.markdown import table

PAGE = ROOT / "docs/explain/cost.md"
PUBLISHED = Path(__file__).with_name("published.json")
PLACES = ("SQLite, one worker", "SQLite, two workers", "PostgreSQL, one worker", "PostgreSQL, two workers")
_BLOCK = re.compile(r"(?<=<!-- generated: benchmarks -->\n).*?(?=<!-- end: benchmarks -->\n)", re.DOTALL)


def main() -> None:
    run = Run.read(Path(sys.argv[1]) if sys.argv[1:] else PUBLISHED)
    run.write(PUBLISHED)
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), run), encoding="utf-8")


def renewed(page: str, run: Run) -> str:
    """The page with the table of this run. Raises ValueError when the page lacks the block."""
    text, number = _BLOCK.subn(lambda _: f"\n{block(run)}\n\n", page)
    if number != 1:
        raise ValueError("The page must have one block: <!-- generated: benchmarks --> to <!-- end: benchmarks -->")
    return text


def block(run: Run) -> str:
    """The date, the machine, and a line for each work and load, with a column for each place."""
    lines: dict[tuple[str, str, str], list[Row]] = {}
    for row in run.rows:
        lines.setdefault((row.work, row.unit, row.load), []).append(row)
    head = ["work", "load", *PLACES, "budget"]
    cells = ([f"{work}, {unit}", load, *_cells(rows), _budget(rows)] for (work, unit, load), rows in lines.items())
    return f"Measured on {run.date}: {run.machine}.\n\n{table(head, cells)}"


def _cells(rows: list[Row]) -> Iterable[str]:
    """A row that says no place does not depend on it: it is in the first column."""
    found = {row.place or PLACES[0]: row for row in rows}
    if unknown := found.keys() - set(PLACES):
        raise ValueError(f"The table has no column for {', '.join(sorted(unknown))}")
    return (_cell(found[place]) if place in found else "" for place in PLACES)


def _cell(row: Row) -> str:
    if row.missing:
        return f"not measured: {row.missing}"
    spread = f"{row.low:g} to {row.high:g}" if row.low != row.high else ""
    others = "; ".join(filter(None, (spread, row.measured)))
    figure = f"**{row.figure:g}**" if row.verdict == "OVER" else f"{row.figure:g}"
    return f"{figure} ({others})" if others else figure


def _budget(rows: list[Row]) -> str:
    return "" if rows[0].budget is None else f"{rows[0].budget:g}"


if __name__ == "__main__":
    main()
