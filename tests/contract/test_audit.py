"""The record of what happened, on every database."""

from nextarget.model import AuditEvent
from nextarget.storage import audit
from nextarget.storage.database import Database
from tests.contract.rows import NOW, event, later


def test_an_event_is_kept_as_it_was(database: Database) -> None:
    """Every fact of an event can be read again."""
    full = AuditEvent(
        NOW,
        "login_succeeded",
        login_id="login",
        request_id="request",
        user_id="user",
        session_id="session",
        detail="detail",
    )
    database.write_now(audit.record, full)
    assert database.read_now(audit.latest_of_user, "user") == [full]


def test_the_latest_events_come_first(database: Database) -> None:
    """Newest first; of one millisecond, the one recorded last."""
    events = [event(f"event {number}", at=later(number // 2)) for number in range(6)]
    for each in events:
        database.write_now(audit.record, each)
    assert database.read_now(audit.latest_of_user, "user") == events[::-1]
    assert database.read_now(audit.latest_of_user, "user", limit=2) == events[:3:-1]


def test_only_the_events_of_the_user_are_read(database: Database) -> None:
    """Neither another user's events nor those of nobody."""
    for user_id in ("user", "other", None):
        database.write_now(audit.record, event(user_id=user_id))
    assert database.read_now(audit.latest_of_user, "user") == [event()]
    assert database.read_now(audit.latest_of_user, "nobody") == []


def test_an_event_outlives_the_user_it_is_about(database: Database) -> None:
    """The record is no child of the user: it keeps that an account was deleted."""
    database.write_now(audit.record, event("user_deleted", user_id="deleted long ago"))
    assert database.read_now(audit.latest_of_user, "deleted long ago")
