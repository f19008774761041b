"""Logins that an app began, and tokens that an app presents. The test controls the provider and the clock."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from nextarget.errors import (
    AccessDenied,
    IdentityRejected,
    InvalidRequest,
    InvalidState,
    LoginExpired,
    ProblemError,
    ProviderNotConfigured,
    ProviderUnavailable,
    UserDeactivated,
)
from nextarget.model import AppRequest, AuditEvent, LoginMode, Millis, Prompt, Provider, Wishes, iso_time
from nextarget.providers.base import SubjectTokenType
from nextarget.services import accounts
from nextarget.services import native as native_service
from nextarget.services.login_outcomes import CODE_SECONDS, AppAnswer
from nextarget.services.native import NONCE_SECONDS, NativeSignIn, PresentedToken
from nextarget.services.sessions import end_all
from nextarget.services.signin import CallbackAnswer, SignIn
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import audit, logins, sessions, users
from nextarget.telemetry import get_logger, request_id
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.login import login_id as id_of
from tests.services.conftest import ADA, SECRET, Clock, Node, Vouching

Making = Callable[..., Node]
APP = AppRequest("app", "app:/callback", "a-challenge", "the app's state")


@pytest.fixture
def server(node: Making) -> Node:
    return node(SECRET)


@pytest.fixture
def native(database: Database, google: Vouching, server: Node, clock: Clock) -> NativeSignIn:
    return NativeSignIn(database, {Provider("google"): google}, Keyring(SECRET), server.sessions, clock)


async def finished(signin: SignIn, **changed: str | None) -> AppAnswer:
    """The answer to a login of the app, after a callback with these parameters from the provider."""
    begun = signin.begin(Provider("google"), LoginMode.APP, app=APP)
    facts = {"code": "code", "error": None, "error_description": None, "issuer": None} | changed
    answer = await signin.finish(Provider("google"), CallbackAnswer(state=begun.state, **facts), cookie=begun.cookie)
    assert isinstance(answer, AppAnswer)
    assert answer.app == APP
    return answer


def presented(nonce: str | None = None) -> PresentedToken:
    return PresentedToken(Provider("google"), SubjectTokenType.ID_TOKEN, "a token", nonce, "app", "Ada's phone")


async def test_an_app_is_answered_with_a_code_and_no_session(server: Node, database: Database, clock: Clock) -> None:
    """The code is valid for a minute for this login, user and app. Only its digest is stored. The session opens
    later."""
    answer = await finished(server.signin)
    assert isinstance(answer.outcome, str)
    assert answer.outcome not in repr(answer)
    grant = database.read_now(logins.granted, hashlib.sha256(answer.outcome.encode()).hexdigest())
    (user,) = database.read_now(users.page)
    assert grant is not None
    assert (grant.user_id, grant.app, grant.session_id) == (user.id, APP, None)
    assert grant.expires_at == clock.now + CODE_SECONDS * 1000
    assert database.read_now(sessions.of_user, user.id) == []


async def test_a_success_of_an_app_is_recorded_with_its_login(server: Node, database: Database, clock: Clock) -> None:
    """As any sign-in: one event, with the ids of login, request and user. There is no session yet."""
    begun = server.signin.begin(Provider("google"), LoginMode.APP, app=APP)
    reset = request_id.set("request-1")
    await server.signin.finish(
        Provider("google"), CallbackAnswer(begun.state, "code", None, None, None), cookie=begun.cookie
    )
    request_id.reset(reset)
    (user,) = database.read_now(users.page)
    assert database.read_now(audit.latest_of_user, user.id) == [
        AuditEvent(clock.now, "login_succeeded", login_id=id_of(begun.state), request_id="request-1", user_id=user.id)
    ]


async def test_a_login_of_an_app_is_bound_to_its_browser(server: Node) -> None:
    """Without the login's cookie, the callback is refused and the app gets no answer."""
    begun = server.signin.begin(Provider("google"), LoginMode.APP, app=APP)
    assert begun.cookie is not None
    with pytest.raises(InvalidState):
        await server.signin.finish(
            Provider("google"), CallbackAnswer(begun.state, "code", None, None, None), cookie="made up"
        )


