"""The databases of the storage tests, and other processes that use the same database at the same time."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import nextarget
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Database


@dataclass(frozen=True)
class Place:
    """The address of a database. Every `connect()` gives a new handle, like one in another process."""

    url: str

    def connect(self) -> Database:
        return database_at(self.url)


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a script in its own Python process. It must end when its standard input is closed."""
    environment = os.environ | {"PYTHONPATH": str(Path(nextarget.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def run_together(script: str, arguments: Sequence[Sequence[str]]) -> list[list[str]]:
    """Run a script in several processes that start their work at the same moment. Returns the printed lines of every
    process.

    The script prints `ready` and waits for a line on standard input before it works. Fails if one process fails.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(start(script, *each)) for each in arguments]
        ready = [process.stdout.readline() for process in processes]
        for process in processes:
            if process.poll() is None:
                process.stdin.write("go\n")
                process.stdin.flush()
        outcomes = [process.communicate(timeout=60) for process in processes]
    for process, line, (_, errors) in zip(processes, ready, outcomes, strict=True):
        assert (line, process.returncode) == ("ready\n", 0), errors
    return [output.splitlines() for output, _ in outcomes]
