"""Deletes what is over, in batches small enough to keep nobody waiting."""

from dataclasses import dataclass

import peewee as pw

from nextarget.model import Millis
from nextarget.storage.engines.statements import Statement
from nextarget.storage.rows.audit import OF_STRANGERS

BATCH = 500
"""Rows of each table that one transaction deletes at the most."""

_TURN = 0x70757267  # "purg"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is over: logins and one-time values that expired before `used`, sessions that did before `expired`, events
    older than `events`, and what strangers did before `strangers`. A session that was revoked goes when it would
    have expired."""

    used: Millis
    expired: Millis
    events: Millis
    strangers: Millis


class _Purge:
    """One table, and the column that says how old a row is; of some rows alone, with a condition on `which`."""

    def __init__(self, table: str, key: str, column: str, *, which: str = "TRUE") -> None:
        over = f'FROM "{table}" WHERE {which} AND "{column}" < {{0}}'
        self.count = Statement(f"SELECT count(*) {over}")
        # Locked, so that nobody has moved a session on before it is deleted; skipping what another purge is at.
        chosen = f'SELECT "{key}" {over} LIMIT {BATCH} {{1}}'
        statement = f'DELETE FROM "{table}" WHERE "{key}" IN ({chosen})'  # noqa: S608 - names of ours
        self.delete = Statement(statement, lock="FOR UPDATE SKIP LOCKED")


_LOGINS = _Purge("login", "id", "expires_at")
_NONCES = _Purge("nonce", "digest", "expires_at")
_SESSIONS = _Purge("session", "id", "expires_at")
_EVENTS = _Purge("audit_event", "id", "at", which=f"NOT {OF_STRANGERS}")
_EVENTS_OF_STRANGERS = _Purge("audit_event", "id", "at", which=OF_STRANGERS)


def _work(limits: Limits) -> tuple[tuple[_Purge, Millis], ...]:
    return (
        (_LOGINS, limits.used),
        (_NONCES, limits.used),
        (_SESSIONS, limits.expired),
        (_EVENTS, limits.events),
        (_EVENTS_OF_STRANGERS, limits.strangers),
    )


def count(db: pw.Database, limits: Limits) -> int:
    """How many rows are over."""
    return sum(int(table.count.rows(db, (before,))[0][0]) for table, before in _work(limits))


def one_batch(db: pw.Database, limits: Limits) -> int:
    """Delete some of what is over; how many rows that were."""
    return sum(int(table.delete.run(db, (before,)).rowcount) for table, before in _work(limits))


def take_turn(db: pw.Database) -> bool:
    """Whether no other server purges, until this transaction ends. In SQLite nobody else writes meanwhile anyhow.

    The lock goes with the transaction, so it works behind a connection pooler too, and a crash holds nothing."""
    if not db.for_update:
        return True
    ((taken,),) = db.execute_sql("SELECT pg_try_advisory_xact_lock(%s)", (_TURN,)).fetchall()  # type: ignore[no-untyped-call]
    return bool(taken)
