"""The record of what happened: who signed in, what failed and why. Never a token, a code, a state or an email."""

from typing import Any

import peewee as pw

from nextarget.model import AuditEvent
from nextarget.storage.statements import insert_into
from nextarget.storage.tables import AuditEventTable

_COLUMNS = (
    AuditEventTable.at,
    AuditEventTable.event,
    AuditEventTable.login_id,
    AuditEventTable.request_id,
    AuditEventTable.user_id,
    AuditEventTable.session_id,
    AuditEventTable.detail,
)
_ADD = insert_into(AuditEventTable, _COLUMNS)


def record(db: pw.Database, event: AuditEvent) -> None:
    """Put an event on record."""
    ids = (event.login_id, event.request_id, event.user_id, event.session_id)
    _ADD.run(db, (event.at, event.event, *ids, event.detail))


def latest_of_user(db: pw.Database, user_id: str, *, limit: int = 20) -> list[AuditEvent]:
    """What happened to a user, newest first."""
    query = (
        AuditEventTable.select(*_COLUMNS)
        .where(AuditEventTable.user_id == user_id)
        .order_by(AuditEventTable.at.desc(), AuditEventTable.id.desc())
        .limit(limit)
    )
    rows: list[dict[str, Any]] = query.dicts().execute(db)
    return [AuditEvent(**row) for row in rows]
