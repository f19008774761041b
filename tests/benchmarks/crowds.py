"""Databases with many users, written by storage itself: a million sign-ins would take an hour."""

import uuid
from pathlib import Path

from nextarget.model import Millis, Session
from nextarget.runtime import Runtime, utc_now
from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.database import Connection
from nextarget.storage.rows import sessions as store
from nextarget.storage.rows.tables import LoginTable, UserTable
from nextarget.storage.upkeep.schema import migrate
from nextarget.tokens.encoding import digest
from nextarget.tokens.refresh import NEW_SESSION
from tests.benchmarks.servers import production_settings

BATCH = 1000


class Crowd:
    """A database of `values` with users, a session for every user, and expired logins."""

    def __init__(self, directory: Path, values: dict[str, str]) -> None:
        self._runtime = Runtime(production_settings(directory, values))
        migrate(self._runtime.database)

    def close(self) -> None:
        self._runtime.database.close()

    def add_users(self, count: int, *, sample: int) -> list[str]:
        """Add users with a session each. Return the access tokens of a `sample`, spread over all users."""
        tokens = []
        for first in range(0, count, BATCH):
            sessions = self._runtime.database.write_now(_add_users, range(first, min(first + BATCH, count)))
            now = self._runtime.clock()
            for session in sessions[:: max(1, count // sample)]:
                tokens.append(self._runtime.sessions.access_token(session, now).token)
        return tokens

    def add_expired_logins(self, count: int) -> None:
        """Add logins that `purge` deletes."""
        for first in range(0, count, BATCH):
            self._runtime.database.write_now(_add_expired_logins, min(BATCH, count - first))


def _add_users(db: Connection, numbers: range) -> list[Session]:
    now = utc_now()
    since, later = Millis(now - 2 * DAY_MS), Millis(now + 30 * DAY_MS)
    users = [
        {
            "id": str(uuid.uuid4()),
            "provider": "google",
            "subject_digest": digest(f"google:{number}"),
            "email": f"user{number}@example.org",
            "email_verified": True,
            "is_active": True,
            "created_at": since,
        }
        for number in numbers
    ]
    UserTable.insert_many(users).execute(db)
    sessions = [
        Session(str(uuid.uuid4()), user["id"], "nextarget-app", None, now, later, None, NEW_SESSION) for user in users
    ]
    for session in sessions:
        store.add(db, session)
    return sessions


def _add_expired_logins(db: Connection, count: int) -> None:
    over = Millis(utc_now() - 2 * DAY_MS)
    logins = [
        {
            "id": str(uuid.uuid4()),
            "state_digest": digest(str(uuid.uuid4())),
            "provider": "google",
            "mode": "app",
            "key_id": "key",
            "created_at": over,
            "expires_at": over,
        }
        for _ in range(count)
    ]
    LoginTable.insert_many(logins).execute(db)
