"""How long requests wait while a command of an operator works on the same database.

A mixed load, at random moments: profiles, refreshes, and both requests of sign-ins. It comes at half of the rate that
the server reaches with 32 connections. A wait is counted from the moment when a request was due.
"""

import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks.clients import Clients
from tests.benchmarks.costs import Place
from tests.benchmarks.crowds import Crowd
from tests.benchmarks.load import CONNECTIONS, Connections, ask_each
from tests.benchmarks.provider import provider
from tests.benchmarks.rows import Row
from tests.benchmarks.servers import NEXTARGET, environment_of, free_port, production_values, real_server

USERS = 100_000
EXPIRED = 1_200_000
"""More rows than `purge` deletes in all rounds, at 12 000 a second. With none left, it would do nothing but start."""
SECONDS = 4
START_SECONDS = 2
"""How long a command has run before the waits are measured. Starting Python takes a core for up to a second, as it does
for every command, and comes once."""
MOST_REFRESHES = 600
BUDGET = 1.5
TITLE = "99th percentile of the wait, mixed load"
_PATTERN = ["profile"] * 6 + ["refresh"] * 2 + ["start", "callback"]


def rows(place: Place, rounds: int) -> Iterator[Row]:
    """The 99th percentile of the waits beside every command, as a multiple of it without one, just before."""
    commands = [["list-users", "--json"], ["purge"], _copy(place)]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        stand_in = stack.enter_context(provider())
        values = production_values(directory, free_port(), database_url=place.database_url, provider_url=stand_in.url)
        crowd = Crowd(directory, values)
        stack.callback(crowd.close)
        crowd.add_users(USERS, sample=1)
        crowd.add_expired_logins(EXPIRED)  # before the first measurement: a database has work with new rows for a while
        server = stack.enter_context(real_server(directory, values))
        clients = Clients(server.port, values["DATABASE_URL"], stand_in, MOST_REFRESHES)
        load = _Load(clients, server.port)
        without: list[float] = []
        beside: dict[str, list[float]] = {command[0]: [] for command in commands}
        for _ in range(rounds):
            for command in commands:
                without.append(load.p99())
                with _running(directory, values, command):
                    time.sleep(START_SECONDS)
                    beside[command[0]].append(load.p99())
    row = partial(Row.of, place=place.name, load="half of saturation")
    yield row(TITLE, "ms", [wait * 1000 for wait in without])
    for number, (command_name, waits) in enumerate(beside.items()):
        ratios = [wait / other for wait, other in zip(waits, without[number :: len(beside)], strict=True)]
        title, measured = f"the same beside `nextarget {command_name}`", f"{median(waits) * 1000:.1f} ms"
        yield row(title, "x without", ratios, measured=measured, budget=BUDGET)


def _copy(place: Place) -> list[str]:
    return ["copy-db", place.database_url, "sqlite:///copy.db"] if place.database_url else ["backup", "copy.db"]


class _Load:
    def __init__(self, clients: Clients, port: int) -> None:
        self._clients = clients
        self._port = port
        self._rate = len(_PATTERN) * 100 / self._send(len(_PATTERN) * 100, None)[0]

    def p99(self) -> float:
        """The 99th percentile of the waits, in seconds."""
        count = min(int(self._rate / 2 * SECONDS), MOST_REFRESHES * 5)
        waits = sorted(self._send(count, self._rate / 2)[1])
        return waits[int(len(waits) * 0.99)]

    def _send(self, count: int, rate: float | None) -> tuple[float, list[float]]:
        """Send a mixture of requests. Return the seconds that it took, and the waits."""
        each = {work: count * _PATTERN.count(work) // len(_PATTERN) for work in set(_PATTERN)}
        works = self._clients.works
        refreshing, returning = works["refresh"](each["refresh"]), works["signin"](each["callback"])
        refreshes = list(next(refreshing))
        callbacks = list(returning.send(ask_each(self._port, next(returning))))
        others = [*next(works["profile"](each["profile"])), *next(works["signin"](each["start"])), *callbacks]
        numbered = list(enumerate([*refreshes, *others]))
        random.Random(count).shuffle(numbered)
        with Connections(self._port, CONNECTIONS) as connections:
            answers = connections.ask([request for _, request in numbered], rate=rate, even=False)
        bodies = {number: body for (number, _), body in zip(numbered, answers.bodies, strict=True)}
        with suppress(StopIteration):
            refreshing.send([bodies[number] for number in range(len(refreshes))])
        return answers.seconds, answers.waits


@contextmanager
def _running(directory: Path, values: dict[str, str], command: list[str]) -> Iterator[None]:
    """Run a command again and again, until the block ends."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(_repeat, directory, values, command, over)
        try:
            yield
        finally:
            over.set()
    running.result()


def _repeat(directory: Path, values: dict[str, str], command: list[str], over: threading.Event) -> None:
    environment = environment_of(values)
    while not over.is_set():
        for file in directory.glob("copy.db*"):
            file.unlink()
        process = subprocess.Popen([*NEXTARGET, *command], cwd=directory, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if over.wait(0.1):
                process.terminate()
                process.wait()
                return
        if process.returncode or command == ["purge"]:
            raise SystemExit(f"nextarget {command[0]} failed, or has nothing left to do.")