@pytest.mark.parametrize(
    ("says", "changed", "kind"),
    [
        (ADA, {"code": None, "error": "access_denied"}, AccessDenied),
        (ADA, {"issuer": "https://evil.example"}, InvalidState),
        (ProviderUnavailable(note="down"), {}, ProviderUnavailable),
        (IdentityRejected("id_token expired"), {}, IdentityRejected),
    ],
)
async def test_an_app_is_told_what_went_wrong(
    server: Node, google: Vouching, says: object, changed: dict[str, str | None], kind: type[ProblemError]
) -> None:
    """Once a callback is known to belong to a login of the app, the app gets every error of this login."""
    google.says = says
    answer = await finished(server.signin, **changed)
    assert type(answer.outcome) is kind


async def test_a_deactivated_user_gets_no_code(server: Node, database: Database, clock: Clock) -> None:
    """The app gets the error, and there is no code to redeem."""
    user = database.write_now(accounts.admit, ADA, now=clock.now)
    database.write_now(accounts.set_active, user, active=False, now=clock.now)
    answer = await finished(server.signin)
    assert type(answer.outcome) is UserDeactivated
    assert database.read_now(lambda db: db.execute_sql('SELECT * FROM "login"').fetchall()) == []


async def test_an_app_is_told_that_it_took_too_long(server: Node, clock: Clock) -> None:
    """RFC 6749, 4.1.2.1: a late callback with the login's cookie gives the app an error that says to try again."""
    begun = server.signin.begin(Provider("google"), LoginMode.APP, app=APP)
    clock.advance(600)
    callback = CallbackAnswer(begun.state, "code", None, None, None)
    answer = await server.signin.finish(Provider("google"), callback, cookie=begun.cookie)
    assert isinstance(answer, AppAnswer)
    assert (answer.app, type(answer.outcome)) == (APP, LoginExpired)
    assert answer.outcome.oauth_error == "temporarily_unavailable"


async def test_the_login_of_a_callback_is_known_by_state_and_cookie(server: Node) -> None:
    """So that a page about a failure can lead back to the app, or begin the login again. Nothing is known from a state
    of another provider, a cookie of another login, or a login that no browser is bound to."""
    google, facebook = Provider("google"), Provider("facebook")
    app, other = (server.signin.begin(google, LoginMode.APP, app=APP) for _ in range(2))
    found = server.signin.login_of(google, app.state, app.cookie)
    assert found is not None
    assert (found.app, found.provider) == (APP, google)
    plain = server.signin.begin(google, LoginMode.REDIRECT)
    found = server.signin.login_of(google, plain.state, plain.cookie)
    assert found is not None
    assert (found.app, found.mode) == (None, LoginMode.REDIRECT)
    json = server.signin.begin(google, LoginMode.JSON)
    for name, state, cookie in (
        (google, app.state, None),
        (google, app.state, other.cookie),
        (google, "made up", app.cookie),
        (facebook, app.state, app.cookie),
        (google, json.state, app.cookie),
    ):
        assert server.signin.login_of(name, state, cookie) is None


@pytest.mark.parametrize("ask", [True, False])
async def test_whether_the_person_is_asked_is_handed_on(server: Node, google: Vouching, ask: bool) -> None:
    """The route decides whether the person must confirm. The provider builds the URL for it."""
    server.signin.begin(Provider("google"), LoginMode.APP, app=APP, ask_person=ask)
    assert google.asked_person == [ask]
    assert server.signin.asks_person(Provider("google")) is google.asks_person


async def test_what_the_app_wishes_is_handed_on(server: Node, google: Vouching) -> None:
    """The provider gets the app's wishes. They are not in a representation."""
    wishes = Wishes(frozenset({Prompt.LOGIN}), "ada@lovelace.example")
    server.signin.begin(Provider("google"), LoginMode.APP, app=APP, wishes=wishes)
    server.signin.begin(Provider("google"), LoginMode.JSON)
    assert google.wishes == [wishes, Wishes()]
    assert "ada" not in repr(wishes)


def test_a_provider_is_offered_while_it_answers(server: Node, google: Vouching) -> None:
    """A provider is offered while it responds. A provider that is not configured is never offered."""
    assert server.signin.configured == (Provider("google"),)
    assert server.signin.answering(Provider("google"))
    google.http.answering = False
    assert not server.signin.answering(Provider("google"))
    assert not server.signin.answering(Provider("facebook"))


