"""Deletes expired rows, in batches that are small enough not to delay a request."""

from dataclasses import dataclass
from typing import Any

import peewee as pw

from nextarget.model import Millis
from nextarget.storage.rows.audit import OF_STRANGERS
from nextarget.storage.rows.tables import AuditEventTable, LoginTable, NonceTable, SessionTable

BATCH = 100
"""How many rows one transaction may delete. A row takes an entry of several indexes with it, each on a page of its own,
and the writes of requests wait until the transaction is on the disk."""

_PURGE_LOCK = 0x70757267  # "purg"


@dataclass(frozen=True, slots=True)
class Limits:
    """Which rows are expired: logins and one-time values that expired before `used`, sessions that expired before
    `expired`, failed sign-ins older than `strangers`, and all other events older than `events`. A revoked session is
    kept until it would have expired."""

    used: Millis
    expired: Millis
    events: Millis
    strangers: Millis


def count(db: pw.Database, limits: Limits) -> int:
    """How many rows are expired."""
    return sum(int(table.select().where(expired).count(db)) for table, expired in _expired(limits))


def one_batch(db: pw.Database, limits: Limits) -> int:
    """Delete one batch, of one table or of several. Returns how many rows were deleted; 0 if no expired row is left."""
    deleted = 0
    for table, expired in _expired(limits):
        if deleted < BATCH:
            deleted += _delete_batch(db, table, expired, limit=BATCH - deleted)
    return deleted


def take_turn(db: pw.Database) -> bool:
    """Take the purge lock until the end of the transaction. Returns False when another server has it.

    The lock ends with its transaction: it works behind a connection pooler, and survives no crash. SQLite needs no
    lock, because it has one writer at a time.
    """
    if not db.for_update:
        return True
    return bool(pw.Select(columns=[pw.fn.pg_try_advisory_xact_lock(_PURGE_LOCK)]).scalar(db))


def _expired(limits: Limits) -> tuple[tuple[type[pw.Model], Any], ...]:
    """Tables, and which of their rows are expired."""
    old_event = AuditEventTable.at < limits.events
    old_failure = AuditEventTable.at < limits.strangers
    return (
        (LoginTable, LoginTable.expires_at < limits.used),
        (NonceTable, NonceTable.expires_at < limits.used),
        (SessionTable, SessionTable.expires_at < limits.expired),
        (AuditEventTable, old_event & pw.SQL(f"NOT {OF_STRANGERS}")),
        (AuditEventTable, old_failure & pw.SQL(OF_STRANGERS)),
    )


def _delete_batch(db: pw.Database, table: type[pw.Model], expired: Any, *, limit: int) -> int:
    key: Any = table._meta.primary_key
    chosen = table.select(key).where(expired).limit(limit)
    if db.for_update:
        # The lock keeps a refresh from extending a session that is about to be deleted. Rows that another purge has
        # locked are skipped.
        chosen = chosen.for_update(skip_locked=True)
    return int(table.delete().where(key.in_(chosen)).execute(db))
