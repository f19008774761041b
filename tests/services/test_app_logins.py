"""Logins that an app began, and tokens that it presents, with the provider and the clock in the test's hand."""

import hashlib
from collections.abc import Callable

import pytest

from nextarget.errors import (
    AccessDenied,
    IdentityRejected,
    InvalidRequest,
    InvalidState,
    ProblemError,
    ProviderUnavailable,
    UserDeactivated,
)
from nextarget.model import AppRequest, LoginMode, Millis, Provider
from nextarget.providers.base import SubjectTokenType
from nextarget.services import accounts
from nextarget.services.native import NONCE_SECONDS, NativeSignIn, PresentedToken
from nextarget.services.signin import CODE_SECONDS, AppAnswer, CallbackAnswer, SignIn
from nextarget.storage import logins, sessions, users
from nextarget.storage.database import Database
from tests.services.conftest import ADA, SECRET, Clock, Node, Vouching

Making = Callable[..., Node]
APP = AppRequest("app", "app:/callback", "a-challenge", "the app's state")


@pytest.fixture
def server(node: Making) -> Node:
    return node(SECRET)


@pytest.fixture
def native(database: Database, google: Vouching, server: Node, clock: Clock) -> NativeSignIn:
    return NativeSignIn(database, {Provider.GOOGLE: google}, server.sessions, clock)


async def finished(signin: SignIn, **changed: str | None) -> AppAnswer:
    """A login of the app, begun and called back with this answer of the provider."""
    begun = signin.begin(Provider.GOOGLE, LoginMode.APP, app=APP)
    facts = {"code": "code", "error": None, "error_description": None, "issuer": None} | changed
    answer = await signin.finish(Provider.GOOGLE, CallbackAnswer(state=begun.state, **facts), cookie=begun.cookie)
    assert isinstance(answer, AppAnswer)
    assert answer.app == APP
    return answer


def presented(nonce: str | None = None) -> PresentedToken:
    return PresentedToken(Provider.GOOGLE, SubjectTokenType.ID_TOKEN, "a token", nonce, "Ada's phone")


async def test_an_app_is_answered_with_a_code_and_no_session(server: Node, database: Database, clock: Clock) -> None:
    """The code is bound to login, user and app for a minute; only its digest is kept, and a session comes later."""
    answer = await finished(server.signin)
    assert isinstance(answer.outcome, str)
    assert answer.outcome not in repr(answer)
    grant = database.read_now(logins.granted, hashlib.sha256(answer.outcome.encode()).hexdigest())
    (user,) = database.read_now(users.page)
    assert grant is not None
    assert (grant.user_id, grant.app, grant.session_id) == (user.id, APP, None)
    assert grant.expires_at == clock.now + CODE_SECONDS * 1000
    assert database.read_now(sessions.of_user, user.id) == []


async def test_a_login_of_an_app_is_bound_to_its_browser(server: Node) -> None:
    """As with any redirect: without the cookie there is nobody to answer."""
    begun = server.signin.begin(Provider.GOOGLE, LoginMode.APP, app=APP)
    assert begun.cookie is not None
    with pytest.raises(InvalidState):
        await server.signin.finish(
            Provider.GOOGLE, CallbackAnswer(begun.state, "code", None, None, None), cookie="made up"
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
    """Once the login is known to be the app's, whatever ends it goes there."""
    google.says = says
    answer = await finished(server.signin, **changed)
    assert type(answer.outcome) is kind


async def test_a_deactivated_user_gets_no_code(server: Node, database: Database, clock: Clock) -> None:
    """The app is told, and nothing could be redeemed."""
    user = database.write_now(accounts.admit, ADA, now=clock.now)
    database.write_now(accounts.set_active, user, active=False, now=clock.now)
    answer = await finished(server.signin)
    assert type(answer.outcome) is UserDeactivated
    assert database.read_now(lambda db: db.execute_sql('SELECT "code_digest" FROM "login"').fetchall()) == [(None,)]


@pytest.mark.parametrize("ask", [True, False])
async def test_whether_the_person_is_asked_is_handed_on(server: Node, google: Vouching, ask: bool) -> None:
    """The route knows where a person has to confirm; the provider knows how."""
    server.signin.begin(Provider.GOOGLE, LoginMode.APP, app=APP, ask_person=ask)
    assert google.asked_person == [ask]
    assert server.signin.asks_person(Provider.GOOGLE) is google.asks_person


def test_a_provider_is_offered_while_it_answers(server: Node, google: Vouching) -> None:
    """One that is not configured never does."""
    assert server.signin.configured == (Provider.GOOGLE,)
    assert server.signin.answering(Provider.GOOGLE)
    google.http.answering = False
    assert not server.signin.answering(Provider.GOOGLE)
    assert not server.signin.answering(Provider.FACEBOOK)


async def test_a_native_token_is_exchanged_once(native: NativeSignIn, server: Node, google: Vouching) -> None:
    """Its nonce is used up with the session that it opens."""
    google.native_nonce = native.issue_nonce()
    pair = await native.exchange(presented("raw"))
    assert (await server.sessions.authenticate(pair.access.token)).user == pair.user
    assert pair.session.label == "Ada's phone"
    assert google.asked_natively[0][:3] == ("a token", SubjectTokenType.ID_TOKEN, "raw")
    with pytest.raises(InvalidRequest, match="used already"):
        await native.exchange(presented("raw"))


async def test_a_nonce_lives_ten_minutes(native: NativeSignIn, google: Vouching, clock: Clock) -> None:
    """To the millisecond."""
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
    """Nobody can burn another app's nonce with a token that the provider did not sign."""
    google.native_nonce = native.issue_nonce()
    google.says = failure
    with pytest.raises((InvalidRequest, ProviderUnavailable)):
        await native.exchange(presented())
    google.says = ADA
    assert await native.exchange(presented())
