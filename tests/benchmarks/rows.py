"""What is measured, as one row for each figure, and the file that keeps all rows of a run."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Self


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: the median of the rounds, in `unit`, and the lowest and highest round.

    `place` is the database and the number of workers, `load` how much the server had to do; empty if it makes no
    difference. `measured` is the figure that was divided, in words. `missing` says why there is no figure.
    """

    work: str
    unit: str
    place: str = ""
    load: str = ""
    figure: float = 0.0
    low: float = 0.0
    high: float = 0.0
    measured: str = ""
    budget: float | None = None
    missing: str = ""

    @classmethod
    def of(
        cls,
        work: str,
        unit: str,
        rounds: Sequence[float],
        *,
        place: str = "",
        load: str = "",
        measured: str = "",
        budget: float | None = None,
    ) -> Self:
        figure, low, high = (_rounded(value) for value in (median(rounds), min(rounds), max(rounds)))
        return cls(work, unit, place, load, figure, low, high, measured, budget)

    @property
    def verdict(self) -> str:
        if self.missing or self.budget is None:
            return ""
        return "within" if self.figure <= self.budget else "OVER"


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run of the benchmarks. `date` is a day in UTC; `machine` says nothing that tells whose it is."""

    date: str
    machine: str
    rows: list[Row]

    @classmethod
    def today(cls, rows: list[Row]) -> Self:
        return cls(datetime.now(UTC).date().isoformat(), machine(), rows)

    @classmethod
    def read(cls, file: Path) -> Self:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return cls(kept["date"], kept["machine"], [Row(**row) for row in kept["rows"]])

    def write(self, file: Path) -> None:
        """A row a line, so that a change of one figure is a change of one line. Defaults are left out."""
        rows = ",\n".join(f"    {json.dumps(_short(row), ensure_ascii=False)}" for row in self.rows)
        head = f'  "date": {json.dumps(self.date)},\n  "machine": {json.dumps(self.machine)},\n'
        file.write_text(f'{{\n{head}  "rows": [\n{rows}\n  ]\n}}\n', encoding="utf-8")


def machine() -> str:
    """The processor, the system and the version of Python."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (
        f"{os.cpu_count()} cores of {models[0] if models else 'an unknown processor'}, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def show(rows: list[Row]) -> None:
    """Print rows for a terminal."""
    place = None
    for row in rows:
        if row.place != place:
            place = row.place
            print(f"\n{place or 'the program':<58} {'figure':>8} {'lowest to highest':>18}  {'measured':<16} budget")
        name = f"{row.work}, {row.load}" if row.load else row.work
        if row.missing:
            print(f"{name:<58} not measured: {row.missing}")
            continue
        budget = "" if row.budget is None else f"{row.budget:g}"
        spread = f"{row.low:g} to {row.high:g}"
        line = f"{name:<58} {row.figure:>8g} {spread:>18}  {row.unit:<16} {row.measured:<10} {budget} {row.verdict}"
        print(line.rstrip())


def _rounded(value: float) -> float:
    """Three digits are more than a figure is worth."""
    return float(f"{value:.3g}")


def _short(row: Row) -> dict[str, object]:
    kept = asdict(row)
    return {name: kept[name] for name in kept if kept[name] not in ("", None) and not (row.missing and kept[name] == 0)}
