"""Purging: logins, nonces and sessions that are over, and events older than the operator wants to keep."""

import asyncio
import time
from collections.abc import Callable, Iterator
from random import uniform

from nextarget.errors import NexTargetError
from nextarget.model import Millis
from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.upkeep import purge
from nextarget.telemetry import get_logger, metrics

PERIOD_SECONDS = 600
START_SECONDS = 30
"""How long a process waits at the most before it purges for the first time; all wait differently."""
REST = 4
"""How often as long as a batch took to leave the database to others: their writes find it free most of the time."""
REST_WHILE_WATCHED = 1
"""The same for the terminal, where somebody waits."""
USED_HOURS = 1
"""How long what was used once stays after it expired: a state or a code that comes twice is recognised until then, and
the clocks of several nodes may differ."""
STRANGERS_DAYS = 7
"""How long the record of what strangers did is kept."""

HOUR_MS = 3600 * 1000

log = get_logger()


def due(db: Connection, *, now: Millis, audit_days: int) -> int:
    """How many rows are over."""
    return purge.count(db, _limits(now, audit_days))


def one_batch(db: Connection, *, now: Millis, audit_days: int) -> int:
    """Delete a batch of what is over; how many rows there were. None is left once it returns 0, unless another process
    is at them."""
    return purge.one_batch(db, _limits(now, audit_days))


def one_turn(db: Connection, *, now: Millis, audit_days: int) -> int:
    """As `one_batch`, if no other process purges right now; else 0."""
    return one_batch(db, now=now, audit_days=audit_days) if purge.take_turn(db) else 0


def _limits(now: Millis, audit_days: int) -> purge.Limits:
    return purge.Limits(
        used=Millis(now - USED_HOURS * HOUR_MS),
        expired=now,
        events=Millis(now - audit_days * DAY_MS),
        strangers=Millis(now - min(audit_days, STRANGERS_DAYS) * DAY_MS),
    )


def purge_here(database: Database, *, now: Millis, audit_days: int) -> Iterator[int]:
    """Delete all that is over, on this thread; the rows of each batch. Others may purge meanwhile."""
    while True:
        began = time.monotonic()
        deleted = database.write_now(one_batch, now=now, audit_days=audit_days)
        if not deleted:
            return
        yield deleted
        time.sleep(REST_WHILE_WATCHED * (time.monotonic() - began))


async def purge_now(database: Database, *, now: Millis, audit_days: int) -> int:
    """Delete all that is over, if no other process does; how many rows there were."""
    total = 0
    with database.sole_purger() as alone:
        while alone:
            began = time.monotonic()
            deleted = await database.write(one_turn, now=now, audit_days=audit_days)
            if not deleted:
                break
            total += deleted
            metrics.count_purged(deleted)
            await asyncio.sleep(REST * (time.monotonic() - began))
    return total


async def purge_for_ever(database: Database, *, clock: Callable[[], Millis], audit_days: int) -> None:
    """Purge every PERIOD_SECONDS or so, until cancelled. What fails is logged and tried again."""
    await asyncio.sleep(uniform(0, START_SECONDS))  # noqa: S311 - so that processes do not all begin at once
    while True:
        try:
            if deleted := await purge_now(database, now=clock(), audit_days=audit_days):
                log.info("purged", rows=deleted)
        except NexTargetError as error:
            log.warning("purge_failed", reason=error.note)
        await asyncio.sleep(PERIOD_SECONDS * uniform(0.9, 1.1))  # noqa: S311 - likewise
