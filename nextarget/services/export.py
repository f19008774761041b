"""Everything that is kept about a person, page by page.

Each page is a short read of its own: however slowly it is taken, nobody holds on to the database, and others have their
turn between two pages.
"""

import asyncio
from collections.abc import AsyncIterator

from nextarget.model import AuditEvent, Millis, Session, User
from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import audit, sessions

REFRESHING = audit.REFRESHING
PAGE = 100
"""Rows that are read at a time; of SQLite on the event loop."""


async def sessions_of(database: Database, user: User) -> AsyncIterator[list[Session]]:
    """The user's sessions, whatever became of them, oldest first."""
    page = await database.read(sessions.page_of_user, user.id, size=PAGE)
    while page:
        yield page
        await asyncio.sleep(0)
        page = await database.read(sessions.page_of_user, user.id, after=page[-1], size=PAGE)


async def events_of(database: Database, user: User, *, now: Millis) -> AsyncIterator[list[AuditEvent]]:
    """What is on record about the user, newest first; last, what their apps' refreshes led to before this day (UTC).

    A thief who knew when an app refreshes would refresh within the reuse window of it, and never be noticed. It may
    ask for this all the time, so that an event which appears at its moment tells it, whatever the event says. What
    happened in a day therefore appears when the day is over, all at once, behind everything else, and pushes nothing
    else out. Of many the newest page is shown.
    """
    page = await database.read(audit.page_of_user, user.id, size=PAGE)
    while page:
        yield [event for _, event in page]
        await asyncio.sleep(0)
        page = await database.read(audit.page_of_user, user.id, before=page[-1][0], size=PAGE)
    today = Millis(now - now % DAY_MS)
    yield await database.read(audit.latest_of_refreshing, user.id, before=today, limit=PAGE)
