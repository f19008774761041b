"""Sign-ins that failed, on record: in words of ours alone, since strangers can cause them."""

from nextarget.errors import DatabaseUnavailable, ProblemError
from nextarget.model import AuditEvent, Millis
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import audit
from nextarget.telemetry import request_id


def refusal(error: ProblemError, now: Millis, *, login_id: str | None = None) -> AuditEvent:
    """The event of a sign-in that failed, which `show-user` tells where a user is known."""
    return AuditEvent(
        now,
        "login_failed",
        login_id=login_id,
        request_id=request_id.get(),
        user_id=error.user_id,
        detail=f"{error.code}: {error.reason or error.title}",
    )


async def record_refusal(database: Database, error: ProblemError, now: Millis, *, login_id: str | None = None) -> None:
    """Put it on record, if the database can be written to: one that fails tells of that by itself."""
    try:
        await database.write(audit.record, refusal(error, now, login_id=login_id))
    except DatabaseUnavailable:
        return