async def test_a_native_token_is_exchanged_once(native: NativeSignIn, server: Node, google: Vouching) -> None:
    """Opening a session uses up the nonce of the token."""
    google.native_nonce = native.issue_nonce()
    pair = await native.exchange(presented("raw"))
    assert (await server.sessions.authenticate(pair.access.token)).user == pair.user
    assert pair.session.label == "Ada's phone"
    assert google.asked_natively[0][:3] == ("a token", SubjectTokenType.ID_TOKEN, "raw")
    with pytest.raises(InvalidRequest, match="used already"):
        await native.exchange(presented("raw"))


async def test_a_native_sign_in_is_recorded_as_one(
    native: NativeSignIn, google: Vouching, database: Database, clock: Clock
) -> None:
    """The event says that no login of ours was part of it. The provider checks the token with the time of the clock."""
    google.native_nonce = native.issue_nonce()
    reset = request_id.set("request-1")
    pair = await native.exchange(presented())
    request_id.reset(reset)
    assert google.asked_natively[0][3] == clock.now
    assert (pair.session.client_id, pair.session.created_at) == ("app", clock.now)
    assert database.read_now(audit.latest_of_user, pair.user.id) == [
        AuditEvent(
            clock.now,
            "login_succeeded",
            request_id="request-1",
            user_id=pair.user.id,
            session_id=pair.session.id,
            detail="native",
        )
    ]


