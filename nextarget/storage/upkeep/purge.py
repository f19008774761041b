"""Deletes expired rows, in batches that are small enough not to delay a request."""

from dataclasses import dataclass
from typing import Any, NamedTuple

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
    return sum(int(each.table.select().where(each.condition).count(db)) for each in _expired(limits))


def one_batch(db: pw.Database, limits: Limits) -> int:
    """Delete one batch, of one table or of several. Returns how many rows were deleted; 0 if no expired row is left."""
    deleted = 0
    for expired in _expired(limits):
        if deleted < BATCH:
            deleted += _delete_batch(db, expired, limit=BATCH - deleted)
    return deleted


def take_turn(db: pw.Database) -> bool:
    """Take the purge lock until the end of the transaction. Returns False when another server has it.

    The lock ends with its transaction: it works behind a connection pooler, and survives no crash. SQLite needs no
    lock, because it has one writer at a time.
    """
    if not db.for_update:
        return True
    return bool(pw.Select(columns=[pw.fn.pg_try_advisory_xact_lock(_PURGE_LOCK)]).scalar(db))


class _Expired(NamedTuple):
    """Rows of a table that are expired. `since` is the column with the time, which has an index."""

    since: Any
    condition: Any

    @property
    def table(self) -> type[pw.Model]:
        table: type[pw.Model] = self.since.model
        return table


def _expired(limits: Limits) -> tuple[_Expired, ...]:
    """Which rows are expired."""
    old_event = AuditEventTable.at < limits.events
    old_failure = AuditEventTable.at < limits.strangers
    return (
        _Expired(LoginTable.expires_at, LoginTable.expires_at < limits.used),
        _Expired(NonceTable.expires_at, NonceTable.expires_at < limits.used),
        _Expired(SessionTable.expires_at, SessionTable.expires_at < limits.expired),
        _Expired(AuditEventTable.at, old_event & pw.SQL(f"NOT {OF_STRANGERS}")),
        _Expired(AuditEventTable.at, old_failure & pw.SQL(OF_STRANGERS)),
    )


def _delete_batch(db: pw.Database, expired: _Expired, *, limit: int) -> int:
    key: Any = expired.table._meta.primary_key
    return int(expired.table.delete().where(key.in_(_oldest(db, expired, limit))).execute(db))


def _oldest(db: pw.Database, expired: _Expired, limit: int) -> Any:
    """The keys of the rows to delete, the oldest first.

    With the order, PostgreSQL reads an index from its beginning. Without it, it would read the table where most rows
    are expired, and in every batch again all that it has deleted before.
    """
    key = expired.table._meta.primary_key
    chosen = expired.table.select(key).where(expired.condition).order_by(expired.since).limit(limit)
    if db.for_update:
        # The lock keeps a refresh from extending a session that is about to be deleted. Rows that another purge has
        # locked are skipped.
        chosen = chosen.for_update(skip_locked=True)
    return chosen
