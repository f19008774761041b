"""The export of all data about a person, page by page.

Every page is one short read. A client that downloads slowly keeps no transaction open, and other requests run between
two pages.
"""

import asyncio
from collections.abc import AsyncIterator

from nextarget.model import AuditEvent, Millis, Session, User
from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import audit, sessions

REFRESHING = audit.REFRESHING
PAGE = 100
"""Rows in one read. SQLite reads run on the event loop, so that a read has to be short."""


async def sessions_of(database: Database, user: User) -> AsyncIterator[list[Session]]:
    """All sessions of the user, active or ended, oldest first."""
    page = await database.read(sessions.page_of_user, user.id, size=PAGE)
    while page:
        yield page
        await asyncio.sleep(0)
        page = await database.read(sessions.page_of_user, user.id, after=page[-1], size=PAGE)


async def events_of(database: Database, user: User, *, now: Millis) -> AsyncIterator[list[AuditEvent]]:
    """The audit events of the user, newest first. The last page has the events of refreshes before today (UTC).

    A thief with a copied refresh token who knows when the app refreshes can always refresh within the app's reuse
    window, and is never noticed. The thief can read this export again and again: an event that appears at once shows
    when the app refreshed, whatever the event says. Therefore the refresh events of a day appear together after the
    end of that day (UTC), and on a page of their own, so that they do not push other events to another page. That page
    has the newest PAGE refresh events only.
    """
    page = await database.read(audit.page_of_user, user.id, size=PAGE)
    while page:
        yield [event for _, event in page]
        await asyncio.sleep(0)
        page = await database.read(audit.page_of_user, user.id, before=page[-1][0], size=PAGE)
    today = Millis(now - now % DAY_MS)
    yield await database.read(audit.latest_of_refreshing, user.id, before=today, limit=PAGE)
