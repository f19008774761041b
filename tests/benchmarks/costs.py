"""CPU time of a request at our server, at PocketBase and at the bare route, in alternating rounds of the same run.

The servers and the client share as many processors as there are workers, where possible. On more processors their
mutual slowdown would be random; on one processor, two workers would replace each other's data in its cache.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks.caches import CannotInstall
from tests.benchmarks.clients import Clients, Phases, Work
from tests.benchmarks.floors import IDS, token_of
from tests.benchmarks.load import CONNECTIONS, Connections, form_request, get_request
from tests.benchmarks.peers.servers import PEERS
from tests.benchmarks.pocketbase import pocketbase
from tests.benchmarks.provider import provider
from tests.benchmarks.rows import Row
from tests.benchmarks.servers import ServerProcess, bare_server, free_port, production_values, real_server

PROCESSORS = sorted(os.sched_getaffinity(0))
SHARES = {"saturation": None, "half of it": 0.5, "a tenth of it": 0.1, "alone": None}
"""How much a server has to do. A paced load is a share of the rate at saturation. `alone` is one connection."""
MOST, FEW = 400, 100
PACED_SECONDS = 0.3
BARE = "bare"
TITLES = {
    "profile": "`GET /users/me`",
    "refresh": "`POST /auth/token`, refresh",
    "repeat": "a refresh repeated in the reuse window",
    "signin": "a whole sign-in of a returning person",
}
BUDGETS = {
    ("profile", "saturation"): 1.35,
    ("refresh", "saturation"): 4.0,
    ("refresh", "alone"): 6.0,
    ("repeat", "saturation"): 2.0,
}
SIGN_IN_BUDGETS = {"saturation": 0.65, "alone": 1.0}
FLOORS = {
    "form": "a server that only reads the form of a refresh",
    "repeated": "a server that only reads form and session, checks the MAC and signs two tokens",
    "rotated": "the same, which also has SQLite write the session",
}
"""What a refresh costs without any code of ours, by route of `floors.py`."""
POCKETBASE = "PocketBase"
PEER_WORKS = {POCKETBASE: ("profile", "refresh", "signin")} | dict.fromkeys(PEERS, ("profile",))


@dataclass(frozen=True, slots=True)
class Place:
    """The database and the number of workers. `database_url` is of a new PostgreSQL database; None means SQLite."""

    workers: int
    database_url: str | None = None

    @property
    def name(self) -> str:
        database = "PostgreSQL" if self.database_url else "SQLite"
        return f"{database}, {'one worker' if self.workers == 1 else 'two workers'}"


@dataclass(slots=True)
class Target:
    """A work of one server. `rates` are the requests a second at saturation, for every phase of the work."""

    server: ServerProcess
    work: Work
    rates: list[float] = field(default_factory=list)

    def cost(self, load: str, connections: int) -> float:
        """CPU time of the server for one unit of the work, in microseconds."""
        count = self._count(load)
        phases = self.work(count)
        requests, seconds, share = next(phases), 0.0, SHARES[load]
        rates: list[float] = []
        with Connections(self.server.port, 1 if load == "alone" else connections) as opened:
            while True:
                rate = share and self.rates[len(rates)] * share
                before = self.server.cpu_seconds()
                answers = opened.ask(requests, rate=rate)
                seconds += self.server.settled_cpu_seconds() - before
                rates.append(len(requests) / answers.seconds)
                try:
                    requests = phases.send(answers.bodies)
                except StopIteration:
                    break
        if load == "saturation":
            self.rates = rates
        return seconds / count * 1e6

    def _count(self, load: str) -> int:
        share = SHARES[load]
        if share is None:
            return FEW if load == "alone" else MOST
        return min(max(int(min(self.rates) * share * PACED_SECONDS), FEW // 4), MOST)


Targets = dict[tuple[str, str], Target]
"""By server and work."""
Costs = dict[tuple[str, str, str], list[float]]
"""Microseconds of every round, by server, work and load."""


def rows(place: Place, works: list[str], *, starts: int, rounds: int, peers: Path) -> list[Row]:
    """The rows of some works. `peers` is a directory that keeps the peers' data between the starts: memory layout of a
    process changes a figure by a tenth, so everything is started several times."""
    costs: Costs = {}
    missing: dict[str, str] = {}
    os.sched_setaffinity(0, PROCESSORS[-place.workers :])
    try:
        for _ in range(starts):
            with _targets(place, works, peers) as (targets, missing):
                for _ in range(rounds):
                    for load in SHARES:
                        for (server, work), target in targets.items():
                            cost = target.cost(load, CONNECTIONS * place.workers)
                            costs.setdefault((server, work, load), []).append(cost)
    finally:
        os.sched_setaffinity(0, PROCESSORS)
    found = [row for work in works for row in _rows(place, work, costs, missing)]
    return found + [row for route in _floors(place, works) for row in _floor_rows(place, route, costs)]


def _floors(place: Place, works: list[str]) -> list[str]:
    """The routes that concern these works. PostgreSQL syncs its files in a process that is not counted."""
    if not {"refresh", "repeat"} & set(works):
        return []
    return ["form"] if place.database_url else list(FLOORS)


@contextmanager
def _targets(place: Place, works: list[str], peers: Path) -> Iterator[tuple[Targets, dict[str, str]]]:
    """The works of all running servers, and why there are none of a peer."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stand_in = stack.enter_context(provider())
        bare = stack.enter_context(bare_server(workers=place.workers))
        floors = stack.enter_context(bare_server(workers=place.workers, module="floors"))
        values = production_values(
            directory, free_port(), workers=place.workers, database_url=place.database_url, provider_url=stand_in.url
        )
        real = stack.enter_context(real_server(directory, values))
        clients = Clients(real.port, values["DATABASE_URL"], stand_in, MOST)
        targets = {(BARE, BARE): Target(bare, lambda count: _bare(bare.port, count))}
        for route in _floors(place, works):
            targets[BARE, route] = Target(floors, partial(_bare_form, floors.port, route))
        targets |= {("ours", work): Target(real, clients.works[work]) for work in works}
        missing: dict[str, str] = {}
        try:
            peer, apps = stack.enter_context(pocketbase(peers, stand_in))
            targets |= {(POCKETBASE, work): Target(peer, apps.works[work]) for work in works if work in apps.works}
        except CannotInstall as error:
            missing[POCKETBASE] = str(error)
        for name, start in PEERS.items() if place == Place(workers=1) and "profile" in works else ():
            folder = directory / name
            folder.mkdir()
            try:
                targets[name, "profile"] = Target(*stack.enter_context(start(folder)))
            except CannotInstall as error:
                missing[name] = str(error)
        for target in targets.values():
            target.cost("saturation", CONNECTIONS)  # not counted: everything is warm afterwards
        yield targets, missing


