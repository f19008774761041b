"""Measures every figure that has a budget, and prints it beside its budget. Nothing is asserted: machines differ.

Each short round asks the bare route and ours in turn, so that whatever slows the machine slows both; a figure is the
median of its rounds. Servers and client share one processor: two that share a core would slow each other as it happens.
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
from pathlib import Path
from statistics import median

from tests.benchmarks.load import CONNECTIONS, ask
from tests.benchmarks.profiles import ROUTES, profile
from tests.benchmarks.servers import NEXTARGET, ServerProcess, bare_server, real_server
from tests.benchmarks.tokens import Tokens

WARM_UP = 500
PROCESS_RUNS = 10


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure and the most that it should be, in the same unit."""

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
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    figures = [*_requests(options.rounds, options.requests, options.connections), _help()]
    if options.json:
        json.dump({"machine": _machine(), "figures": [asdict(figure) for figure in figures]}, sys.stdout, indent=2)
        print()
    else:
        _print(figures)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=41, help="alternating rounds (%(default)s)")
    parser.add_argument(
        "--requests", type=int, default=800, help="requests a round, a quarter for the rest (%(default)s)"
    )
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="at the same time (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--profile", choices=ROUTES, help="profile one route instead, where the time goes")
    return parser.parse_args()


def _requests(rounds: int, requests: int, width: int) -> list[Figure]:
    few = max(requests // 4, 8)
    with tempfile.TemporaryDirectory() as directory, bare_server() as bare, real_server(Path(directory)) as real:
        idle = real.resident_mib()
        headers = {"Authorization": f"Bearer {real.sign_in()}"}

        def bare_me(count: int) -> None:
            ask(bare.port, "/users/me", count, headers=headers, connections=width)

        def real_me(count: int) -> None:
            ask(real.port, "/users/me", count, headers=headers, connections=width)

        def start(count: int) -> None:
            ask(real.port, "/auth/google/start", count, connections=width)

        tokens = Tokens(Path(directory), real.port, max(few, WARM_UP))

        def refresh(count: int) -> None:
            tokens.refresh(count, width)

        def refresh_again(count: int) -> None:
            tokens.refresh(count, width, later=False)

        def redeem(count: int) -> None:
            tokens.redeem(count, width)

        works: list[tuple[str, float | None, ServerProcess, Callable[[int], None], int]] = [
            ("bare aiohttp route", None, bare, bare_me, requests),
            ("GET /users/me", 2.0, real, real_me, requests),
            ("GET /auth/google/start", 8.0, real, start, few),
            ("POST /auth/token, refresh", 6.0, real, refresh, few),
            ("the same, repeated in the window", None, real, refresh_again, few),
            ("POST /auth/token, code", None, real, redeem, few),
        ]
        for *_, work, _ in works:
            work(WARM_UP)
        costs: list[list[float]] = [
            [_cpu_microseconds(server, work, count) for _, _, server, work, count in works] for _ in range(rounds)
        ]
        busy = real.resident_mib()
        tokens.close()
    figures = [
        Figure(name, f"{median(column):.0f} us", round(median(row[index] / row[0] for row in costs), 2), "x bare", most)
        for index, ((name, most, *_), column) in enumerate(zip(works, zip(*costs, strict=True), strict=True))
    ]
    answered = rounds * sum(count for *_, server, _, count in works if server is real)
    return [
        *figures,
        Figure("memory, idle", f"{idle:.1f} MiB", round(idle, 1), "MiB", 80.0),
        Figure(f"memory, after {answered} requests", f"{busy:.1f} MiB", round(busy, 1), "MiB", None),
    ]


def _cpu_microseconds(server: ServerProcess, work: Callable[[int], None], count: int) -> float:
    """CPU time of the server for each request, in microseconds."""
    before = server.cpu_seconds()
    work(count)
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


def _print(figures: list[Figure]) -> None:
    print(f"CPU time on {_machine()}; medians.\n")
    print(f"{'work':<34} {'measured':>10} {'figure':>22} {'budget':>8}")
    for figure in figures:
        shown = f"{figure.ratio:g} {figure.unit}"
        budget = "" if figure.budget is None else f"{figure.budget:g}"
        print(f"{figure.work:<34} {figure.measured:>10} {shown:>22} {budget:>8}  {figure.verdict}".rstrip())


if __name__ == "__main__":
    main()
