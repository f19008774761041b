"""Purging: deletes expired logins, nonces and sessions, and audit events older than their retention time."""

import asyncio
import time
from collections.abc import Callable, Iterator
from random import uniform

from nextarget.errors import NexTargetError
from nextarget.model import Millis
from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.engines.rests import Rests, rest_after
from nextarget.storage.upkeep import purge
from nextarget.telemetry import get_logger, metrics

PERIOD_SECONDS = 600
START_SECONDS = 30
"""A process waits a random time before its first purge; this is the longest."""
USED_HOURS = 1
"""How long a used state, code or nonce is kept after it expired. Until then a second use is recognised. The time also
allows for nodes whose clocks differ."""
STRANGERS_DAYS = 7
"""How long the audit events of failed sign-ins are kept, which strangers can cause."""

HOUR_MS = 3600 * 1000

log = get_logger()


def due(db: Connection, *, now: Millis, audit_days: int) -> int:
    """How many rows can be deleted."""
    return purge.count(db, _limits(now, audit_days))


def one_batch(db: Connection, *, now: Millis, audit_days: int) -> int:
    """Delete one batch of rows, and return their number. 0 means that no row is left, except rows that another process
    is deleting at the moment."""
    return purge.one_batch(db, _limits(now, audit_days))


def one_turn(db: Connection, *, now: Millis, audit_days: int) -> int:
    """Like `one_batch`, but deletes nothing and returns 0 while another process purges."""
    return one_batch(db, now=now, audit_days=audit_days) if purge.take_turn(db) else 0


def _limits(now: Millis, audit_days: int) -> purge.Limits:
    return purge.Limits(
        used=Millis(now - USED_HOURS * HOUR_MS),
        expired=now,
        events=Millis(now - audit_days * DAY_MS),
        strangers=Millis(now - min(audit_days, STRANGERS_DAYS) * DAY_MS),
    )


def purge_here(database: Database, *, now: Millis, audit_days: int) -> Iterator[int]:
    """Delete all expired rows, on the caller's thread; yields the number of rows of a batch. Other processes may purge
    at the same time. What a power cut undoes is deleted by the next purge."""
    rests = Rests()
    while True:
        deleted = database.write_unsynced(one_batch, now=now, audit_days=audit_days)
        if not deleted:
            return
        yield deleted
        rests.take()


async def purge_now(database: Database, *, now: Millis, audit_days: int) -> int:
    """Delete all expired rows, unless another process purges. Returns the number of rows."""
    total = 0
    with database.sole_purger() as alone:
        while alone:
            began = time.monotonic()
            deleted = await database.write(one_turn, now=now, audit_days=audit_days)
            if not deleted:
                break
            total += deleted
            metrics.count_purged(deleted)
            await asyncio.sleep(rest_after(time.monotonic() - began))
    return total


async def purge_for_ever(database: Database, *, clock: Callable[[], Millis], audit_days: int) -> None:
    """Purge about every PERIOD_SECONDS, until cancelled. A purge that fails is logged, and the next one tries again."""
    await asyncio.sleep(uniform(0, START_SECONDS))  # noqa: S311 - random, so that processes do not begin together
    while True:
        try:
            if deleted := await purge_now(database, now=clock(), audit_days=audit_days):
                log.info("purged", rows=deleted)
        except NexTargetError as error:
            log.warning("purge_failed", reason=error.note)
        await asyncio.sleep(PERIOD_SECONDS * uniform(0.9, 1.1))  # noqa: S311 - for the same reason
