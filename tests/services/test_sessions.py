"""Sessions as their service continues and ends them, with the clock and the settings in the test's hand."""

from collections.abc import Callable
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from nextarget.errors import InvalidGrant, InvalidToken, SessionNotFound
from nextarget.model import AuditEvent, Identity, Millis, Provider, Session, User, iso_time
from nextarget.services import accounts
from nextarget.services import sessions as service_of_sessions
from nextarget.services.sessions import DAY_MS, SessionRules, Sessions, SignedInUser
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import audit, sessions, users
from nextarget.telemetry import get_logger, request_id
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.refresh import RefreshToken
from tests.services.conftest import ADA, SECRET, Clock

UNKNOWN = "00000000-0000-4000-8000-000000000000"
Serving = Callable[..., Sessions]
Begin = Callable[..., Session]


@pytest.fixture
def serving(database: Database, clock: Clock) -> Serving:
    """The service of a server that has these apps in its settings."""

    def serving(*client_ids: str) -> Sessions:
        ids, ring = frozenset(client_ids), Keyring(SECRET)
        tokens = AccessTokens(ring, issuer="https://id.example", audience="https://id.example", client_ids=ids)
        rules = SessionRules(client_ids=ids, access_lifetime=3600, idle_days=30, reuse_window=30)
        return Sessions(database, ring, tokens, rules, clock)

    return serving


@pytest.fixture
def service(serving: Serving) -> Sessions:
    return serving("app", "other-app")


@pytest.fixture
def ada(database: Database, clock: Clock) -> User:
    return database.write_now(accounts.admit, ADA, now=clock.now)


@pytest.fixture
def begin(service: Sessions, database: Database, clock: Clock, ada: User) -> Begin:
    def begin(user: User = ada, client_id: str = "app") -> Session:
        session = service.new(user.id, client_id=client_id, label=None, now=clock.now)
        database.write_now(sessions.begin, session)
        return session

    return begin


def row(database: Database, session: Session) -> Session:
    found = database.read_now(sessions.find, session.id)
    assert found is not None
    return found[0]


async def refused(service: Sessions, token: RefreshToken | None, client_id: str | None = None) -> InvalidGrant:
    with pytest.raises(InvalidGrant) as caught:
        await service.refresh(token, client_id=client_id)
    return caught.value


def test_a_pair_has_the_current_generation_and_the_lifetime_of_the_settings(
    service: Sessions, begin: Begin, ada: User, clock: Clock
) -> None:
    """Unless the caller names another generation or another lifetime, which then counts."""
    session = begin()
    session = session._replace(generations=session.generations._replace(current=5))
    pair = service.pair(ada, session, clock.now)
    assert service.presented(pair.refresh_token) == RefreshToken(session.id, 5)
    assert pair.access.expires_in == 3600
    other = service.pair(ada, session, clock.now, generation=3, lifetime=60)
    assert service.presented(other.refresh_token) == RefreshToken(session.id, 3)
    assert other.access.expires_in == 60


def test_sessions_that_begin_later_have_greater_ids(begin: Begin, clock: Clock) -> None:
    """The id of a session is a UUID of version 7 (RFC 9562, 5.7): it begins with the time, and sessions of the same
    millisecond differ."""
    ids = []
    for _ in range(3):
        ids += sorted(begin().id for _ in range(10))
        clock.now = Millis(clock.now + 1)
    assert ids == sorted(set(ids))
    assert {UUID(each).version for each in ids} == {7}
    assert int(ids[0].replace("-", "")[:12], 16) == clock.now - 3


