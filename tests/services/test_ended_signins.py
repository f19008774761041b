"""Sign-ins that began before all sessions of the user ended, or the user was deleted, are refused. A refused sign-in
changes nothing of the user."""

from collections.abc import Callable

import pytest

from nextarget.errors import SignInEnded, UserDeactivated
from nextarget.model import Identity, LoginMode, Millis, Provider, User
from nextarget.services import accounts
from nextarget.services.login_outcomes import AppAnswer
from nextarget.services.sessions import end_all
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import sessions, users
from tests.services.conftest import ADA, SECRET, Clock, Vouching
from tests.services.test_signin import APP, Making, answer, begun, fails


def revoke_sessions(db: Connection, user: User, *, now: Millis) -> None:
    end_all(db, user, now=now)


def end_others(db: Connection, user: User, *, now: Millis) -> None:
    end_all(db, user, now=now, but="the session that asks")


def deactivate_and_activate(db: Connection, user: User, *, now: Millis) -> None:
    for active in (False, True):
        accounts.set_active(db, user, active=active, now=now)


@pytest.mark.parametrize("end", [revoke_sessions, end_others, deactivate_and_activate])
async def test_what_ends_every_session_ends_what_would_become_one(
    node: Making, database: Database, clock: Clock, end: Callable[..., None]
) -> None:
    """A sign-in that began before the end of all sessions is refused. A sign-in that begins later succeeds."""
    server = node(SECRET)
    user = (await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)).user
    clock.advance(1)
    state = await begun(server.signin)
    app = server.signin.begin(Provider("google"), LoginMode.APP, app=APP)
    database.write_now(end, user, now=clock.now)
    error = await fails(server.signin, answer(state))
    assert (type(error), error.user_id) == (SignInEnded, user.id)
    told = await server.signin.finish(Provider("google"), answer(app.state), cookie=app.cookie)
    assert isinstance(told, AppAnswer)
    assert type(told.outcome) is SignInEnded
    assert database.read_now(sessions.of_user, user.id, active_at=clock.now) == []
    clock.advance(0.001)
    assert await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)


async def test_a_refused_sign_in_changes_nothing_of_the_user(
    node: Making, google: Vouching, database: Database, clock: Clock
) -> None:
    """A refused sign-in does not change the stored user, not even the email."""
    signin = node(SECRET).signin
    user = (await signin.finish(Provider("google"), answer(await begun(signin)), cookie=None)).user
    database.write_now(accounts.set_active, user, active=False, now=clock.now)
    before = database.read_now(users.get, user.id)
    google.says = Identity(Provider("google"), ADA.subject, "other@lovelace.example", email_verified=False)
    assert type(await fails(signin, answer(await begun(signin)))) is UserDeactivated
    assert database.read_now(users.get, user.id) == before


async def test_deleting_a_user_ends_the_sign_ins_that_began_before(
    node: Making, database: Database, clock: Clock
) -> None:
    """A sign-in that began before the deletion does not create the account again, even after the person signed in
    anew."""
    server = node(SECRET)
    user = (await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)).user
    clock.advance(1)
    states = [await begun(server.signin) for _ in range(2)]
    clock.advance(1)
    database.write_now(accounts.delete, user, now=clock.now)
    assert type(await fails(server.signin, answer(states[0]))) is SignInEnded
    assert database.read_now(users.page) == []
    clock.advance(1)
    again = await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)
    assert type(await fails(server.signin, answer(states[1]))) is SignInEnded
    assert database.read_now(users.page) == [again.user]
    database.write_now(accounts.delete, again.user, now=clock.now)
    late = await begun(server.signin)
    clock.advance(0.001)
    assert type(await fails(server.signin, answer(late))) is SignInEnded
