"""What the program costs before its first request: time to start, memory, and the help of the terminal.

The server and the bare route run in an environment of their own, without the optional packages.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.benchmarks.caches import CannotInstall, without_extras
from tests.benchmarks.rows import Row
from tests.benchmarks.servers import NEXTARGET, bare_server, environment_of, free_port, production_values, real_server

START, START_BUDGET = "start to the first answer, without extras", 1.6
IDLE, IDLE_BUDGET = "memory of an idle server, without extras", 65.0
HELP, HELP_BUDGET = "`nextarget --help`", 1.7


def start_rows(rounds: int) -> Iterator[Row]:
    """A server that has a database already, beside the bare route."""
    try:
        python = str(without_extras())
    except CannotInstall as error:
        yield Row(START, "x bare", missing=str(error))
        yield Row(IDLE, "MiB", missing=str(error))
        return
    with tempfile.TemporaryDirectory() as name:
        runs = [_start(Path(name), python) for _ in range(rounds + 1)][1:]  # the first makes the database
    seconds = f"{median(ours for _, ours, _ in runs):.2f} s"
    ratios = [ours / bare for bare, ours, _ in runs]
    yield Row.of(START, "x bare", ratios, measured=seconds, budget=START_BUDGET)
    yield Row.of(IDLE, "MiB", [memory for *_, memory in runs], budget=IDLE_BUDGET)
    yield Row.of("memory of an idle server, every extra installed", "MiB", [_memory() for _ in range(3)])


def _start(directory: Path, python: str) -> tuple[float, float, float]:
    """Seconds to the first answer of the bare route and of our server, and the memory of the latter, in MiB."""
    with bare_server(python=python) as bare:
        pass
    with real_server(directory, production_values(directory, free_port()), python=python) as real:
        return bare.start_seconds, real.start_seconds, real.resident_mib()


def _memory() -> float:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with real_server(directory, production_values(directory, free_port())) as server:
            return server.resident_mib()


def help_rows(rounds: int) -> Iterator[Row]:
    commands = ([sys.executable, "-c", "import typer"], [*NEXTARGET, "--help"])
    runs = [[_process_milliseconds(command) for command in commands] for _ in range(rounds)]
    measured = f"{median(ours for _, ours in runs):.0f} ms"
    ratios = [ours / typer for typer, ours in runs]
    yield Row.of(HELP, "x import typer", ratios, measured=measured, budget=HELP_BUDGET)


def _process_milliseconds(command: list[str]) -> float:
    """CPU time of a whole process, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=environment_of({}))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000