async def test_a_session_expires_when_it_is_not_used_and_at_the_latest_180_days_after_its_sign_in(
    service: Sessions, begin: Begin, database: Database, clock: Clock
) -> None:
    """A refresh moves the end to the end of the day that is 30 days later, never past the 180th day."""
    session, began, generation = begin(), clock.now, 1
    for day in (29, 58, 87, 116, 145):
        clock.now = Millis(began + day * DAY_MS)
        await service.refresh(RefreshToken(session.id, generation))
        generation += 1
        idle = -(-(clock.now + 30 * DAY_MS) // DAY_MS) * DAY_MS
        assert row(database, session).expires_at == min(idle, began + 180 * DAY_MS)
    clock.now = Millis(began + 170 * DAY_MS)
    await service.refresh(RefreshToken(session.id, generation))
    assert row(database, session).expires_at == began + 180 * DAY_MS


async def test_a_refresh_token_is_bound_to_its_app(
    service: Sessions, begin: Begin, database: Database, ada: User
) -> None:
    """RFC 6749, 10.4: with another client_id nothing changes, and the log gets the reason with the ids."""
    session = begin()
    error = await refused(service, RefreshToken(session.id, 1), "other-app")
    assert error.note == "the token was given to another client"
    assert error.facts == {"session_id": session.id, "user_id": session.user_id, "client_id": "other-app"}
    assert row(database, session) == session
    for client_id in ("app", None):  # the second is a repeated refresh, which gets the same token
        pair = await service.refresh(RefreshToken(session.id, 1), client_id=client_id)
        assert (pair.user, pair.session.id) == (ada, session.id)
        assert service.presented(pair.refresh_token) == RefreshToken(session.id, 2)


async def test_the_reuse_window_of_the_settings_is_in_seconds(
    service: Sessions, begin: Begin, database: Database, clock: Clock
) -> None:
    """Until its last millisecond a repeated refresh changes nothing. After it, the answer counts as lost."""
    session = begin()
    await service.refresh(RefreshToken(session.id, 1))
    for seconds, current in ((30, 2), (0.001, 3)):
        clock.advance(seconds)
        await service.refresh(RefreshToken(session.id, 1))
        assert row(database, session).generations.current == current


@pytest.mark.parametrize("client_id", ["app", None])
async def test_a_session_of_an_app_that_left_the_settings_is_not_refreshed(
    serving: Serving, begin: Begin, database: Database, client_id: str | None
) -> None:
    """The app has no sessions any more. The session itself stays as it was, should the app come back."""
    session = begin()
    error = await refused(serving("other-app"), RefreshToken(session.id, 1), client_id)
    assert error.note == "session of an app that is no longer configured"
    assert error.facts == {"session_id": session.id, "user_id": session.user_id}
    assert row(database, session) == session


async def test_the_log_gets_the_reason_why_a_session_is_not_refreshed(
    service: Sessions, begin: Begin, database: Database, clock: Clock, ada: User
) -> None:
    """Forged, unknown, ended, expired or the user's deactivation: one reason, and the ids that are known."""
    error = await refused(service, None)
    assert (error.note, error.facts) == ("refresh token malformed or not ours", {})
    error = await refused(service, RefreshToken(UNKNOWN, 1))
    assert error.note == "session unknown: purged after its end, or its user deleted"
    assert error.facts == {"session_id": UNKNOWN}
    ended, expired = begin(), begin()
    moment = clock.now
    await service.end(ada, ended.id)
    clock.now = Millis(expired.expires_at - 1)
    last = begin()
    await service.refresh(RefreshToken(expired.id, 1))
    expires_at = row(database, expired).expires_at
    clock.now = expires_at
    for session, note in (
        (ended, f"session ended at {iso_time(moment)}"),
        (expired, f"session expired at {iso_time(expires_at)}"),
    ):
        error = await refused(service, RefreshToken(session.id, 1))
        assert (error.note, error.facts) == (note, {"session_id": session.id, "user_id": ada.id})
    clock.now = Millis(last.created_at + 1)
    database.write_now(users.set_active, ada.id, active=False)  # unlike `accounts.set_active`, it ends no session
    error = await refused(service, RefreshToken(last.id, 1))
    assert (error.note, error.facts) == ("user deactivated", {"session_id": last.id, "user_id": ada.id})


async def test_a_session_of_a_reused_token_has_ended_and_its_log_line_is_written(
    service: Sessions, begin: Begin, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning with the ids. The refusal is marked as logged, so that the boundary does not log it a second time."""
    monkeypatch.setattr(service_of_sessions, "log", get_logger())  # the module's own has settled on where it writes
    session = begin()
    for generation in (1, 2):
        await service.refresh(RefreshToken(session.id, generation))
        clock.advance(60)
    with capture_logs() as lines:
        error = await refused(service, RefreshToken(session.id, 1))
    assert error.note == "refresh token reused: two hold it, so the session ended"
    assert error.logged
    assert row(database, session).revoked_at == clock.now
    ids = {"session_id": session.id, "user_id": session.user_id}
    assert lines == [{"event": "refresh_reused", "log_level": "warning"} | ids]


async def test_either_token_of_a_session_revokes_it(
    service: Sessions, begin: Begin, database: Database, clock: Clock, ada: User
) -> None:
    """RFC 7009: also an access token that has expired. Time, request and session are recorded."""
    refreshed, accessed = begin(), begin()
    tokens = service.pair(ada, refreshed, clock.now).refresh_token, service.access_token(accessed, clock.now).token
    clock.advance(3600)
    reset = request_id.set("request-1")
    assert [await service.revoke_token(token) for token in tokens] == [True, True]
    request_id.reset(reset)
    assert [row(database, session).revoked_at for session in (refreshed, accessed)] == [clock.now] * 2
    assert database.read_now(audit.latest_of_user, ada.id) == [
        AuditEvent(clock.now, "session_revoked", request_id="request-1", user_id=ada.id, session_id=session.id)
        for session in (accessed, refreshed)
    ]


async def test_text_that_is_no_token_of_ours_revokes_nothing_and_is_no_error(
    service: Sessions, begin: Begin, database: Database
) -> None:
    """RFC 7009, 2.2."""
    session = begin()
    assert not await service.revoke_token("made up")
    assert not await service.revoke_token("made up", client_id="app")
    assert row(database, session) == session


async def test_another_app_does_not_revoke_a_session(
    service: Sessions, begin: Begin, database: Database, clock: Clock, ada: User
) -> None:
    """RFC 7009, 2.1: the session stays, and the log gets the reason. The session's own app ends it."""
    session = begin()
    token = service.pair(ada, session, clock.now).refresh_token
    with pytest.raises(InvalidGrant) as caught:
        await service.revoke_token(token, client_id="other-app")
    assert caught.value.note == "the token was given to another client"
    assert caught.value.facts == {"session_id": session.id, "user_id": ada.id, "client_id": "other-app"}
    assert row(database, session) == session
    assert await service.revoke_token(token, client_id="app")
    assert row(database, session).revoked_at == clock.now


async def test_a_session_that_has_ended_or_never_was_can_be_revoked_again(
    service: Sessions, begin: Begin, database: Database, clock: Clock, ada: User
) -> None:
    """The first end counts and is recorded once."""
    session = begin()
    pair = service.pair(ada, session, clock.now)
    ended_at = clock.now
    for client_id in (None, "app", None):
        assert await service.revoke_token(pair.refresh_token, client_id=client_id)
        clock.advance(1)
    never = service.pair(ada, session._replace(id=UNKNOWN), clock.now)
    assert await service.revoke_token(never.refresh_token, client_id="app")
    assert row(database, session).revoked_at == ended_at
    assert [event.event for event in database.read_now(audit.latest_of_user, ada.id)] == ["session_revoked"]


async def test_a_user_ends_a_session_of_its_own_and_of_nobody_else(
    service: Sessions, begin: Begin, database: Database, clock: Clock, ada: User
) -> None:
    """The session of another user looks as if there were none."""
    session, kept = begin(), begin()
    other = database.write_now(
        accounts.admit, Identity(Provider("google"), "2", "other@x.example", email_verified=True), now=clock.now
    )
    with pytest.raises(SessionNotFound):
        await service.end(other, session.id)
    assert row(database, session) == session
    reset = request_id.set("request-1")
    await service.end(ada, session.id)
    request_id.reset(reset)
    assert row(database, session).revoked_at == clock.now
    assert row(database, kept) == kept
    assert database.read_now(audit.latest_of_user, ada.id) == [
        AuditEvent(clock.now, "session_revoked", request_id="request-1", user_id=ada.id, session_id=session.id)
    ]
    with pytest.raises(SessionNotFound):
        await service.end(ada, session.id)


async def test_all_other_sessions_of_a_user_end_at_once(
    service: Sessions, begin: Begin, database: Database, clock: Clock, ada: User
) -> None:
    """The session of the request stays. One event has the number; a call that ends nothing is not recorded."""
    made = [begin() for _ in range(3)]
    here = SignedInUser(ada, made[1].id)
    reset = request_id.set("request-1")
    for _ in range(2):
        await service.end_others(here)
    request_id.reset(reset)
    assert [row(database, session).revoked_at for session in made] == [clock.now, None, clock.now]
    assert database.read_now(audit.latest_of_user, ada.id) == [
        AuditEvent(clock.now, "sessions_revoked", request_id="request-1", user_id=ada.id, detail="2 ended")
    ]


async def test_the_active_sessions_of_a_user_are_those_of_apps_in_the_settings(
    service: Sessions, serving: Serving, begin: Begin, clock: Clock, ada: User
) -> None:
    """Oldest first, without sessions that ended or expired, or whose app was taken out of the settings."""
    first = begin()
    clock.advance(1)
    second, ended = begin(client_id="other-app"), begin()
    await service.end(ada, ended.id)
    here = SignedInUser(ada, first.id)
    assert await service.active(here) == [first, second]
    assert await serving("app").active(here) == [first]
    clock.now = first.expires_at
    assert await service.active(here) == []


async def test_an_access_token_of_an_ended_session_is_refused_with_the_reason_for_the_log(
    service: Sessions, begin: Begin, database: Database, clock: Clock, ada: User
) -> None:
    """The same reason whether the session ended, or the user was deactivated."""
    session, other = begin(), begin()
    tokens = [service.access_token(each, clock.now).token for each in (session, other)]
    assert await service.authenticate(tokens[0]) == SignedInUser(ada, session.id)
    await service.end(ada, session.id)
    database.write_now(users.set_active, ada.id, active=False)
    for token in tokens:
        with pytest.raises(InvalidToken) as caught:
            await service.authenticate(token)
        assert caught.value.note == "session or user ended"
