"""The token endpoint's load: devices that refresh, each with its newest token, and codes that are redeemed once.

Sessions and codes are written into the sandbox's database beforehand, so that only the token endpoint is measured.

`python -m tests.benchmarks.tokens refresh|redeem DIRECTORY PORT COUNT`
"""

import json
import secrets
import sys
import uuid
from pathlib import Path

from nextarget.model import AppRequest, Login, LoginMode, Millis, Provider, User
from nextarget.runtime import Runtime
from nextarget.services import accounts
from nextarget.storage import logins, sessions
from nextarget.storage.database import Connection
from nextarget.tokens.encoding import code_challenge, digest
from tests.benchmarks.load import CONNECTIONS, ask_each, form_request
from tests.running import sandbox_settings

VERIFIER = "benchmark-benchmark-benchmark-benchmark-benchmark"
REDIRECT = "nextarget://callback"


class Tokens:
    """What the apps of one user hold. `count` of them refresh in a round, one session each."""

    def __init__(self, directory: Path, port: int, count: int) -> None:
        self._port = port
        self._runtime = Runtime(sandbox_settings(directory, port))
        self._user, self._tokens = self._runtime.database.write_now(self._sign_in, count)

    def close(self) -> None:
        self._runtime.database.close()

    def _sign_in(self, db: Connection, count: int) -> tuple[User, list[str]]:
        now, making = self._runtime.clock(), self._runtime.sessions
        user = accounts.create_test_user(db, "ada@x.example", Provider.GOOGLE, now=now)
        opened = [making.new(user.id, label=None, now=now) for _ in range(count)]
        for session in opened:
            sessions.add(db, session)
        return user, [making.pair(user, session, now).refresh_token for session in opened]

    def refresh(self, count: int, connections: int = CONNECTIONS, *, later: bool = True) -> None:
        """Refresh each session once, with its newest token; unless `later`, within the reuse window."""
        if later:
            self._runtime.database.write_now(lambda db: db.execute_sql('UPDATE "session" SET "rotated_at" = 0'))
        forms = [{"grant_type": "refresh_token", "refresh_token": token} for token in self._tokens[:count]]
        answers = self._post(forms, connections)
        moved_on = [answer["refresh_token"] for answer in answers]
        if later == any(old == new for old, new in zip(self._tokens, moved_on, strict=False)):
            raise RuntimeError("A token moved on within the window, or did not outside it.")
        self._tokens[:count] = moved_on

    def redeem(self, count: int, connections: int = CONNECTIONS) -> None:
        """Redeem new codes, each once."""
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
        for code in codes:
            login = Login(str(uuid.uuid4()), Provider.GOOGLE, LoginMode.APP, "key", now, later, app)
            logins.add(db, login, state_digest=login.id, cookie_digest=None)
            logins.grant_code(db, login.id, user_id=self._user.id, code_digest=digest(code), expires_at=later)
        return codes

    def _post(self, forms: list[dict[str, str]], connections: int) -> list[dict[str, str]]:
        requests = [form_request(self._port, "/auth/token", form) for form in forms]
        return [json.loads(body) for body in ask_each(self._port, requests, connections=connections)]


def main() -> None:
    kind, directory, port, count = sys.argv[1:]
    tokens = Tokens(Path(directory), int(port), int(count))
    (tokens.refresh if kind == "refresh" else tokens.redeem)(int(count))
    tokens.close()


if __name__ == "__main__":
    main()