async def test_a_native_sign_in_is_one_line_of_the_log(
    native: NativeSignIn, google: Vouching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the provider, and the ids of user and session."""
    monkeypatch.setattr(native_service, "log", get_logger())  # the module's own has settled on where it writes
    google.native_nonce = native.issue_nonce()
    with capture_logs() as lines:
        pair = await native.exchange(presented())
    ids = {"user_id": pair.user.id, "session_id": pair.session.id}
    assert lines == [{"event": "login_succeeded", "log_level": "info", "provider": "google"} | ids]


async def test_a_refused_native_sign_in_of_a_known_user_is_recorded(
    native: NativeSignIn, google: Vouching, database: Database, clock: Clock
) -> None:
    """The provider has confirmed the identity, so that no stranger causes the event. The log gets provider and user."""
    google.native_nonce = native.issue_nonce()
    user = database.write_now(accounts.admit, ADA, now=clock.now)
    database.write_now(accounts.set_active, user, active=False, now=clock.now)
    with pytest.raises(InvalidRequest) as caught:
        await native.exchange(presented())
    assert (caught.value.detail, caught.value.note) == (UserDeactivated.sentence, UserDeactivated.title)
    assert caught.value.facts == {"provider": "google", "user_id": user.id}
    event = database.read_now(audit.latest_of_user, user.id, limit=1)[0]
    assert (event.event, event.at) == ("login_failed", clock.now)
    assert str(event.detail).startswith("user_deactivated: ")


async def test_the_log_gets_why_a_native_token_is_refused(native: NativeSignIn, google: Vouching, clock: Clock) -> None:
    """The app gets the failed check as well, but no time of ours and no hint about our secrets."""
    nonce = native.issue_nonce()
    expires_at = Millis(clock.now + NONCE_SECONDS * 1000)
    clock.now = expires_at
    unknown = "id_token nonce unknown: not made here, or its secret is not listed"
    for native_nonce, note in ((nonce, f"id_token nonce expired at {iso_time(expires_at)}"), ("made up", unknown)):
        google.native_nonce = native_nonce
        with pytest.raises(InvalidRequest) as caught:
            await native.exchange(presented())
        assert (caught.value.note, caught.value.facts) == (note, {"provider": "google"})
        sentence = "The subject_token was refused: id_token nonce was not issued here, or has expired."
        assert caught.value.detail == sentence
    google.says = IdentityRejected("id_token expired", note="more for the log")
    with pytest.raises(InvalidRequest) as caught:
        await native.exchange(presented())
    assert caught.value.note == "id_token expired; more for the log"
    assert caught.value.detail == "The subject_token was refused: id_token expired."


async def test_a_native_token_of_a_provider_that_is_not_configured_is_refused(native: NativeSignIn) -> None:
    """RFC 8693, 2.2.2: the answer says that the provider is off."""
    with pytest.raises(InvalidRequest) as caught:
        await native.exchange(replace(presented(), provider=Provider("facebook")))
    assert caught.value.detail == ProviderNotConfigured.sentence


async def test_a_native_token_without_nonce_and_time_counts_from_now(
    native: NativeSignIn, database: Database, clock: Clock
) -> None:
    """Then nothing says when the sign-in began, and an earlier end of all sessions does not refuse it."""
    user = (await native.exchange(presented())).user
    database.write_now(end_all, user, now=Millis(clock.now - 1))
    assert await native.exchange(presented())


async def test_issuing_nonces_writes_nothing(native: NativeSignIn, database: Database) -> None:
    """A client that requests a thousand nonces fills no table."""
    assert len({native.issue_nonce() for _ in range(1000)}) == 1000
    assert database.read_now(lambda db: db.execute_sql('SELECT count(*) FROM "nonce"').fetchone()) == (0,)


@pytest.mark.parametrize("odd", ["", "made up", "A" * 43, f"{'A' * 43}.9999999999999.{'A' * 43}"])
async def test_a_nonce_that_we_did_not_issue_is_refused(
    native: NativeSignIn, google: Vouching, database: Database, odd: str
) -> None:
    """The MAC of a nonce shows whether we issued it. A nonce without a valid MAC is refused, and nothing is written."""
    google.native_nonce = odd
    with pytest.raises(InvalidRequest, match="was not issued here"):
        await native.exchange(presented())
    assert database.read_now(users.page) == []


async def test_a_state_is_no_nonce(native: NativeSignIn, server: Node, google: Vouching) -> None:
    """Every kind of one-time value has its own key, so that a state is not accepted as a nonce."""
    google.native_nonce = server.signin.begin(Provider("google"), LoginMode.JSON).state
    with pytest.raises(InvalidRequest, match="was not issued here"):
        await native.exchange(presented())


async def test_a_nonce_of_before_every_session_ended_opens_none(
    native: NativeSignIn, google: Vouching, database: Database, clock: Clock
) -> None:
    """A nonce that was issued before all sessions of the user ended opens no session. Nor is it used up."""
    google.native_nonce = native.issue_nonce()
    user = database.write_now(accounts.admit, ADA, now=clock.now)
    database.write_now(end_all, user, now=clock.now)
    with pytest.raises(InvalidRequest, match="ended after this sign-in began"):
        await native.exchange(presented())
    assert database.read_now(sessions.of_user, user.id) == []
    clock.advance(0.001)
    google.native_nonce = native.issue_nonce()
    assert await native.exchange(presented())


async def test_a_token_without_nonce_opens_no_session_when_it_is_older_than_the_end_of_all(
    native: NativeSignIn, google: Vouching, database: Database, clock: Clock
) -> None:
    """A provider's access token can be presented repeatedly. It is refused if it was issued before all sessions
    ended."""
    google.issued_at = Millis(clock.now - 1000)
    user = (await native.exchange(presented())).user
    database.write_now(end_all, user, now=Millis(clock.now - 500))
    with pytest.raises(InvalidRequest, match="ended after this sign-in began"):
        await native.exchange(presented())
    google.issued_at = clock.now
    assert await native.exchange(presented())


async def test_a_nonce_lives_ten_minutes(native: NativeSignIn, google: Vouching, clock: Clock) -> None:
    """A nonce is valid for ten minutes, to the millisecond."""
    first, second = [native.issue_nonce() for _ in range(2)]
    clock.now = Millis(clock.now + NONCE_SECONDS * 1000 - 1)
    google.native_nonce = first
    assert await native.exchange(presented())
    clock.advance(0.001)
    google.native_nonce = second
    with pytest.raises(InvalidRequest, match="expired"):
        await native.exchange(presented())


@pytest.mark.parametrize("failure", [IdentityRejected("id_token expired"), ProviderUnavailable(note="down")])
async def test_a_token_that_is_not_believed_uses_no_nonce_up(
    native: NativeSignIn, google: Vouching, failure: ProblemError
) -> None:
    """A token that the provider did not sign does not use up the nonce of another app."""
    google.native_nonce = native.issue_nonce()
    google.says = failure
    with pytest.raises((InvalidRequest, ProviderUnavailable)):
        await native.exchange(presented())
    google.says = ADA
    assert await native.exchange(presented())
