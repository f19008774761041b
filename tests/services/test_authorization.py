"""Authorization codes: what redeems one, what does not, and what the log and the audit record get."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from nextarget.errors import InvalidGrant
from nextarget.model import AppRequest, AuditEvent, LoginMode, Millis, Provider, TokenPair, User, iso_time
from nextarget.services import accounts, authorization
from nextarget.services.authorization import CodeRedemption, PresentedCode
from nextarget.services.login_outcomes import CODE_SECONDS, AppAnswer
from nextarget.services.sessions import SignedInUser, end_all
from nextarget.services.signin import CallbackAnswer
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, logins, sessions, users
from nextarget.telemetry import get_logger, login_id, request_id
from nextarget.tokens.encoding import code_challenge
from nextarget.tokens.login import login_id as id_of
from tests.services.conftest import SECRET, Clock, Node

VERIFIER = "v" * 43
APP = AppRequest("app", "app:/callback", code_challenge(VERIFIER), None)


def event_of(pair: TokenPair, event: str, *, at: Millis, login: str, request: str) -> AuditEvent:
    """The whole audit record of a code that belongs to this session."""
    ids = {"user_id": pair.user.id, "session_id": pair.session.id}
    return AuditEvent(at, event, login_id=login, request_id=request, **ids)


@pytest.fixture
def server(node: Callable[..., Node]) -> Node:
    return node(SECRET)


@pytest.fixture
def redemption(database: Database, server: Node, clock: Clock) -> CodeRedemption:
    return CodeRedemption(database, server.sessions, clock)


async def code_of(server: Node) -> tuple[PresentedCode, str]:
    """The right parameters for the code of a new login, and the id of the login."""
    begun = server.signin.begin(Provider("google"), LoginMode.APP, app=APP)
    callback = CallbackAnswer(begun.state, "code", None, None, None)
    answer = await server.signin.finish(Provider("google"), callback, cookie=begun.cookie)
    assert isinstance(answer, AppAnswer)
    assert isinstance(answer.outcome, str)
    login_id.set(None)
    return PresentedCode(answer.outcome, "app", "app:/callback", VERIFIER, "Ada's phone"), id_of(begun.state)


async def refused(redemption: CodeRedemption, presented: PresentedCode) -> InvalidGrant:
    with pytest.raises(InvalidGrant) as caught:
        await redemption.redeem(presented)
    return caught.value


def only_user(database: Database) -> User:
    (user,) = database.read_now(users.page)
    return user


@pytest.mark.parametrize("redirect_uri", ["app:/callback", None])
async def test_a_code_begins_one_session(
    redemption: CodeRedemption, server: Node, database: Database, clock: Clock, redirect_uri: str | None
) -> None:
    """For the app and under the label of the request. OAuth 2.1 lets the redirect_uri be absent. The audit record
    names the login."""
    presented, login = await code_of(server)
    reset = request_id.set("request-1")
    pair = await redemption.redeem(replace(presented, redirect_uri=redirect_uri))
    request_id.reset(reset)
    assert await server.sessions.authenticate(pair.access.token) == SignedInUser(pair.user, pair.session.id)
    assert (pair.session.client_id, pair.session.label, pair.session.created_at) == ("app", "Ada's phone", clock.now)
    assert database.read_now(sessions.of_user, pair.user.id) == [pair.session]
    assert database.read_now(audit.latest_of_user, pair.user.id, limit=1) == [
        event_of(pair, "code_redeemed", at=clock.now, login=login, request="request-1")
    ]


async def test_a_redeemed_code_is_one_line_of_the_log(
    redemption: CodeRedemption, server: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the ids of login, user and session."""
    presented, login = await code_of(server)
    monkeypatch.setattr(authorization, "log", get_logger())  # the module's own has settled on where it writes
    with capture_logs() as lines:
        pair = await redemption.redeem(presented)
    assert login_id.get() == login
    ids = {"user_id": pair.user.id, "session_id": pair.session.id}
    assert lines == [{"event": "code_redeemed", "log_level": "info"} | ids]


WRONG = {
    "client_id": ({"client_id": "other-app"}, "the code was given to another client"),
    "redirect_uri": (
        {"redirect_uri": "app:/other"},
        "the redirect_uri is not the one that the code was asked with",
    ),
    "code_verifier": ({"code_verifier": "w" * 43}, "the code_verifier is wrong"),
}


@pytest.mark.parametrize("wrong", [["client_id"], ["redirect_uri"], ["code_verifier"], list(WRONG)])
async def test_who_does_not_own_a_code_changes_nothing(
    redemption: CodeRedemption, server: Node, database: Database, wrong: list[str]
) -> None:
    """RFC 7636, 4.6: the log gets every mismatch and the ids. The owner can still redeem the code."""
    presented, login = await code_of(server)
    user = only_user(database)
    changes = {name: value for which in wrong for name, value in WRONG[which][0].items()}
    error = await refused(redemption, replace(presented, **changes))
    assert error.note == "; ".join(WRONG[which][1] for which in wrong)
    shown = {name: value for name, value in changes.items() if name != "code_verifier"}
    assert error.facts == {"login_id": login, "user_id": user.id} | shown
    assert login_id.get() == login
    assert database.read_now(sessions.of_user, user.id) == []
    assert await redemption.redeem(presented)


