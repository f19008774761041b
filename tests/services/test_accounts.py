"""What an operator does to accounts from the terminal."""

import pytest

from nextarget.errors import UserAmbiguous, UserNotFound
from nextarget.model import AuditEvent, Identity, Provider, Secret
from nextarget.services import accounts
from nextarget.services.sessions import SignedInUser
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import audit, sessions
from nextarget.telemetry import request_id
from tests.services.conftest import ADA, SECRET, Clock


def test_a_user_is_named_by_id_or_by_email(database: Database, clock: Clock) -> None:
    """Both the id and the email find the user."""
    user = database.write_now(accounts.admit, ADA, now=clock.now)
    assert database.read_now(accounts.find_one, user.id) == user
    assert database.read_now(accounts.find_one, "ADA@lovelace.example") == user


def test_nobody_is_an_error_that_says_what_to_do(database: Database) -> None:
    """The error names the id or email that was given, and says where to look."""
    with pytest.raises(UserNotFound, match=r"'nobody@x\.example'.*list-users"):
        database.read_now(accounts.find_one, "nobody@x.example")


def test_an_email_of_several_users_is_refused_with_their_ids(database: Database, clock: Clock) -> None:
    """If several users have the email, the operator has to choose one by its id."""
    facebook = Identity(Provider("facebook"), "1", ADA.email, email_verified=False)
    found = [database.write_now(accounts.admit, who, now=clock.now) for who in (ADA, facebook)]
    with pytest.raises(UserAmbiguous) as caught:
        database.read_now(accounts.find_one, str(ADA.email))
    assert set(caught.value.choices) == {f"{user.id} ({user.provider}) {user.email}" for user in found}


def test_an_email_that_fits_one_user_to_the_letter_is_refused_where_it_fits_another(
    database: Database, clock: Clock
) -> None:
    """Emails that differ only in case are ambiguous, even if one matches exactly. The operator has to give the id."""
    found = [
        database.write_now(
            accounts.admit, Identity(Provider("google"), email, email, email_verified=True), now=clock.now
        )
        for email in ("ada@x.example", "Ada@x.example")
    ]
    for email in ("ada@x.example", "Ada@x.example", "ADA@X.EXAMPLE"):
        for finding in ((accounts.find_one, email), (accounts.find_by_email, email, Provider("google"))):
            with pytest.raises(UserAmbiguous) as caught:
                database.read_now(*finding)
            assert {choice.split()[0] for choice in caught.value.choices} == {user.id for user in found}
    assert database.read_now(accounts.find_one, found[0].id) == found[0]


def test_more_users_than_can_be_named_are_not_passed_over_in_silence(database: Database, clock: Clock) -> None:
    """The error lists twenty users. Its last line says that there are more, and how to list them."""
    for number in range(21):
        who = Identity(Provider("google"), str(number), ADA.email, email_verified=True)
        database.write_now(accounts.admit, who, now=clock.now)
    for finding in ((accounts.find_one, str(ADA.email)), (accounts.find_by_email, str(ADA.email), Provider("google"))):
        with pytest.raises(UserAmbiguous) as caught:
            database.read_now(*finding)
        assert len(caught.value.choices) == 21
        assert caught.value.choices[-1].startswith("and more: `nextarget list-users --email")
        assert str(ADA.email) in str(caught.value)


def test_users_of_another_provider_neither_hide_nor_confuse_the_one_who_is_meant(
    database: Database, clock: Clock
) -> None:
    """With a provider given, only the users of this provider count, however many users of another have the email."""
    for number in range(30):
        who = Identity(Provider("google"), str(number), ADA.email, email_verified=True)
        database.write_now(accounts.admit, who, now=clock.now)
    clock.advance(1)
    meant = Identity(Provider("facebook"), "1", ADA.email, email_verified=False)
    user = database.write_now(accounts.admit, meant, now=clock.now)
    assert database.read_now(accounts.find_by_email, str(ADA.email), Provider("facebook")) == user


def test_a_test_user_is_made_once_and_is_nobody_elses(database: Database, clock: Clock) -> None:
    """A test user has a subject that no provider issues. A person with the same email is another user."""
    email = str(ADA.email)
    made = database.write_now(accounts.create_test_user, email, Provider("google"), now=clock.now)
    again = database.write_now(accounts.create_test_user, email, Provider("google"), now=clock.now)
    person = database.write_now(accounts.admit, ADA, now=clock.now)
    assert made == again
    assert made.email_verified is False
    assert person.id != made.id


async def test_a_session_from_the_terminal_is_real_labelled_and_recorded(
    database: Database, clock: Clock, node
) -> None:
    """A session opened from the terminal is a normal session. Its label says where it came from."""
    making = node(SECRET).sessions
    user = database.write_now(accounts.admit, ADA, now=clock.now)
    session = database.write_now(accounts.open_terminal_session, user, making, client_id="app", now=clock.now)
    token = making.access_token(session, clock.now, lifetime=900)
    assert token.expires_in == 900
    assert await making.authenticate(token.token) == SignedInUser(user, session.id)
    assert session.label == "terminal"
    (event,) = database.read_now(audit.latest_of_user, user.id)
    assert (event.event, event.session_id, event.detail) == ("token_issued", session.id, "terminal")
    database.write_now(accounts.set_active, user, active=False, now=clock.now)
    assert database.read_now(sessions.user_of, session.id, user.id, clock.now) is None


def test_a_secret_never_shows_itself() -> None:
    """A secret is hidden wherever it is printed, and equals only a secret with the same value."""
    secret = Secret("text")
    assert f"{secret} {secret!r} {[secret]}" == "*** *** [***]"
    assert secret == Secret("text")
    assert secret != Secret("other")
    assert secret != "text"


def test_test_users_of_two_emails_are_two_users(database: Database, clock: Clock) -> None:
    """The invented subject contains the email."""
    one, other = (
        database.write_now(accounts.create_test_user, email, Provider("google"), now=clock.now)
        for email in ("one@x.example", "other@x.example")
    )
    assert (one.email, other.email) == ("one@x.example", "other@x.example")
    assert one.id != other.id


def test_a_deletion_is_recorded_with_its_request(database: Database, clock: Clock) -> None:
    """The event is all that is left of the user, so it has to say which request deleted it."""
    user = database.write_now(accounts.admit, ADA, now=clock.now)
    reset = request_id.set("request-1")
    database.write_now(accounts.delete, user, now=clock.now)
    request_id.reset(reset)
    assert database.read_now(audit.latest_of_user, user.id) == [
        AuditEvent(clock.now, "user_deleted", request_id="request-1", user_id=user.id)
    ]
