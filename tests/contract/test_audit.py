"""Audit events, on every database."""

import pytest

from nextarget.model import AuditEvent
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit
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
    """The newest event comes first. Within a millisecond, the event that was recorded last comes first."""
    events = [event(f"event {number}", at=later(number // 2)) for number in range(6)]
    for each in events:
        database.write_now(audit.record, each)
    assert database.read_now(audit.latest_of_user, "user") == events[::-1]
    assert database.read_now(audit.latest_of_user, "user", limit=2) == events[:3:-1]


def test_only_the_events_of_the_user_are_read(database: Database) -> None:
    """Events of another user, or without a user, are not returned."""
    for user_id in ("user", "other", None):
        database.write_now(audit.record, event(user_id=user_id))
    assert database.read_now(audit.latest_of_user, "user") == [event()]
    assert database.read_now(audit.latest_of_user, "nobody") == []


def test_an_event_outlives_the_user_it_is_about(database: Database) -> None:
    """Events are not deleted with their user, so that the deletion of an account stays on record."""
    database.write_now(audit.record, event("user_deleted", user_id="deleted long ago"))
    assert database.read_now(audit.latest_of_user, "deleted long ago")


def of_strangers(db: Connection) -> list[AuditEvent]:
    """The sign-ins that failed, oldest first."""
    rows = db.execute_sql('SELECT "at", "detail" FROM "audit_event" WHERE "event" = \'login_failed\' ORDER BY 1, 2')
    return [AuditEvent(at, "login_failed", detail=detail) for at, detail in rows.fetchall()]


def failures(db: Connection, moments: range) -> None:
    for number in moments:
        audit.record(db, AuditEvent(later(number), "login_failed", detail=f"{number:06}"))


def test_strangers_together_put_so_much_on_record_and_no_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events without a user are limited in number. The newest ones stay, and other events are not deleted for them."""
    most = 100
    monkeypatch.setattr(audit, "_FORGET_OF_STRANGERS", audit._all_but(most, audit.OF_STRANGERS))
    others = [event(f"event {number}", user_id=f"user {number % 7}") for number in range(200)]
    for each in others:
        database.write_now(audit.record, each)
    for start in range(0, 500, 50):
        database.write_now(failures, range(start, start + 50))
        assert len(database.read_now(of_strangers)) == min(most, start + 50)
    assert [each.detail for each in database.read_now(of_strangers)] == [f"{number:06}" for number in range(400, 500)]
    kept = [each for number in range(7) for each in database.read_now(audit.latest_of_user, f"user {number}", limit=99)]
    assert sorted(kept, key=str) == sorted(others, key=str)


def test_the_ceiling_for_strangers_is_ten_thousand(database: Database) -> None:
    """The limit for events without a user is ten thousand, whatever their age. A new event replaces the oldest one."""
    assert audit.MOST_OF_STRANGERS == 10_000
    fill = 'INSERT INTO "audit_event" ("at", "event") VALUES ' + ", ".join(["(1, 'login_failed')"] * 500)
    for _ in range(22):
        database.write_now(lambda db: db.execute_sql(fill))
    database.write_now(failures, range(3))
    kept = database.read_now(of_strangers)
    assert len(kept) == 10_000
    assert [each.detail for each in kept[-3:]] == ["000000", "000001", "000002"]


def test_one_user_puts_so_much_on_record_and_no_more(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of one user are limited in number, and deleting old ones affects no other user."""
    assert audit.MOST_OF_USER == 1_000
    monkeypatch.setattr(audit, "MOST_OF_USER", 10)
    monkeypatch.setattr(audit, "_FORGET_OF_USER", audit._all_but(10, '"user_id" = {0}'))
    for number in range(10):
        database.write_now(audit.record, event(f"event {number}", user_id="other"))
    for number in range(35):
        database.write_now(audit.record, event(f"event {number}", at=later(number // 2)))
    kept = database.read_now(audit.latest_of_user, "user", limit=99)
    assert [each.event for each in kept] == [f"event {number}" for number in range(34, 24, -1)]
    assert len(database.read_now(audit.latest_of_user, "other", limit=99)) == 10


def test_forgetting_a_user_forgets_nobody_else(database: Database) -> None:
    """All events of the user are deleted. Events of other users, or without a user, stay."""
    for user_id in ("user", "user", "other", None):
        database.write_now(audit.record, event(user_id=user_id))
    database.write_now(audit.forget_user, "user")
    left = database.read_now(lambda db: db.execute_sql('SELECT "user_id" FROM "audit_event" ORDER BY 1').fetchall())
    assert set(left) == {("other",), (None,)}


def test_events_come_in_pages_by_number(database: Database) -> None:
    """Pages list the events of one user, newest first and every event once, even if events are recorded between two
    pages."""
    events = [event(f"event {number}", at=later(-number)) for number in range(7)]
    for each in events:
        database.write_now(audit.record, each)
        database.write_now(audit.record, event(user_id="other"))
    pages, before = [], {}
    while page := database.read_now(audit.page_of_user, "user", size=3, **before):
        pages.append([found for _, found in page])
        before = {"before": page[-1][0]}
        database.write_now(audit.record, event("meanwhile"))
    assert pages == [events[:3:-1], events[3:0:-1], events[:1]]
    assert database.read_now(audit.page_of_user, "nobody", size=3) == []


def whole(database: Database, **wanted: object) -> list[str]:
    """The details of the events of the whole record that fit, read in pieces of three."""
    found, after = [], None
    while True:
        after, events = database.read_now(audit.piece, after=after, size=3, **wanted)
        found += [each.detail or "" for each in events]
        if after is None:
            return found


def test_the_whole_record_is_read_in_pieces(database: Database) -> None:
    """In the order of time, also where the clocks of two nodes differ; every event once, in both directions."""
    moments = [5, 1, 1, 1, 1, 4, 2, 0, 3]
    for number, moment in enumerate(moments):
        database.write_now(audit.record, AuditEvent(later(moment), "login_failed", detail=f"{moment}{number}"))
    inserted = sorted(f"{moment}{number}" for number, moment in enumerate(moments))
    assert whole(database) == inserted
    assert whole(database, newest=True) == inserted[::-1]


def test_a_piece_of_the_record_has_what_fits(database: Database) -> None:
    """By time, user, kind of event, and the id of a login or a request."""
    for number, kind in enumerate(("a", "b", "a", "b")):
        facts = AuditEvent(
            later(number),
            kind,
            login_id="x" if number == 0 else None,
            request_id="x" if number == 3 else f"r{number}",
            user_id="user" if number < 2 else None,
            detail=str(number),
        )
        database.write_now(audit.record, facts)
    assert whole(database, since=later(1), until=later(2)) == ["1", "2"]
    assert whole(database, user_id="user") == ["0", "1"]
    assert whole(database, event="b") == ["1", "3"]
    assert whole(database, event="b", since=later(2), newest=True) == ["3"]
    assert whole(database, mentioning="x") == ["0", "3"]
    assert whole(database, mentioning="nobody") == []


def test_a_piece_of_the_record_looks_at_so_many_events(database: Database) -> None:
    """A piece may be empty although later pieces are not: a read ends after `size` events, fitting or not."""
    for number in range(7):
        database.write_now(audit.record, event("rare" if number == 6 else "usual", at=later(number)))
    place, found = database.read_now(audit.piece, size=3, event="rare")
    assert (place is not None, found) == (True, [])
