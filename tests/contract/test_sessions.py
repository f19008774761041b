"""Which sessions are active, on every database."""

import asyncio
import uuid

import pytest

from nextarget.model import Session
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import sessions, users
from nextarget.tokens.refresh import NEW_SESSION
from tests.contract.rows import HOUR, NOW, active, add_session, admit, later


def test_an_active_session_names_its_user(database: Database) -> None:
    """One query finds the user of an access token."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user, label="Ada's phone")
    assert database.read_now(sessions.user_of, session.id, user.id, NOW) == user


def test_a_session_ends_on_the_millisecond(database: Database) -> None:
    """A session is active until just before its expiry, to the millisecond."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user, lifetime=HOUR)
    assert database.read_now(sessions.user_of, session.id, user.id, later(HOUR - 1)) == user
    assert database.read_now(sessions.user_of, session.id, user.id, later(HOUR)) is None
    assert len(database.read_now(sessions.of_user, user.id, active_at=later(HOUR - 1))) == 1
    assert len(database.read_now(sessions.of_user, user.id, active_at=later(HOUR))) == 0


def test_a_session_of_another_user_names_nobody(database: Database) -> None:
    """Session and user must belong together."""
    ada, grace = (database.write_now(admit) for _ in range(2))
    session = database.write_now(add_session, ada)
    assert database.read_now(sessions.user_of, session.id, grace.id, NOW) is None
    assert database.read_now(sessions.user_of, session.id, "unknown", NOW) is None
    assert database.read_now(sessions.user_of, "unknown", ada.id, NOW) is None


def test_a_session_is_found_whatever_became_of_it(database: Database) -> None:
    """A session is also found if it ended or if its user is deactivated, so that the reason for a refusal can be
    logged."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user, label="Ada's phone")
    assert database.read_now(sessions.find, session.id) == (session, user)
    database.write_now(sessions.revoke, session.id, later(1))
    database.write_now(users.set_active, user.id, active=False)
    found = database.read_now(sessions.find, session.id)
    assert found is not None
    assert (found[0].revoked_at, found[1].is_active) == (later(1), False)
    assert database.read_now(sessions.find, "unknown") is None


@pytest.mark.parametrize("text", ["", "' OR '1'='1", '" OR 1=1 --', "%", "{0}", "?", "\x00"])
def test_an_id_of_any_text_names_nobody(database: Database, text: str) -> None:
    """Ids come from tokens. They are passed as values, never as part of the SQL text."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user)
    assert database.read_now(sessions.user_of, text, user.id, NOW) is None
    assert database.read_now(sessions.user_of, session.id, text, NOW) is None


def test_a_deactivated_user_is_returned_as_such(database: Database) -> None:
    """The row shows that the user is deactivated. The caller decides what this user may do."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user)
    database.write_now(users.set_active, user.id, active=False)
    found = database.read_now(sessions.user_of, session.id, user.id, NOW)
    assert found is not None
    assert found.is_active is False


def test_ending_every_session_of_a_user_ends_them_at_once(database: Database) -> None:
    """All active sessions of the user end and are counted once. Sessions of other users and later sessions stay
    active."""
    ada, grace = (database.write_now(admit) for _ in range(2))
    ended = [database.write_now(add_session, ada) for _ in range(3)]
    kept = database.write_now(add_session, grace)
    assert database.write_now(sessions.revoke_all, ada.id, later(1)) == 3
    assert database.write_now(sessions.revoke_all, ada.id, later(2)) == 0
    assert database.write_now(sessions.revoke_all, "unknown", later(2)) == 0
    assert all(database.read_now(sessions.user_of, session.id, ada.id, NOW) is None for session in ended)
    assert len(database.read_now(sessions.of_user, ada.id, active_at=NOW)) == 0
    assert database.read_now(sessions.user_of, kept.id, grace.id, NOW) == grace
    fresh = database.write_now(add_session, ada)
    assert database.read_now(sessions.user_of, fresh.id, ada.id, NOW) == ada
    assert len(database.read_now(sessions.of_user, ada.id, active_at=NOW)) == 1


def test_a_session_that_was_revoked_before_it_was_stored_does_not_stand(database: Database) -> None:
    """A session that is stored with a time of revocation is not active."""
    user = database.write_now(admit)
    session = Session("session", user.id, "app", None, NOW, later(HOUR), revoked_at=NOW, generations=NEW_SESSION)
    database.write_now(sessions.add, session)
    assert database.read_now(sessions.user_of, "session", user.id, NOW) is None


def test_a_session_needs_a_user(database: Database) -> None:
    """The database refuses a session without an existing user, and a duplicate id."""
    user = database.write_now(admit)
    session = Session("session", "nobody", "app", None, NOW, later(HOUR), None, NEW_SESSION)
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        database.write_now(sessions.add, session)
    first = database.write_now(add_session, user)
    with pytest.raises(Exception, match=r"(?i)unique"):
        database.write_now(sessions.add, first)


def test_an_active_session_is_read_with_its_user(database: Database) -> None:
    """One query returns the session and its user for a refresh, until just before the expiry, to the millisecond."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user, label="Ada's phone", lifetime=HOUR)
    assert database.read_now(active, session.id, later(HOUR - 1)) == (session, user)
    assert database.read_now(active, session.id, later(HOUR)) is None
    assert database.read_now(active, "unknown", NOW) is None


