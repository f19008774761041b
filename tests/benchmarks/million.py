"""Compares the cost with a million users and with a thousand: a profile, a start, the list of users, purging.

`python -m tests.benchmarks --long` includes it. Alone: `python -m tests.benchmarks.million [--users N] [--postgres]`
"""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks.crowds import Crowd
from tests.benchmarks.load import ask_each, get_request
from tests.benchmarks.rows import Row, show
from tests.benchmarks.servers import (
    NEXTARGET,
    ServerProcess,
    environment_of,
    free_port,
    production_values,
    real_server,
)
from tests.postgres import Cluster

FEW, MANY = 1000, 1_000_000
SAMPLE = 2000
"""The number of users, spread over all users, whose profiles are read."""
ROUNDS = 21
BUDGET = 1.2


@dataclass(frozen=True, slots=True)
class Town:
    """A database with a number of users, and the requests for the profiles of some users."""

    directory: Path
    values: dict[str, str]
    requests: list[bytes]


def rows(users: int = MANY, cluster: Cluster | None = None) -> Iterator[Row]:
    """On SQLite, or on new databases of a PostgreSQL server."""
    place = f"{'PostgreSQL' if cluster else 'SQLite'}, one worker"
    many, few = f"{users:,} users", f"x {FEW:,} users"
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        towns = [_town(Path(name) / str(count), count, cluster) for count in (FEW, users)]
        servers = [stack.enter_context(real_server(town.directory, town.values)) for town in towns]
        costs = [[_profiles(*each) for each in zip(servers, towns, strict=True)] for _ in range(ROUNDS)]
        measured = f"{median(large for _, large in costs):.0f} µs"
        ratios = [large / small for small, large in costs]
        title = f"`GET /users/me` with {many}"
        yield Row.of(title, few, ratios, place=place, measured=measured, budget=BUDGET)
        seconds = servers[1].start_seconds
        ratio = seconds / servers[0].start_seconds
        yield Row.of(f"start with {many}", few, [ratio], place=place, measured=f"{seconds:.2f} s")
        yield Row.of(f"memory of a server with {many}", "MiB", [servers[1].resident_mib()], place=place)
        stack.close()
        for command in (["list-users", "--json"], ["purge"]):
            (small, _), (large, memory) = (_command(town, command) for town in towns)
            title, measured = f"`nextarget {' '.join(command)}` with {many}", f"{large:.1f} s, {memory:.0f} MiB"
            yield Row.of(title, few, [large / small], place=place, measured=measured)


def _town(directory: Path, count: int, cluster: Cluster | None) -> Town:
    directory.mkdir()
    port = free_port()
    values = production_values(directory, port, database_url=cluster.create_database() if cluster else None)
    crowd = Crowd(directory, values)
    tokens = crowd.add_users(count, sample=SAMPLE)
    crowd.add_expired_logins(count)
    crowd.close()
    requests = [get_request(port, "/users/me", {"Authorization": f"Bearer {token}"}) for token in tokens]
    return Town(directory, values, requests)


def _profiles(server: ServerProcess, town: Town) -> float:
    """The server's CPU time for one profile, in microseconds. Every user of the sample is read once."""
    before = server.cpu_seconds()
    ask_each(server.port, town.requests)
    return (server.settled_cpu_seconds() - before) / len(town.requests) * 1e6


def _command(town: Town, command: list[str]) -> tuple[float, float]:
    """The CPU seconds of a command, and its largest memory in MiB."""
    process = subprocess.Popen(
        [*NEXTARGET, *command],
        cwd=town.directory,
        env=environment_of(town.values),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"nextarget {' '.join(command)} failed.")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.million", description=__doc__)
    parser.add_argument("--users", type=int, default=MANY, help="beside a thousand (%(default)s)")
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL, instead of SQLite")
    options = parser.parse_args()
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster()) if options.postgres else None
        for row in rows(options.users, cluster):
            show(row)


if __name__ == "__main__":
    main()