async def test_the_log_gets_nothing_personal_of_a_wrong_client_or_redirect(
    redemption: CodeRedemption, server: Node
) -> None:
    """Both come from outside: what does not look like an id or an address of an app is left out."""
    presented, _ = await code_of(server)
    odd = replace(presented, client_id="ada@x.example", redirect_uri="https://ada:pw@x.example/cb?code=hush")
    error = await refused(redemption, odd)
    assert error.facts["client_id"] == "[...]"
    assert not {"ada", "pw", "hush"} & set(error.facts["redirect_uri"].replace("/", ":").replace("@", ":").split(":"))


async def test_a_second_use_of_a_code_ends_the_session_of_the_first(
    redemption: CodeRedemption, server: Node, database: Database, clock: Clock
) -> None:
    """RFC 6749, 4.1.2. The event is stored although the request is refused; also after the code expired."""
    presented, login = await code_of(server)
    pair = await redemption.redeem(presented)
    clock.advance(CODE_SECONDS)
    reset = request_id.set("request-2")
    error = await refused(redemption, presented)
    request_id.reset(reset)
    assert error.note == "code used already: the session that it made has ended"
    assert error.facts == {"login_id": login, "user_id": pair.user.id, "session_id": pair.session.id}
    (session,) = database.read_now(sessions.of_user, pair.user.id)
    assert session.revoked_at == clock.now
    assert database.read_now(audit.latest_of_user, pair.user.id, limit=1) == [
        event_of(pair, "code_reused", at=clock.now, login=login, request="request-2")
    ]


async def test_a_code_that_another_request_redeems_at_the_same_moment_is_used_already(
    redemption: CodeRedemption,
    server: Node,
    database: Database,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The request that comes second ends the session of the first, as if it had come later."""
    presented, _ = await code_of(server)
    first = server.sessions.new(only_user(database).id, client_id="app", label=None, now=clock.now)
    redeem = logins.redeem

    def overtaken(db: Connection, code_digest: str, session_id: str) -> bool:
        assert redeem(db, code_digest, first.id)
        sessions.begin(db, first)
        return redeem(db, code_digest, session_id)

    monkeypatch.setattr(logins, "redeem", overtaken)
    error = await refused(redemption, presented)
    assert error.note == "code used already: the session that it made has ended"
    (session,) = database.read_now(sessions.of_user, first.user_id)
    assert (session.id, session.revoked_at) == (first.id, clock.now)


async def test_a_code_is_valid_for_a_minute(redemption: CodeRedemption, server: Node, clock: Clock) -> None:
    """To the millisecond; the log gets the time when it expired."""
    (first, _), (second, login) = [await code_of(server) for _ in range(2)]
    expires_at = Millis(clock.now + CODE_SECONDS * 1000)
    clock.now = Millis(expires_at - 1)
    assert await redemption.redeem(first)
    clock.now = expires_at
    error = await refused(redemption, second)
    assert error.note == f"code expired at {iso_time(expires_at)}"
    assert error.facts["login_id"] == login


async def test_a_code_that_was_never_made_is_refused(redemption: CodeRedemption, server: Node) -> None:
    """Nothing is known of it, so the log gets no ids."""
    presented, _ = await code_of(server)
    error = await refused(redemption, replace(presented, code="made up"))
    assert (error.note, error.facts) == ("code unknown", {})


async def test_a_code_of_a_deactivated_user_is_refused_and_recorded(
    redemption: CodeRedemption, server: Node, database: Database, clock: Clock
) -> None:
    """The operator sees in the audit record that the user tried to sign in."""
    presented, login = await code_of(server)
    user = only_user(database)
    database.write_now(accounts.set_active, user, active=False, now=clock.now)
    error = await refused(redemption, presented)
    assert (error.note, error.facts) == ("user deactivated", {"login_id": login, "user_id": user.id})
    event = database.read_now(audit.latest_of_user, user.id, limit=1)[0]
    assert (event.event, event.login_id, event.at) == ("login_failed", login, clock.now)
    assert str(event.detail).startswith("user_deactivated: ")


async def test_a_code_of_before_every_session_ended_is_refused(
    redemption: CodeRedemption, server: Node, database: Database, clock: Clock
) -> None:
    """What ends the sessions of a user ends the codes that could become one."""
    presented, login = await code_of(server)
    user = only_user(database)
    database.write_now(end_all, user, now=clock.now)
    error = await refused(redemption, presented)
    assert error.note == "the user's sessions were ended after the sign-in began"
    assert error.facts == {"login_id": login, "user_id": user.id}
    assert database.read_now(sessions.of_user, user.id) == []
