"""Whether this process should be sent requests: what `GET /health/ready` answers, and what makes it say no."""

import asyncio

from aiohttp import web

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import Database
from nextarget.storage.upkeep.schema import lacking

CHECK_SECONDS = 2
"""How long the database may take to answer."""
FRESH_SECONDS = 1
"""How long one look at the database answers everybody who asks, unless something has failed since."""
WATCH_SECONDS = 15
"""How often a database that failed is looked at when nobody asks: its end is told, and until then it is counted."""


class Readiness:
    """However many ask and however slow the database is, it is asked one thing at a time, at most once a second, and
    once for each failure of somebody's that comes in between."""

    def __init__(self, database: Database) -> None:
        self.draining = False
        """Set once this process is going to stop, and is to get no more work."""
        self._database = database
        self._look: asyncio.Task[str | None] | None = None
        self._fresh_until = 0.0

    async def failing(self) -> str | None:
        """The check that fails: draining, database or migrations; None when requests are welcome."""
        if self.draining:
            return "draining"
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                for _ in range(2):  # a question may fail while the first look is under way
                    # Whoever gives up waiting leaves it to the others.
                    failing = await asyncio.shield(self._latest_look())
                    if failing is not None or not self._database.trouble.suspected:
                        return failing
        except TimeoutError:
            pass
        return "database"

    def _latest_look(self) -> "asyncio.Task[str | None]":
        """The one that is under way, or was made a moment ago; a new one where that found nothing and a question has
        failed since."""
        loop = asyncio.get_running_loop()
        look = self._look
        if look is None or (look.done() and (loop.time() >= self._fresh_until or self._is_outdated(look))):
            look = self._look = loop.create_task(self._look_at_database())
        return look

    def _is_outdated(self, look: "asyncio.Task[str | None]") -> bool:
        return look.result() is None and self._database.trouble.suspected

    async def watch_for_ever(self) -> None:
        """Look by oneself at a database that has failed, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._database.trouble.suspected:
                await self.failing()

    async def _look_at_database(self) -> str | None:
        """It must be readable, migrated and, where there is a doubt, writable."""
        try:
            if await self._database.read(lacking):
                return "migrations"
            await self._database.try_writing()
        except DatabaseUnavailable:
            return "database"
        else:
            return None
        finally:
            self._fresh_until = asyncio.get_running_loop().time() + FRESH_SECONDS

    def close(self) -> None:
        """Wait for the database no longer."""
        if self._look is not None:
            self._look.cancel()


READINESS = web.AppKey("readiness", Readiness)
