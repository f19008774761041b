"""Measures every figure that has a budget, and prints it beside its budget. It asserts nothing, since machines differ.

A figure is the median of its rounds, with the lowest and the highest. In a round, all servers take their turns, so that
a slow machine slows all of them.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks import requests
from tests.benchmarks.profiles import profile
from tests.benchmarks.requests import Place
from tests.benchmarks.rows import Row, Run, machine, show
from tests.postgres import Cluster

GROUPS = tuple(requests.TITLES)


def main() -> None:
    options = _options()
    if options.profile:
        with tempfile.TemporaryDirectory() as directory:
            profile(options.profile, Path(directory), options.requests)
        return
    run = Run.today(_measured(options))
    print(f"\n{run.date}, {machine()}")
    show(run.rows)
    if options.json:
        run.write(options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", type=_groups, default=GROUPS, help=f"some of: {','.join(GROUPS)}")
    parser.add_argument("--places", type=_places, default=_places("sqlite1,sqlite2,postgres1,postgres2"),
        help="some of: sqlite1,sqlite2,postgres1,postgres2, the number being that of workers")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="few rounds: a glance, not a figure to publish")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows into a file")
    parser.add_argument("--profile", choices=requests.TITLES, help="profile one work instead, where the time goes")
    parser.add_argument("--requests", type=int, default=800, help="of a profile (%(default)s)")
    return parser.parse_args()


def _groups(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if not set(chosen) <= set(GROUPS):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(GROUPS)}")
    return chosen


def _places(text: str) -> list[tuple[str, int]]:
    """The databases and numbers of workers."""
    chosen = [(name[:-1], int(name[-1:])) for name in text.split(",") if name[-1:] in "12"]
    if not chosen or not {database for database, _ in chosen} <= {"sqlite", "postgres"}:
        raise argparse.ArgumentTypeError("choose from sqlite1, sqlite2, postgres1, postgres2")
    return chosen


def _measured(options: argparse.Namespace) -> list[Row]:
    works = [work for work in requests.TITLES if work in options.only]
    starts, rounds = (1, 3) if options.quick else (3, 3)
    rows = []
    with tempfile.TemporaryDirectory() as peers:
        for database, workers in options.places if works else []:
            with _place(database, workers) as place:
                rows += requests.rows(place, works, starts=starts, rounds=rounds, peers=Path(peers))
            print(".", end="", file=sys.stderr, flush=True)
    return rows


@contextmanager
def _place(database: str, workers: int) -> Iterator[Place]:
    if database == "sqlite":
        yield Place(workers)
        return
    with Cluster() as cluster:
        yield Place(workers, cluster.create_database())


if __name__ == "__main__":
    main()
