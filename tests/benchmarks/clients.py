"""The requests of clients: profiles, starts, refreshes with the newest token, and codes that are redeemed once.

Sessions and codes are written into the database beforehand, so that only the measured route uses CPU time.

`python -m tests.benchmarks.clients WORK COUNT DIRECTORY PORT`
"""

import json
import secrets
import sys
import uuid
from itertools import islice
from pathlib import Path

from nextarget.model import AppRequest, AuthorizationCode, Login, LoginMode, Millis, Provider, TokenPair, User
from nextarget.runtime import Runtime
from nextarget.services import accounts
from nextarget.settings import Settings
from nextarget.storage.engines.database import Connection
from nextarget.storage.rows import logins, sessions
from nextarget.tokens.encoding import code_challenge, digest
from tests.benchmarks.load import CONNECTIONS, addresses, ask_each, form_request, get_request
from tests.benchmarks.servers import production_settings, production_values

VERIFIER = "benchmark-benchmark-benchmark-benchmark-benchmark"
REDIRECT = "nextarget://callback"
CODES_OF_USER = 10


class Clients:
    """The apps of one user, with `count` sessions. A work takes a number of requests and of connections."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._port = settings.port
        self._addresses = addresses()
        self._runtime = Runtime(settings)
        self._user, pairs = self._runtime.database.write_now(self._sign_in, count)
        self._tokens = [pair.refresh_token for pair in pairs]
        self._bearer = {"Authorization": f"Bearer {pairs[0].access.token}"}

    def close(self) -> None:
        self._runtime.database.close()

    def _sign_in(self, db: Connection, count: int) -> tuple[User, list[TokenPair]]:
        now, making = self._runtime.clock(), self._runtime.sessions
        user = accounts.create_test_user(db, "ada@x.example", Provider("google"), now=now)
        opened = [making.new(user.id, client_id="nextarget-app", label=None, now=now) for _ in range(count)]
        for session in opened:
            sessions.add(db, session)
        return user, [making.pair(user, session, now) for session in opened]

    def me(self, count: int, connections: int = CONNECTIONS, *, port: int | None = None) -> None:
        """Read one profile, from the server or from another `port`."""
        port = port or self._port
        ask_each(port, [get_request(port, "/users/me", self._bearer)] * count, connections=connections)

    def start(self, count: int, connections: int = CONNECTIONS) -> None:
        """Begin logins."""
        clients = islice(self._addresses, count)
        requests = [get_request(self._port, "/auth/google/start", {"X-Forwarded-For": address}) for address in clients]
        ask_each(self._port, requests, connections=connections)

    def repeat(self, count: int, connections: int = CONNECTIONS) -> None:
        """Refresh again, within the reuse window."""
        self.refresh(count, connections, later=False)

    def refresh(self, count: int, connections: int = CONNECTIONS, *, later: bool = True) -> None:
        """Refresh every session once with its newest token. Without `later`, refresh within the reuse window."""
        if later:
            self._runtime.database.write_now(lambda db: db.execute_sql('UPDATE "session" SET "rotated_at" = 0'))
        forms = [{"grant_type": "refresh_token", "refresh_token": token} for token in self._tokens[:count]]
        answers = self._post(forms, connections)
        moved_on = [answer["refresh_token"] for answer in answers]
        if later == any(old == new for old, new in zip(self._tokens, moved_on, strict=False)):
            raise RuntimeError("A token moved on within the window, or did not outside it.")
        self._tokens[:count] = moved_on

    def redeem(self, count: int, connections: int = CONNECTIONS) -> None:
        """Redeem new codes. A code is redeemed once."""
        forms = [
            {
                "grant_type": "authorization_code",
                "client_id": "nextarget-app",
                "redirect_uri": REDIRECT,
                "code_verifier": VERIFIER,
                "code": code,
            }
            for code in self._runtime.database.write_now(self._grant, count)
        ]
        self._post(forms, connections)

    def _grant(self, db: Connection, count: int) -> list[str]:
        now = self._runtime.clock()
        later = Millis(now + 60_000)
        app = AppRequest("nextarget-app", REDIRECT, code_challenge(VERIFIER), "state")
        codes = [secrets.token_urlsafe(32) for _ in range(count)]
        for number, code in enumerate(codes):
            if (
                number % CODES_OF_USER == 0
            ):  # a person with a hundred sessions is rare, and every further sign-in ends one of them
                user = accounts.create_test_user(db, f"{uuid.uuid4()}@x.example", Provider("google"), now=now)
            state = digest(f"state of {code}")
            login = Login(str(uuid.uuid4()), state, Provider("google"), LoginMode.APP, now, later, app)
            logins.use(db, login, user_id=user.id, code=AuthorizationCode(digest(code), later), now=now)
        return codes

    def _post(self, forms: list[dict[str, str]], connections: int) -> list[dict[str, str]]:
        clients = zip(forms, self._addresses, strict=False)
        requests = [form_request(self._port, "/auth/token", form, address=address) for form, address in clients]
        return [json.loads(body) for body in ask_each(self._port, requests, connections=connections)]


def main() -> None:
    work, count, directory, port = sys.argv[1:]
    clients = Clients(production_settings(Path(directory), production_values(Path(directory), int(port))), int(count))
    getattr(clients, work)(int(count))
    clients.close()


if __name__ == "__main__":
    main()
