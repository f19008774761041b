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


def show(row: Row) -> None:
    """Print a row for a terminal."""
    where = ", ".join(filter(None, (row.place, row.load)))
    print(f"{row.work}\n  {where:<36} ", end="")
    if row.missing:
        print(f"not measured: {row.missing}")
        return
    spread, budget = f"({row.low:g} to {row.high:g})", "" if row.budget is None else f"budget {row.budget:g}"
    figure = f"{row.figure:g} {row.unit}"
    print(f"{figure:<24} {spread:<18} {row.measured:<12} {budget} {row.verdict}".rstrip(), flush=True)


def _rounded(value: float) -> float:
    """Three digits are more than a figure is worth."""
    return float(f"{value:.3g}")


def _short(row: Row) -> dict[str, object]:
    kept = asdict(row)
    return {name: kept[name] for name in kept if kept[name] not in ("", None) and not (row.missing and kept[name] == 0)}
