"""Measures every figure that has a budget, and prints it beside its budget. It asserts nothing, since machines differ.

A short round sends requests to the bare route and to our route in turn, so that a slow machine slows both. A figure is
the median of its rounds. The bare route has as many processes as ours, with as many connections. The servers and the
client share as many processors as there are workers, where possible. On more processors their mutual slowdown would be
random; on one processor, two workers would replace each other's data in its cache.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from tests.benchmarks.clients import Clients
from tests.benchmarks.load import CONNECTIONS
from tests.benchmarks.profiles import WORKS as PROFILED
from tests.benchmarks.profiles import profile
from tests.benchmarks.servers import (
    NEXTARGET,
    ServerProcess,
    bare_server,
    free_port,
    production_settings,
    production_values,
    real_server,
)
from tests.postgres import Cluster

WORKS = {
    "bare aiohttp route": None,
    "GET /users/me": 2.0,
    "GET /auth/google/start": 8.0,
    "POST /auth/token, refresh": 6.0,
    "the same, repeated in the window": None,
    "POST /auth/token, code": None,
}
"""The measured works, and their budgets as multiples of the first work."""
PROCESSORS = sorted(os.sched_getaffinity(0))
WARM_UP = 500
PROCESS_RUNS = 10
EXTRAS = find_spec("psycopg") is not None
"""Whether the optional packages are installed, which the program then imports."""
IDLE_MIB, IDLE_MIB_WITH_EXTRAS = 80.0, 95.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure and its budget, in the same unit."""

    work: str
    measured: str
    ratio: float
    unit: str
    budget: float | None

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        return "within" if self.ratio <= self.budget else "OVER"


def main() -> None:
    options = _options()
    if options.profile:
        with tempfile.TemporaryDirectory() as directory:
            profile(options.profile, Path(directory), options.requests)
        return
    if options.every:
        with Cluster() as cluster:
            setups = [(workers, url) for url in (None, cluster.create_database()) for workers in (1, 2)]
            figures = {_named(*setup): _requests(options, workers=setup[0], database_url=setup[1]) for setup in setups}
    else:
        setup = options.workers, options.database
        figures = {_named(*setup): _requests(options, workers=options.workers, database_url=options.database)}
    figures["the program"] = [_help()]
    if options.json:
        shown = {name: [asdict(figure) for figure in group] for name, group in figures.items()}
        json.dump({"machine": _machine(), "figures": shown}, sys.stdout, indent=2)
        print()
    else:
        _print(figures)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="alternating rounds of a start (%(default)s)")
    parser.add_argument("--starts", type=int, default=5, help="times that the servers are started (%(default)s)")
    parser.add_argument(
        "--requests", type=int, default=800, help="requests a round, a quarter for the rest (%(default)s)"
    )
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="to each worker (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that serve (%(default)s)")
    parser.add_argument("--database", metavar="URL", help="an empty PostgreSQL database, instead of a SQLite file")
    parser.add_argument("--every", action="store_true", help="one worker and two, on SQLite and on PostgreSQL")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--profile", choices=PROFILED, help="profile one route instead, where the time goes")
    return parser.parse_args()


def _requests(options: argparse.Namespace, *, workers: int, database_url: str | None) -> list[Figure]:
    """Measure every route over several starts of the servers: the memory layout of a process changes a figure by a
    tenth."""
    runs = [_run(options, workers=workers, database_url=database_url) for _ in range(options.starts)]
    rows = [row for run in runs for row in run.costs]
    figures = [
        Figure(
            work,
            f"{median(row[index] for row in rows):.0f} us",
            round(median(row[index] / row[0] for row in rows), 2),
            "x bare",
            budget,
        )
        for index, (work, budget) in enumerate(WORKS.items())
    ]
    idle, busy = (median(getattr(run, name) for run in runs) for name in ("idle_mib", "busy_mib"))
    most = IDLE_MIB_WITH_EXTRAS if EXTRAS else IDLE_MIB
    return [
        *figures,
        Figure("memory, idle", f"{idle:.1f} MiB", round(idle, 1), "MiB", most),
        Figure(f"memory, after {runs[0].answered} requests", f"{busy:.1f} MiB", round(busy, 1), "MiB", None),
    ]


@dataclass(frozen=True, slots=True)
class _Run:
    """The results of one start of the servers: CPU in microseconds by round and work, memory in MiB."""

    costs: list[list[float]]
    idle_mib: float
    busy_mib: float
    answered: int


def _run(options: argparse.Namespace, *, workers: int, database_url: str | None) -> _Run:
    few = max(options.requests // 4, 8)
    os.sched_setaffinity(0, PROCESSORS[-workers:])
    connections = options.connections * workers
    with tempfile.TemporaryDirectory() as name, bare_server(workers=workers) as bare:
        directory = Path(name)
        values = production_values(directory, free_port(), workers=workers, database_url=database_url)
        with real_server(directory, values) as real:
            idle = real.resident_mib()
            clients = Clients(production_settings(directory, values), max(few, WARM_UP))
            works: list[tuple[ServerProcess, Callable[[int, int], None], int]] = [
                (bare, partial(clients.me, port=bare.port), options.requests),
                (real, clients.me, options.requests),
                (real, clients.start, few),
                (real, clients.refresh, few),
                (real, clients.repeat, few),
                (real, clients.redeem, few),
            ]
            for _, work, _ in works:
                work(WARM_UP, connections)
            costs = [[_cpu_microseconds(*work, connections) for work in works] for _ in range(options.rounds)]
            busy = real.resident_mib()
            clients.close()
    answered = options.rounds * sum(count for server, _, count in works if server is real)
    return _Run(costs, idle, busy, answered)


def _cpu_microseconds(server: ServerProcess, work: Callable[[int, int], None], count: int, connections: int) -> float:
    """CPU time of the server for each request, in microseconds."""
    before = server.cpu_seconds()
    work(count, connections)
    return (server.cpu_seconds() - before) / count * 1e6


def _help() -> Figure:
    commands = ([sys.executable, "-c", "import typer"], [*NEXTARGET, "--help"])
    runs = [[_process_milliseconds(command) for command in commands] for _ in range(PROCESS_RUNS)]
    ratio = median(ours / typer for typer, ours in runs)
    ours = median(row[1] for row in runs)
    return Figure("nextarget --help", f"{ours:.0f} ms", round(ratio, 2), "x import typer", 3.0)


def _process_milliseconds(command: list[str]) -> float:
    """CPU time of a whole process, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def _named(workers: int, database_url: str | None) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}, {'PostgreSQL' if database_url else 'SQLite'}"


def _print(figures: dict[str, list[Figure]]) -> None:
    print(f"CPU time on {_machine()}; medians.")
    for name, group in figures.items():
        print(f"\n{name:<34} {'measured':>10} {'figure':>22} {'budget':>8}")
        for figure in group:
            shown = f"{figure.ratio:g} {figure.unit}"
            budget = "" if figure.budget is None else f"{figure.budget:g}"
            print(f"{figure.work:<34} {figure.measured:>10} {shown:>22} {budget:>8}  {figure.verdict}".rstrip())


if __name__ == "__main__":
    main()
