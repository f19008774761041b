"""What an operator does with users: list them, show one, deactivate, activate and delete one, end its sessions.

A user is named by its id, or by its email if only one user has that email. Functions run on the calling thread: the
event loop has to call them with `asyncio.to_thread`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from nextarget.model import AuditEvent, Millis, Provider, Session, User
from nextarget.services import accounts
from nextarget.services.sessions import end_all
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.engines.rests import Rests
from nextarget.storage.rows import audit, sessions, users

PAGE = 500
"""Users that are read at a time."""


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which users to list: a field that is not set fits every user. `email` may contain `*` for any text."""

    provider: Provider | None = None
    inactive: bool = False
    email: str | None = None

    def __bool__(self) -> bool:
        return self != UserFilter()


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user, its valid sessions and its latest events."""

    user: User
    sessions: list[Session]
    events: list[AuditEvent]


def list_users(
    database: Database, wanted: UserFilter, *, newest: bool = False, limit: int | None = None, rests: bool = False
) -> Iterator[User]:
    """Users, oldest first unless `newest`. Only one page is in memory, and each page is a read of its own.

    `rests` is whether to rest between two pages, as nobody waits.
    """
    every = _every_user(database, wanted, newest=newest, size=min(limit or PAGE, PAGE), rests=rests)
    return islice(every, limit)


def _every_user(database: Database, wanted: UserFilter, *, newest: bool, size: int, rests: bool) -> Iterator[User]:
    after: User | None = None
    between = Rests()
    while page := database.read_now(
        users.page,
        after=after,
        size=size,
        newest=newest,
        provider=wanted.provider,
        inactive=wanted.inactive,
        email=wanted.email,
    ):
        yield from page
        if len(page) < size:
            return
        after = page[-1]
        if rests:
            between.take()


def record_of(database: Database, id_or_email: str, *, now: Millis) -> UserRecord:
    """Everything that is shown of one user. Raises UserNotFound or UserAmbiguous, as all functions below."""
    return database.read_now(_read_record, id_or_email, now)


def set_active(database: Database, id_or_email: str, *, active: bool, now: Millis) -> User:
    """Activate or deactivate a user. Deactivating ends every session. Returns the user as it was before."""
    return database.write_now(_set_active, _id_of(database, id_or_email), active, now)


def end_sessions(database: Database, id_or_email: str, *, now: Millis) -> tuple[User, int]:
    """End every session of a user. Returns the user, and how many sessions there were."""
    return database.write_now(_end_sessions, _id_of(database, id_or_email), now)


def delete(database: Database, id_or_email: str, *, now: Millis) -> None:
    """Delete a user and its sessions."""
    database.write_now(_delete, _id_of(database, id_or_email), now)


def _id_of(database: Database, id_or_email: str) -> str:
    """Find the user in a read transaction of its own. No index serves a search for an email that ignores case: it can
    take long, and in a write transaction other writers would have to wait for it."""
    return database.read_now(accounts.find_one, id_or_email).id


def _read_record(db: Connection, id_or_email: str, now: Millis) -> UserRecord:
    user = accounts.find_one(db, id_or_email)
    return UserRecord(user, sessions.of_user(db, user.id, active_at=now), audit.latest_of_user(db, user.id))


def _set_active(db: Connection, user_id: str, active: bool, now: Millis) -> User:
    user = accounts.find_one(db, user_id)
    if user.is_active != active:
        accounts.set_active(db, user, active=active, now=now)
    return user


def _end_sessions(db: Connection, user_id: str, now: Millis) -> tuple[User, int]:
    user = accounts.find_one(db, user_id)
    return user, end_all(db, user, now=now)


def _delete(db: Connection, user_id: str, now: Millis) -> None:
    accounts.delete(db, accounts.find_one(db, user_id), now=now)
