"""PostgreSQL, one request after the other: what the database costs now, of what it cost in the first version."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.benchmarks import data_layer
from tests.benchmarks.rows import Row
from tests.benchmarks.servers import ROOT
from tests.postgres import Cluster

FIRST = "a3a61b6"
"""The commit of the first version. Its code runs with the packages of today."""
COUNT = 500
WORKS = {"profile": "`GET /users/me`", "refresh": "`POST /auth/token`, refresh"}
BUDGET = 0.25
UNIT = "x first version"
PLACE = "PostgreSQL, one worker"


def rows(rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory, Cluster() as cluster:
        try:
            _unpack(Path(directory))
        except subprocess.CalledProcessError:
            return [_missing(title) for title in WORKS.values()]
        databases = [cluster.create_database() for _ in range(2)]
        trees = [ROOT, Path(directory)]
        runs = [[_costs(*each) for each in zip(trees, databases, strict=True)] for _ in range(rounds)]
    return [row for work in WORKS for row in _rows(runs, work)]


def _rows(runs: list[list[dict[str, float]]], work: str) -> Iterator[Row]:
    """The database of a work, and one statement by libpq alone, of what the work took in the first version."""
    of = f"of {WORKS[work]}"
    for title, part, budget in (("the database alone", work, BUDGET), ("one statement by libpq alone", "libpq", None)):
        yield Row.of(
            f"{title}, {of}",
            UNIT,
            [ours[part] / first[work] for ours, first in runs],
            place=PLACE,
            load="alone",
            measured=f"{median(ours[part] for ours, _ in runs):.0f} µs",
            budget=budget,
        )


def _missing(title: str) -> Row:
    return Row(f"the database alone, of {title}", UNIT, PLACE, "alone", missing=f"no commit {FIRST} in this repository")


def _unpack(directory: Path) -> None:
    archive = subprocess.run(["git", "archive", FIRST, "nextarget"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive.stdout, check=True)


def _costs(tree: Path, database_url: str) -> dict[str, float]:
    answer = subprocess.run(
        [sys.executable, "-P", str(data_layer.__file__), database_url, str(COUNT)],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        check=True,
        capture_output=True,
    )
    costs: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return costs
