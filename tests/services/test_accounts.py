"""What is done to accounts from the terminal."""

import pytest

from nextarget.errors import UserAmbiguous, UserNotFound
from nextarget.model import Identity, Provider, Secret
from nextarget.services import accounts
from nextarget.services.sessions import SignedInUser
from nextarget.storage import audit, sessions
from nextarget.storage.database import Database
from tests.services.conftest import ADA, SECRET, Clock


def test_a_user_is_named_by_id_or_by_email(database: Database, clock: Clock) -> None:
    """Either finds the one user."""
    user = database.write_now(accounts.admit, ADA, now=clock.now)
    assert database.read_now(accounts.find_one, user.id) == user
    assert database.read_now(accounts.find_one, "ADA@lovelace.example") == user


def test_nobody_is_an_error_that_says_what_to_do(database: Database) -> None:
    """The sentence names what was asked for, and where to look."""
    with pytest.raises(UserNotFound, match=r"'nobody@x\.example'.*list-users"):
        database.read_now(accounts.find_one, "nobody@x.example")


def test_an_email_of_several_users_is_refused_with_their_ids(database: Database, clock: Clock) -> None:
    """Which of them is meant is for the person to say."""
    facebook = Identity(Provider.FACEBOOK, "1", ADA.email, email_verified=False)
    found = [database.write_now(accounts.admit, who, now=clock.now) for who in (ADA, facebook)]
    with pytest.raises(UserAmbiguous) as caught:
        database.read_now(accounts.find_one, str(ADA.email))
    assert all(f"{user.id} ({user.provider})" in caught.value.detail for user in found)


def test_a_test_user_is_made_once_and_is_nobody_elses(database: Database, clock: Clock) -> None:
    """A test user has a subject that no provider gives: the person with that email is another user."""
    email = str(ADA.email)
    made = database.write_now(accounts.create_test_user, email, Provider.GOOGLE, now=clock.now)
    again = database.write_now(accounts.create_test_user, email, Provider.GOOGLE, now=clock.now)
    person = database.write_now(accounts.admit, ADA, now=clock.now)
    assert made == again
    assert made.email_verified is False
    assert person.id != made.id


async def test_a_session_from_the_terminal_is_real_labelled_and_recorded(
    database: Database, clock: Clock, node
) -> None:
    """A token issued from the terminal opens a session like any other, which says where it came from."""
    making = node(SECRET).sessions
    user = database.write_now(accounts.admit, ADA, now=clock.now)
    session = database.write_now(accounts.open_terminal_session, user, making, now=clock.now)
    token = making.access_token(session, clock.now, lifetime=900)
    assert token.expires_in == 900
    assert await making.authenticate(token.token) == SignedInUser(user, session.id)
    assert session.label == "terminal"
    (event,) = database.read_now(audit.latest_of_user, user.id)
    assert (event.event, event.session_id, event.detail) == ("token_issued", session.id, "terminal")
    database.write_now(accounts.set_active, user, active=False, now=clock.now)
    assert database.read_now(sessions.user_of, session.id, user.id, clock.now) is None


def test_a_secret_never_shows_itself() -> None:
    """A secret is blank wherever it is printed, and equal only to itself."""
    secret = Secret("text")
    assert f"{secret} {secret!r} {[secret]}" == "*** *** [***]"
    assert secret == Secret("text")
    assert secret != Secret("other")
    assert secret != "text"
