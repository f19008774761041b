"""Whether this process should get requests: the checks behind `GET /health/ready`."""

import asyncio

from aiohttp import web

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import Database
from nextarget.storage.upkeep.schema import lacking

CHECK_SECONDS = 2
"""How long the database may take to answer."""
FRESH_SECONDS = 1
"""How long the result of one check of the database is reused, unless a query has failed since."""
WATCH_SECONDS = 15
"""How often a failed database is checked if nobody requests /health/ready. Until it recovers, which is logged, its
failures are counted."""


class Readiness:
    """Checks the database for all callers together: one check at a time, at most one a second.

    A query of a handler that fails in between allows one more check.
    """

    def __init__(self, database: Database) -> None:
        self.draining = False
        """Set when this process is about to stop, and should get no more requests."""
        self._database = database
        self._check: asyncio.Task[str | None] | None = None
        self._fresh_until = 0.0

    async def failing(self) -> str | None:
        """The check that fails: draining, database or migrations; None if the process is ready."""
        if self.draining:
            return "draining"
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                for _ in range(2):  # a query may fail while the first check runs
                    # `shield`: a caller that times out must not cancel the check for the other callers.
                    failing = await asyncio.shield(self._latest_check())
                    if failing is not None or not self._database.trouble.suspected:
                        return failing
        except TimeoutError:
            pass
        return "database"

    def _latest_check(self) -> "asyncio.Task[str | None]":
        """The running check, or one that is at most FRESH_SECONDS old.

        A new check starts if there is none, or if the last one found no problem and a query has failed since.
        """
        loop = asyncio.get_running_loop()
        look = self._check
        if look is None or (look.done() and (loop.time() >= self._fresh_until or self._is_outdated(look))):
            look = self._check = loop.create_task(self._check_database())
        return look

    def _is_outdated(self, look: "asyncio.Task[str | None]") -> bool:
        return look.result() is None and self._database.trouble.suspected

    async def watch_for_ever(self) -> None:
        """Check a failed database without being asked, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._database.trouble.suspected:
                await self.failing()

    async def _check_database(self) -> str | None:
        """The database must be readable, migrated and, if a failure is suspected, writable."""
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
        """Cancel a check that waits for the database."""
        if self._check is not None:
            self._check.cancel()


READINESS = web.AppKey("readiness", Readiness)
