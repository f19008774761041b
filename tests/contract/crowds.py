"""Users with very many sessions, and the sessions that were displaced."""

import uuid

from nextarget.model import Millis, Session, User
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, sessions, users
from nextarget.tokens.refresh import NEW_SESSION
from tests.contract.rows import HOUR, NOW, later


def session_at(user_id: str, when: int, *, lasts: int = HOUR, **moments: int) -> Session:
    """A session that began this many milliseconds after NOW. `rotated_at` and `recovered_at` are given in the same
    way."""
    generations = NEW_SESSION._replace(**{name: later(moment) for name, moment in moments.items()})
    return Session(str(uuid.uuid4()), user_id, "app", None, later(when), later(when + lasts), None, generations)


def begin(db: Connection, user_id: str, session: Session | None = None) -> Session:
    """Begins a session as every sign-in does: it locks the user first."""
    session = session or session_at(user_id, 0)
    assert users.lock_row(db, user_id)
    sessions.begin(db, session)
    return session


def fill(db: Connection, user: User, count: int, *, when: int = 0) -> list[Session]:
    """Sessions that began one millisecond after another. They may be more than today's code allows."""
    made = [session_at(user.id, when + number, lasts=HOUR) for number in range(count)]
    for session in made:
        sessions.add(db, session)
    return made


def active(db: Connection, user_id: str, now: Millis = NOW) -> set[str]:
    return {session.id for session in sessions.of_user(db, user_id, active_at=now)}


def displaced(database: Database, user: User) -> list[str | None]:
    events = database.read_now(audit.latest_of_user, user.id, limit=1000)
    return [event.session_id for event in events if event.event == "session_displaced"]
