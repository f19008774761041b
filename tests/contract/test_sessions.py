"""Which sessions stand, on every database."""

import pytest

from nextarget.model import Session
from nextarget.storage import sessions, users
from nextarget.storage.database import Database
from tests.contract.rows import HOUR, NOW, add_session, admit, later


def test_a_session_that_stands_names_its_user(database: Database) -> None:
    """One query answers who is behind an access token."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user, label="Ada's phone")
    assert database.read_now(sessions.user_of, session.id, user.id, NOW) == user


def test_a_session_ends_on_the_millisecond(database: Database) -> None:
    """A session stands before the moment of its end, not at it."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user, lifetime=HOUR)
    assert database.read_now(sessions.user_of, session.id, user.id, later(HOUR - 1)) == user
    assert database.read_now(sessions.user_of, session.id, user.id, later(HOUR)) is None
    assert database.read_now(sessions.count_standing, user.id, later(HOUR - 1)) == 1
    assert database.read_now(sessions.count_standing, user.id, later(HOUR)) == 0


def test_a_session_of_another_user_names_nobody(database: Database) -> None:
    """Session and user must belong together: neither id alone opens anything."""
    ada, grace = (database.write_now(admit) for _ in range(2))
    session = database.write_now(add_session, ada)
    assert database.read_now(sessions.user_of, session.id, grace.id, NOW) is None
    assert database.read_now(sessions.user_of, session.id, "unknown", NOW) is None
    assert database.read_now(sessions.user_of, "unknown", ada.id, NOW) is None


@pytest.mark.parametrize("text", ["", "' OR '1'='1", '" OR 1=1 --', "%", "{0}", "?", "\x00"])
def test_an_id_of_any_text_names_nobody(database: Database, text: str) -> None:
    """Ids come out of tokens: they are values, never part of the query."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user)
    assert database.read_now(sessions.user_of, text, user.id, NOW) is None
    assert database.read_now(sessions.user_of, session.id, text, NOW) is None


def test_a_deactivated_user_is_returned_as_such(database: Database) -> None:
    """Whether an inactive user may go on is for the caller to decide; the row says that they are."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user)
    database.write_now(users.set_active, user.id, active=False)
    found = database.read_now(sessions.user_of, session.id, user.id, NOW)
    assert found is not None
    assert found.is_active is False


def test_ending_every_session_of_a_user_ends_them_at_once(database: Database) -> None:
    """Every session that has not ended ends, counted once; others' sessions and new ones stand."""
    ada, grace = (database.write_now(admit) for _ in range(2))
    ended = [database.write_now(add_session, ada) for _ in range(3)]
    kept = database.write_now(add_session, grace)
    assert database.write_now(sessions.revoke_all, ada.id, later(1)) == 3
    assert database.write_now(sessions.revoke_all, ada.id, later(2)) == 0
    assert database.write_now(sessions.revoke_all, "unknown", later(2)) == 0
    assert all(database.read_now(sessions.user_of, session.id, ada.id, NOW) is None for session in ended)
    assert database.read_now(sessions.count_standing, ada.id, NOW) == 0
    assert database.read_now(sessions.user_of, kept.id, grace.id, NOW) == grace
    fresh = database.write_now(add_session, ada)
    assert database.read_now(sessions.user_of, fresh.id, ada.id, NOW) == ada
    assert database.read_now(sessions.count_standing, ada.id, NOW) == 1


def test_a_session_that_was_revoked_before_it_was_stored_does_not_stand(database: Database) -> None:
    """What a session says of its end is stored as it is."""
    user = database.write_now(admit)
    session = Session("session", user.id, "app", None, NOW, later(HOUR), revoked_at=NOW)
    database.write_now(sessions.add, session)
    assert database.read_now(sessions.user_of, "session", user.id, NOW) is None


def test_a_session_needs_a_user(database: Database) -> None:
    """The database itself refuses a session of nobody, and an id that is taken."""
    user = database.write_now(admit)
    session = Session("session", "nobody", "app", None, NOW, later(HOUR), None)
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        database.write_now(sessions.add, session)
    first = database.write_now(add_session, user)
    with pytest.raises(Exception, match=r"(?i)unique"):
        database.write_now(sessions.add, first)