def _bare(port: int, count: int) -> Phases:
    yield [get_request(port, "/users/me", {"Authorization": "Bearer " + "x" * 400})] * count


def _bare_form(port: int, route: str, count: int) -> Phases:
    yield [
        form_request(port, f"/{route}", {"grant_type": "refresh_token", "refresh_token": token_of(session_id, 1)})
        for session_id in IDS[:count]
    ]


def _floor_rows(place: Place, route: str, costs: Costs) -> Iterator[Row]:
    """Under load, our writer commits for many at once, and this one for each: only `alone` compares."""
    for load in ["alone"] if route == "rotated" else SHARES:
        bare, cost = costs[BARE, BARE, load], costs[BARE, route, load]
        yield Row.of(FLOORS[route], "x bare", _ratios(cost, bare), place=place.name, load=load, measured=_micro(cost))


def _rows(place: Place, work: str, costs: Costs, missing: dict[str, str]) -> Iterator[Row]:
    title = TITLES[work]
    for load in SHARES:
        ours, bare = costs["ours", work, load], costs[BARE, BARE, load]
        where = partial(Row.of, place=place.name, load=load)
        yield where(title, "x bare", _ratios(ours, bare), measured=_micro(ours), budget=BUDGETS.get((work, load)))
        for peer in (peer for peer, works in PEER_WORKS.items() if work in works):
            if peer in missing:
                yield Row(f"{title}, {peer}", "x bare", place.name, load, missing=missing[peer])
            elif (theirs := costs.get((peer, work, load))) is not None:
                yield where(f"{title}, {peer}", "x bare", _ratios(theirs, bare), measured=_micro(theirs))
        theirs = costs.get((POCKETBASE, work, load))
        if work == "signin" and theirs is not None:
            budget = SIGN_IN_BUDGETS.get(load)
            yield where(f"{title}, ours", "x PocketBase", _ratios(ours, theirs), measured=_micro(ours), budget=budget)


def _ratios(costs: list[float], others: list[float]) -> list[float]:
    return [cost / other for cost, other in zip(costs, others, strict=True)]


def _micro(costs: list[float]) -> str:
    return f"{median(costs):.0f} µs"