@pytest.mark.parametrize("text", ["", "' OR '1'='1", '" OR 1=1 --', "%", "{0}", "?", "\x00"])
def test_a_session_of_any_text_does_not_stand(database: Database, text: str) -> None:
    """Ids come from refresh tokens. They are passed as values, never as part of the SQL text."""
    database.write_now(add_session, database.write_now(admit))
    assert database.read_now(active, text, NOW) is None
    assert database.write_now(sessions.revoke, text, NOW) is None


def test_no_session_of_a_deactivated_user_is_active(database: Database) -> None:
    """A session cannot be refreshed while its user is deactivated."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user)
    database.write_now(users.set_active, user.id, active=False)
    assert database.read_now(active, session.id, NOW) is None
    database.write_now(users.set_active, user.id, active=True)
    assert database.read_now(active, session.id, NOW) == (session, user)


def test_a_session_is_ended_once_and_says_whose_it_was(database: Database) -> None:
    """The first revocation returns the user's id, and a second one returns nothing. No other session ends."""
    user = database.write_now(admit)
    session, kept = (database.write_now(add_session, user) for _ in range(2))
    assert database.write_now(sessions.revoke, session.id, later(1)) == user.id
    assert database.write_now(sessions.revoke, session.id, later(2)) is None
    assert database.write_now(sessions.revoke, "unknown", later(2)) is None
    assert database.read_now(active, session.id, NOW) is None
    assert database.read_now(sessions.user_of, session.id, user.id, NOW) is None
    assert database.read_now(active, kept.id, NOW) == (kept, user)
    ended = {each.id: each.revoked_at for each in database.read_now(sessions.of_user, user.id)}
    assert ended == {session.id: later(1), kept.id: None}


async def test_of_many_who_end_a_session_at_once_one_does(database: Database) -> None:
    """Of many simultaneous revocations one succeeds, so that there is one audit event."""
    user = await database.write(admit)
    session = await database.write(add_session, user)
    outcomes = await asyncio.gather(*(database.write(sessions.revoke, session.id, NOW) for _ in range(20)))
    assert [outcome for outcome in outcomes if outcome is not None] == [user.id]


def test_a_user_ends_only_their_own_active_sessions(database: Database) -> None:
    """If a user is given, a session of another user or an expired session is not ended."""
    ada, grace = (database.write_now(admit) for _ in range(2))
    session = database.write_now(add_session, ada, lifetime=HOUR)
    assert database.write_now(sessions.revoke, session.id, NOW, user_id=grace.id) is None
    assert database.write_now(sessions.revoke, session.id, later(HOUR), user_id=ada.id) is None
    assert database.read_now(active, session.id, NOW) == (session, ada)
    assert database.write_now(sessions.revoke, session.id, later(HOUR - 1), user_id=ada.id) == ada.id
    assert database.read_now(active, session.id, NOW) is None


def test_an_expired_session_can_still_be_ended_by_its_token(database: Database) -> None:
    """A sign-out also ends an expired session, so that it stays ended even if a clock is set back."""
    user = database.write_now(admit)
    session = database.write_now(add_session, user, lifetime=HOUR)
    assert database.write_now(sessions.revoke, session.id, later(HOUR + 1)) == user.id
    assert database.read_now(sessions.user_of, session.id, user.id, NOW) is None


def test_every_session_but_one_is_ended(database: Database) -> None:
    """All sessions but the given one end. Sessions that had ended keep their time, and sessions of other users stay
    active."""
    ada, grace = (database.write_now(admit) for _ in range(2))
    asking, *others = (database.write_now(add_session, ada) for _ in range(4))
    of_grace = database.write_now(add_session, grace)
    database.write_now(sessions.revoke, others[0].id, later(1))
    assert database.write_now(sessions.revoke_all, ada.id, later(2), but=asking.id) == 2
    assert database.write_now(sessions.revoke_all, ada.id, later(3), but=asking.id) == 0
    moments = {each.id: each.revoked_at for each in database.read_now(sessions.of_user, ada.id)}
    assert moments == {
        asking.id: None,
        others[0].id: later(1),
        others[1].id: later(2),
        others[2].id: later(2),
    }
    assert database.read_now(active, of_grace.id, NOW) == (of_grace, grace)
    assert database.write_now(sessions.revoke_all, ada.id, later(4), but=of_grace.id) == 1


def test_the_sessions_of_a_user_are_listed_oldest_first(database: Database) -> None:
    """The list has all sessions, or only the active ones. Sessions of the same millisecond are in a fixed order."""
    ada, grace = (database.write_now(admit) for _ in range(2))
    database.write_now(add_session, grace)
    made = []
    for number in (3, 1, 2, 1):
        session = Session(str(uuid.uuid4()), ada.id, "app", None, later(number), later(HOUR), None, NEW_SESSION)
        database.write_now(sessions.add, session)
        made.append(session)
    expired = Session("expired", ada.id, "app", None, NOW, later(1), None, NEW_SESSION)
    ended = Session("ended", ada.id, "app", "laptop", later(-1), later(HOUR), later(5), NEW_SESSION)
    for session in (expired, ended):
        database.write_now(sessions.add, session)
    active = sorted(made, key=lambda session: (session.created_at, session.id))
    assert database.read_now(sessions.of_user, ada.id) == [ended, expired, *active]
    assert database.read_now(sessions.of_user, ada.id, active_at=later(1)) == active
    assert database.read_now(sessions.of_user, ada.id, active_at=NOW) == [expired, *active]
    assert database.read_now(sessions.of_user, "unknown") == []
