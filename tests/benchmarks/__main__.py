"""Measures every figure that has a budget, and prints it beside its budget. It asserts nothing, since machines differ.

A figure is the median of its rounds, with the lowest and the highest. In a round, all servers take their turns, so that
a slow machine slows all of them.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks import costs, first_version, million, neighbours, soak, starting
from tests.benchmarks.costs import Place
from tests.benchmarks.profiles import profile
from tests.benchmarks.rows import Row, Run, show
from tests.postgres import Cluster

GROUPS = (*costs.TITLES, "database", "p99", "start", "help")
PLACES = ("sqlite1", "sqlite2", "postgres1", "postgres2")


def main() -> None:
    options = _options()
    if options.profile:
        with tempfile.TemporaryDirectory() as directory:
            profile(options.profile, Path(directory), options.requests)
        return
    found = []
    for row in _rows(options):
        show(row)
        found.append(row)
    if options.json:
        Run.today(found).write(options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", type=_some_of(GROUPS), default=GROUPS, metavar="A,B", help=f"of {','.join(GROUPS)}")
    parser.add_argument("--places", type=_some_of(PLACES), default=PLACES, metavar="A,B",
        help=f"of {','.join(PLACES)}; the number is that of workers")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="few rounds: a glance, not figures to publish")
    parser.add_argument("--long", action="store_true", help="also a million users, and 100,000 logins")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows into a file")
    parser.add_argument("--profile", choices=costs.TITLES, help="profile one work instead: where the time goes")
    parser.add_argument("--requests", type=int, default=800, help="of a profile (%(default)s)")
    return parser.parse_args()


def _some_of(names: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if not set(chosen) <= set(names):
            raise argparse.ArgumentTypeError(f"choose from {', '.join(names)}")
        return chosen

    return read


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    quick, only = options.quick, set(options.only)
    works = [work for work in costs.TITLES if work in only]
    with tempfile.TemporaryDirectory() as peers:
        for name in options.places if works else ():
            with _place(name) as place:
                yield from costs.rows(place, works, starts=1 if quick else 3, rounds=3, peers=Path(peers))
    if "database" in only:
        yield from first_version.rows(3 if quick else 9)
    for name in ("sqlite1", "postgres1"):
        if "p99" in only and name in options.places:
            with _place(name) as place:
                yield from neighbours.rows(place, 1 if quick else 7)
    if "start" in only:
        yield from starting.start_rows(3 if quick else 11)
    if "help" in only:
        yield from starting.help_rows(3 if quick else 11)
    if options.long:
        yield from million.rows()
        yield from soak.rows()


@contextmanager
def _place(name: str) -> Iterator[Place]:
    database, workers = name[:-1], int(name[-1])
    if database == "sqlite":
        yield Place(workers)
        return
    with Cluster() as cluster:
        yield Place(workers, cluster.create_database())


if __name__ == "__main__":
    main()
