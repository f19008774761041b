"""Reads the audit record for an operator, in pieces, so that a record of any length is read in little memory."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice

from nextarget.errors import UserNotFound
from nextarget.model import AuditEvent, Millis
from nextarget.services import accounts
from nextarget.storage.engines.database import Database
from nextarget.storage.engines.rests import Rests
from nextarget.storage.rows import audit

PIECE = 5000
"""Events that one read looks at."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to read: a field that is not set fits every event. `mentioning` is the id of a login, a
    request or a user."""

    user_id: str | None = None
    event: str | None = None
    since: Millis | None = None
    until: Millis | None = None
    mentioning: str | None = None

    def __bool__(self) -> bool:
        return self != EventFilter()


def list_events(
    database: Database, wanted: EventFilter, *, newest: bool = False, limit: int | None = None, rests: bool = False
) -> Iterator[AuditEvent]:
    """Events, oldest first unless `newest`. Only one piece is in memory, and each piece is a read of its own.

    `rests` is whether to rest between two pieces, as nobody waits.
    """
    return islice(_every_event(database, wanted, newest=newest, rests=rests), limit)


def _every_event(database: Database, wanted: EventFilter, *, newest: bool, rests: bool) -> Iterator[AuditEvent]:
    after: audit.Place | None = None
    between = Rests()
    while True:
        after, events = database.read_now(audit.piece, after=after, newest=newest, size=PIECE, **asdict(wanted))
        yield from events
        if after is None:
            return
        if rests:
            between.take()


def user_id_of(database: Database, id_or_email: str) -> str:
    """The id of a user. An id without a user is taken as it is: it may be the id of a deleted user.

    Raises UserNotFound for an email that no user has, and UserAmbiguous.
    """
    try:
        return database.read_now(accounts.find_one, id_or_email).id
    except UserNotFound:
        if "@" in id_or_email:
            raise
        return id_or_email
