"""The record of what happened: who signed in, what failed and why. Never a token, a code, a state or an email."""

import peewee as pw

from nextarget.model import AuditEvent
from nextarget.storage.tables import AuditEventTable


def record(db: pw.Database, event: AuditEvent) -> None:
    AuditEventTable.insert(
        at=event.at,
        event=event.event,
        login_id=event.login_id,
        request_id=event.request_id,
        user_id=event.user_id,
        session_id=event.session_id,
        detail=event.detail,
    ).execute(db)


def latest_of_user(db: pw.Database, user_id: str, *, limit: int = 20) -> list[AuditEvent]:
    """What happened to a user, newest first."""
    query = (
        AuditEventTable.select(
            AuditEventTable.at,
            AuditEventTable.event,
            AuditEventTable.login_id,
            AuditEventTable.request_id,
            AuditEventTable.user_id,
            AuditEventTable.session_id,
            AuditEventTable.detail,
        )
        .where(AuditEventTable.user_id == user_id)
        .order_by(AuditEventTable.at.desc(), AuditEventTable.id.desc())
        .limit(limit)
    )
    return [AuditEvent(*row) for row in query.tuples().execute(db)]
