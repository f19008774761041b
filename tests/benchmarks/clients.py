"""The work that apps give our server: profiles, refreshes, and whole sign-ins.

A work is a generator, so that a benchmark decides how its requests are sent: it yields requests, and is sent the
answers. What it does between is not measured.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from itertools import count as counter
from itertools import islice
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.benchmarks.load import addresses, ask_each, form_request, get_request
from tests.benchmarks.provider import StandIn

Phases = Generator[Sequence[bytes], list[bytes], None]
Work = Callable[[int], Phases]
PEOPLE = 100
"""The number of people who sign in again and again."""
SESSIONS_OF_USER = 10


class Clients:
    """Apps with `count` sessions. The people of these do not sign in again: a hundred sessions are the most."""

    def __init__(self, port: int, database_url: str, provider: StandIn, count: int) -> None:
        self._port = port
        self._database_url = database_url
        self._provider = provider
        self._addresses = addresses()
        self._guests = (f"guest-{number % PEOPLE}" for number in counter())
        owners = [f"owner-{number // SESSIONS_OF_USER}" for number in range(count)]
        answers = [json.loads(body) for body in run(self._sign_in(owners), port)]
        self._tokens = [answer["refresh_token"] for answer in answers]
        self._bearer = {"Authorization": f"Bearer {answers[0]['access_token']}"}
        run(self.sign_in(PEOPLE), port)
        self.works = {
            "profile": self.profile,
            "refresh": self.refresh,
            "repeat": self.repeat,
            "signin": self.sign_in,
        }

    def profile(self, count: int) -> Phases:
        """Read one profile."""
        yield [get_request(self._port, "/users/me", self._bearer)] * count

    def sign_in(self, count: int) -> Phases:
        """Sign in people who signed in before: begin, and come back from the provider with a code."""
        yield from self._sign_in(list(islice(self._guests, count)))

    def _sign_in(self, people: list[str]) -> Phases:
        clients = [{"X-Forwarded-For": address} for address in islice(self._addresses, len(people))]
        begun = yield [get_request(self._port, "/auth/google/start", client) for client in clients]
        queries = [parse_qs(urlsplit(json.loads(body)["auth_url"]).query) for body in begun]
        codes = self._provider.approve(people, [query["nonce"][0] for query in queries])
        returned = [{"state": query["state"][0], "code": code} for query, code in zip(queries, codes, strict=True)]
        yield [
            get_request(self._port, f"/auth/google/callback?{urlencode(parameters)}", client)
            for parameters, client in zip(returned, clients, strict=True)
        ]

    def refresh(self, count: int) -> Phases:
        """Refresh sessions with their newest tokens, long after the last refresh."""
        self._last_refreshed(0)
        yield from self._refresh(count, moves_on=True)

    def repeat(self, count: int) -> Phases:
        """Refresh sessions again, within the reuse window."""
        self._last_refreshed(int(time.time() * 1000))
        yield from self._refresh(count, moves_on=False)

    def _refresh(self, count: int, *, moves_on: bool) -> Phases:
        old = self._tokens[:count]
        forms = [{"grant_type": "refresh_token", "refresh_token": token} for token in old]
        bodies = yield [
            form_request(self._port, "/auth/token", form, address=address)
            for form, address in zip(forms, self._addresses, strict=False)
        ]
        new = [json.loads(body)["refresh_token"] for body in bodies]
        if any((before == after) is moves_on for before, after in zip(old, new, strict=True)):
            raise RuntimeError("A token moved on within the window, or did not outside it.")
        self._tokens[:count] = new

    def _last_refreshed(self, moment: int) -> None:
        """Write into every session that its last refresh was at a moment, in ms: no benchmark waits for the window."""
        change = f'UPDATE "session" SET "rotated_at" = {moment} WHERE "rotated_at" <> {moment}'
        if self._database_url.startswith("sqlite:///"):
            database = sqlite3.connect(self._database_url.removeprefix("sqlite:///"), timeout=30)
        else:
            import psycopg

            database = psycopg.connect(self._database_url)
        with database:
            database.execute(change)
        database.close()


def run(phases: Phases, port: int) -> list[bytes]:
    """Do a work that is not measured. Return its last answers."""
    requests = next(phases)
    while True:
        bodies = ask_each(port, requests)
        try:
            requests = phases.send(bodies)
        except StopIteration:
            return bodies
