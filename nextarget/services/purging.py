"""Purging: logins, nonces and sessions that are over, and events older than the operator wants to keep."""

import asyncio
from collections.abc import Callable

from nextarget.errors import NexTargetError
from nextarget.model import Millis
from nextarget.services.sessions import DAY_MS
from nextarget.storage import purge
from nextarget.storage.database import Connection, Database
from nextarget.telemetry import get_logger, metrics

PERIOD_SECONDS = 600
LOGIN_DAYS = 1
"""How long a login stays after it expired: a code that comes twice is recognised until then."""

log = get_logger()


def one_batch(db: Connection, *, now: Millis, audit_days: int) -> int:
    """Delete a batch of what is over; how many rows there were. None is left once it returns 0."""
    return purge.one_batch(
        db,
        logins=Millis(now - LOGIN_DAYS * DAY_MS),
        expired=now,
        events=Millis(now - audit_days * DAY_MS),
    )


async def purge_now(database: Database, *, now: Millis, audit_days: int) -> int:
    """Delete all that is over, batch by batch, other writes in between; how many rows there were."""
    total = 0
    while deleted := await database.write(one_batch, now=now, audit_days=audit_days):
        total += deleted
        metrics.count_purged(deleted)
    return total


async def purge_for_ever(database: Database, *, clock: Callable[[], Millis], audit_days: int) -> None:
    """Purge every PERIOD_SECONDS, until cancelled. What fails is logged and tried again."""
    while True:
        try:
            if deleted := await purge_now(database, now=clock(), audit_days=audit_days):
                log.info("purged", rows=deleted)
        except NexTargetError as error:
            log.warning("purge_failed", reason=error.note)
        await asyncio.sleep(PERIOD_SECONDS)
