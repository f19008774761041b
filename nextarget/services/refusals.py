"""Audit events of sign-ins that failed. They contain only our own words, because a stranger can cause a failure."""

from nextarget.errors import DatabaseUnavailable, ProblemError
from nextarget.model import AuditEvent, Millis
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import audit
from nextarget.telemetry import request_id


def refusal(error: ProblemError, now: Millis, *, login_id: str | None = None) -> AuditEvent:
    """The audit event of a sign-in that failed. If the user is known, `show-user` shows it."""
    return AuditEvent(
        now,
        "login_failed",
        login_id=login_id,
        request_id=request_id.get(),
        user_id=error.user_id,
        detail=f"{error.code}: {error.reason or error.title}",
    )


async def record_refusal(database: Database, error: ProblemError, now: Millis, *, login_id: str | None = None) -> None:
    """Write the audit event. If the database is unavailable, do nothing: that failure has its own log line."""
    try:
        await database.write(audit.record, refusal(error, now, login_id=login_id))
    except DatabaseUnavailable:
        return
