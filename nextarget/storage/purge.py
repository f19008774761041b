"""Deletes what is over, in batches small enough to keep nobody waiting."""

import peewee as pw

from nextarget.model import Millis
from nextarget.storage.statements import Statement

BATCH = 500
"""Rows of each table that one transaction deletes at the most."""


def _delete(table: str, key: str, column: str) -> Statement:
    # Locked, so that nobody has moved a session on before it is deleted; skipping what another purge is at.
    chosen = f'SELECT "{key}" FROM "{table}" WHERE "{column}" < {{0}} LIMIT {BATCH} {{1}}'  # noqa: S608 - names of ours
    statement = f'DELETE FROM "{table}" WHERE "{key}" IN ({chosen})'  # noqa: S608 - names of ours
    return Statement(statement, lock="FOR UPDATE SKIP LOCKED")


_LOGINS = _delete("login", "id", "expires_at")
_NONCES = _delete("nonce", "digest", "expires_at")
_SESSIONS = _delete("session", "id", "expires_at")
_EVENTS = _delete("audit_event", "id", "at")


def one_batch(db: pw.Database, *, logins: Millis, expired: Millis, events: Millis) -> int:
    """Delete logins that expired before `logins`, sessions and nonces that did before `expired`, events older than
    `events`; how many rows that were. A session that was revoked goes when it would have expired."""
    work = ((_LOGINS, logins), (_NONCES, expired), (_SESSIONS, expired), (_EVENTS, events))
    return sum(int(statement.run(db, (before,)).rowcount) for statement, before in work)
