"""Signing in. The test controls the clock, the secrets and the provider."""

import asyncio
from collections.abc import Callable

import pytest

from nextarget.errors import (
    AccessDenied,
    DatabaseUnavailable,
    IdentityRejected,
    InvalidState,
    InvalidToken,
    JsonFlowOff,
    LoginExpired,
    ProblemError,
    ProviderFailed,
    ProviderNotConfigured,
    ProviderRefused,
    ProviderUnavailable,
    UserDeactivated,
)
from nextarget.model import AppRequest, AuditEvent, Identity, LoginMode, Provider, iso_time
from nextarget.services import accounts
from nextarget.services.login_outcomes import AppAnswer, FinishedAlready
from nextarget.services.sessions import SignedInUser
from nextarget.services.signin import LOGIN_SECONDS, CallbackAnswer, SignIn
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, sessions, users
from nextarget.telemetry import login_id, request_id
from nextarget.tokens.encoding import digest
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.login import login_id as id_of
from nextarget.tokens.login import new_state
from tests.services.conftest import ADA, CLIENTS, OTHER, SECRET, START, Clock, Node, Vouching

Making = Callable[..., Node]
APP = AppRequest("app", "app:/callback", "a-challenge", "the app's state")


def answer(state: str, **changed: str | None) -> CallbackAnswer:
    facts = {"code": "code", "error": None, "error_description": None, "issuer": None}
    return CallbackAnswer(state=state, **(facts | changed))


@pytest.fixture
def signin(node: Making) -> SignIn:
    return node(SECRET).signin


async def begun(signin: SignIn, mode: LoginMode = LoginMode.JSON) -> str:
    return signin.begin(Provider("google"), mode).state


async def fails(signin: SignIn, given: CallbackAnswer, cookie: str | None = None) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        await signin.finish(Provider("google"), given, cookie=cookie)
    return caught.value


def events(database: Database) -> list[AuditEvent]:
    """All audit events, oldest first."""
    rows = database.read_now(
        lambda db: db.execute_sql(
            'SELECT "at", "event", "login_id", "request_id", "user_id", "session_id", "detail" '
            'FROM "audit_event" ORDER BY "id"'
        ).fetchall()
    )
    return [
        AuditEvent(at, event, login_id=login, request_id=request, user_id=user, session_id=session, detail=detail)
        for at, event, login, request, user, session, detail in rows
    ]


def stored(database: Database) -> list[tuple[object, ...]]:
    """All rows of the table of logins."""
    return database.read_now(lambda db: db.execute_sql('SELECT * FROM "login"').fetchall())


def changes(database: Database) -> int:
    """The total number of rows in all tables that a sign-in writes to."""

    def count(db: Connection) -> int:
        tables = ("user", "session", "login", "nonce", "audit_event")
        return sum(db.execute_sql(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables)

    return database.read_now(count)


async def test_a_login_ends_with_a_user_a_session_and_a_token(node: Making, database: Database, clock: Clock) -> None:
    """The token opens the session that the login made, for the user that the provider vouched for."""
    server = node(SECRET)
    done = await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)
    assert (done.user.email, done.user.provider, done.user.created_at) == (ADA.email, Provider("google"), clock.now)
    assert done.session.user_id == done.user.id
    day = 24 * 3600 * 1000
    assert done.session.expires_at % day == 0
    assert 0 <= done.session.expires_at - (clock.now + 30 * day) < day
    assert await server.sessions.authenticate(done.access.token) == SignedInUser(done.user, done.session.id)
    assert database.read_now(users.page) == [done.user]


async def test_the_provider_sees_the_secrets_that_were_sent_to_it(signin: SignIn, google: Vouching) -> None:
    """State, nonce and verifier are the same at the callback as at the start, and differ for every login."""
    for _ in range(2):
        await signin.finish(Provider("google"), answer(await begun(signin), code="the code"), cookie=None)
    assert [secrets for _, secrets, _ in google.asked] == google.sent
    assert {code for code, _, _ in google.asked} == {"the code"}
    assert google.sent[0] != google.sent[1]


async def test_a_login_lives_ten_minutes(signin: SignIn, clock: Clock, google: Vouching) -> None:
    """A login is valid for ten minutes, to the millisecond. A later callback gets the error for an expired login."""
    first = signin.begin(Provider("google"), LoginMode.JSON)
    second = await begun(signin)
    assert first.expires_in == LOGIN_SECONDS == 600
    clock.advance(599.999)
    assert await signin.finish(Provider("google"), answer(first.state), cookie=None)
    clock.advance(0.001)
    assert type(await fails(signin, answer(second))) is LoginExpired
    assert len(google.asked) == 1


async def test_used_is_judged_before_expired(signin: SignIn, clock: Clock) -> None:
    """A callback that is loaded again much later is refused as used, not as expired: the person had signed in."""
    state = await begun(signin)
    await signin.finish(Provider("google"), answer(state), cookie=None)
    clock.advance(3000)
    error = await fails(signin, answer(state))
    assert (type(error), error.note) == (InvalidState, f"state used already, at {iso_time(START)}")


async def test_beginning_writes_nothing(signin: SignIn, database: Database) -> None:
    """Starting a thousand logins writes nothing to the database."""
    for mode in LoginMode:
        for _ in range(300):
            signin.begin(Provider("google"), mode, app=APP if mode is LoginMode.APP else None)
    assert changes(database) == 0


async def test_beginning_asks_the_database_nothing(signin: SignIn, database: Database) -> None:
    """A person can start a login while the database is unavailable."""
    database.close()
    assert signin.begin(Provider("google"), LoginMode.REDIRECT).auth_url


async def test_a_state_is_used_once(signin: SignIn, google: Vouching, database: Database) -> None:
    """The second callback with a state asks the provider nothing and opens no session."""
    state = await begun(signin)
    done = await signin.finish(Provider("google"), answer(state), cookie=None)
    assert type(await fails(signin, answer(state))) is InvalidState
    assert len(google.asked) == 1
    assert len(database.read_now(sessions.of_user, done.user.id, active_at=done.session.created_at)) == 1


async def test_of_many_callbacks_with_one_state_one_goes_on(signin: SignIn, google: Vouching) -> None:
    """Of many simultaneous callbacks with one state, exactly one signs in."""
    state = await begun(signin)
    callbacks = (signin.finish(Provider("google"), answer(state), cookie=None) for _ in range(20))
    outcomes = await asyncio.gather(*callbacks, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InvalidState"] * 19 + ["TokenPair"]
    assert len(google.asked) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"error": "access_denied", "code": None},
        {"code": None},
        {"issuer": "https://evil.example"},
    ],
    ids=["error", "neither", "other issuer"],
)
async def test_a_callback_that_fails_uses_no_login_up(
    signin: SignIn, google: Vouching, database: Database, given: dict[str, str | None]
) -> None:
    """A failed callback does not use up the login, so that a person who sees a state cannot block it."""
    state = await begun(signin)
    await fails(signin, answer(state, **given))
    assert (google.asked, stored(database)) == ([], [])
    assert await signin.finish(Provider("google"), answer(state), cookie=None)


async def test_a_callback_waits_for_another_of_its_login(signin: SignIn, google: Vouching) -> None:
    """A second callback waits for the first one. A provider accepts a code once, so it is asked once."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def identify(*_: object) -> Identity:
        assert not asked.is_set(), "the second callback asked the provider too"
        asked.set()
        await go_on.wait()
        return ADA

    google.identify = identify
    state = await begun(signin)
    first = asyncio.create_task(signin.finish(Provider("google"), answer(state), cookie=None))
    await asked.wait()
    second = asyncio.create_task(signin.finish(Provider("google"), answer(state), cookie=None))
    await asyncio.sleep(0)
    go_on.set()
    assert (await first).user.email == ADA.email
    with pytest.raises(InvalidState):
        await second
    assert len(signin._locks) == 0


async def test_a_database_that_is_away_is_asked_once(
    signin: SignIn, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed read, the database is neither read again nor asked to record the failure: the person would wait
    three times as long."""
    asked = []

    async def away(fn: Callable[..., object], *_: object, **__: object) -> None:
        asked.append(fn.__name__)
        raise DatabaseUnavailable(note="away")

    state = await begun(signin)
    monkeypatch.setattr(database, "read", away)
    monkeypatch.setattr(database, "write", away)
    assert type(await fails(signin, answer(state))) is DatabaseUnavailable
    assert asked == ["used_at"]


async def test_a_state_of_another_provider_is_told_apart_in_the_log(node: Making) -> None:
    """The note in the log tells a state of another provider from an unknown state."""
    state = new_state(Keyring(SECRET).current, Provider("facebook"), LoginMode.JSON, now=START)
    login_id.set(None)
    notes = [((await fails(node(SECRET).signin, answer(text))).note, login_id.get()) for text in ("made up", state)]
    unknown = "state unknown: not made here, or its secret is not listed"
    assert notes == [(unknown, None), ("state of another provider: facebook", id_of(state))]


async def test_a_node_that_was_refused_waits_for_the_one_that_was_not(
    node: Making, google: Vouching, database: Database
) -> None:
    """A node that was refused waits for the other node, which commits soon. The failure is not recorded."""
    one, other = node(SECRET).signin, node(SECRET).signin
    state = await begun(one)
    refused = asyncio.Event()

    async def refuses(*_: object) -> Identity:
        google.identify = identify
        refused.set()
        raise ProviderRefused(note="used")

    identify, google.identify = google.identify, refuses
    failing = asyncio.create_task(fails(one, answer(state)))
    await refused.wait()
    for _ in range(5):  # the node reads the state once, before the other node has committed
        await asyncio.sleep(0)
    assert await other.finish(Provider("google"), answer(state), cookie=None)
    assert (await failing).note == f"state used already, at {iso_time(START)}"
    assert [event.event for event in events(database)] == ["login_succeeded"]


async def test_a_callback_that_another_node_overtook_undoes_nothing(
    node: Making, google: Vouching, database: Database
) -> None:
    """The provider refuses a code that another node has redeemed. The sign-in succeeded there, so this callback reports
    no failure to the app and records none."""
    one, other = node(SECRET).signin, node(SECRET).signin
    login = one.begin(Provider("google"), LoginMode.APP, app=APP)

    async def overtaken(*_: object) -> Identity:
        google.identify = identify
        assert isinstance(await other.finish(Provider("google"), answer(login.state), cookie=login.cookie), AppAnswer)
        raise ProviderRefused(note="used")

    identify, google.identify = google.identify, overtaken
    again = await one.finish(Provider("google"), answer(login.state), cookie=login.cookie)
    assert again == FinishedAlready(APP, LoginMode.APP, f"state used already, at {iso_time(START)}")
    assert [event.event for event in events(database)] == ["login_succeeded"]


async def test_of_two_nodes_that_both_learn_who_it_is_one_signs_in(
    node: Making, google: Vouching, database: Database
) -> None:
    """If the provider accepts a code twice, there is still one session: one statement uses up the state."""
    nodes = [node(SECRET).signin for _ in range(2)]
    state = await begun(nodes[0])
    both = asyncio.Barrier(2)

    async def identify(*_: object) -> Identity:
        await both.wait()
        return ADA

    google.identify = identify
    finishing = (each.finish(Provider("google"), answer(state), cookie=None) for each in nodes)
    outcomes = await asyncio.gather(*finishing, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InvalidState", "TokenPair"]
    notes = {outcome.note for outcome in outcomes if isinstance(outcome, InvalidState)}
    assert notes == {"state used already, at the same moment"}
    (user,) = database.read_now(users.page)
    assert len(database.read_now(sessions.of_user, user.id)) == 1
    assert [event.event for event in events(database)] == ["login_succeeded"]


async def test_a_login_with_a_cookie_needs_its_cookie(signin: SignIn) -> None:
    """A login that began with a redirect can only be finished in the same browser."""
    login = signin.begin(Provider("google"), LoginMode.REDIRECT)
    other = signin.begin(Provider("google"), LoginMode.REDIRECT)
    assert login.cookie != other.cookie
    for cookie in (None, "", "made up", other.cookie):
        assert type(await fails(signin, answer(login.state), cookie)) is InvalidState
    assert await signin.finish(Provider("google"), answer(login.state), cookie=login.cookie)


async def test_a_login_of_the_json_flow_has_no_cookie(signin: SignIn) -> None:
    """A login of the JSON flow began without a browser, so it is finished without a cookie, and any cookie is
    ignored."""
    login = signin.begin(Provider("google"), LoginMode.JSON)
    assert login.cookie is None
    assert await signin.finish(Provider("google"), answer(login.state), cookie="of something else")


async def test_the_json_flow_can_be_switched_off(
    database: Database, clock: Clock, google: Vouching, node: Making
) -> None:
    """With the JSON flow off, its logins can neither begin nor finish, even if they began before."""
    before = node(SECRET)
    state = await begun(before.signin)
    now = SignIn(
        database,
        {Provider("google"): google},
        Keyring(SECRET),
        before.sessions,
        clock,
        clients=CLIENTS,
        json_flow=False,
    )
    with pytest.raises(JsonFlowOff):
        now.begin(Provider("google"), LoginMode.JSON)
    assert type(await fails(now, answer(state))) is JsonFlowOff
    assert google.asked == []
    login = now.begin(Provider("google"), LoginMode.REDIRECT)
    assert await now.finish(Provider("google"), answer(login.state), cookie=login.cookie)


async def test_a_begun_login_does_not_show_its_secrets(signin: SignIn) -> None:
    """State and cookie are not in a representation, and so not in a log line."""
    login = signin.begin(Provider("google"), LoginMode.REDIRECT)
    assert login.state not in repr(login)
    assert str(login.cookie) not in repr(login)
    assert login.state not in repr(answer(login.state))


async def test_neither_state_nor_cookie_is_stored(signin: SignIn, database: Database) -> None:
    """The database stores only the digest of a used state, so that its content cannot finish a login."""
    login = signin.begin(Provider("google"), LoginMode.REDIRECT)
    await signin.finish(Provider("google"), answer(login.state), cookie=login.cookie)
    kept = str(stored(database))
    assert digest(login.state) in kept
    assert login.state not in kept
    assert str(login.cookie) not in kept


async def test_a_login_outlives_a_change_of_secrets(node: Making, google: Vouching) -> None:
    """A login that began before a change of secrets finishes afterwards, while the previous secret is listed."""
    state = await begun(node(SECRET).signin)
    assert await node(OTHER, SECRET).signin.finish(Provider("google"), answer(state), cookie=None)
    (_, secrets, _) = google.asked[0]
    assert secrets == google.sent[0]


async def test_a_login_of_a_secret_that_is_gone_is_refused(node: Making, google: Vouching) -> None:
    """A login is refused when its secret is no longer listed. The person has to start again."""
    state = await begun(node(SECRET).signin)
    error = await fails(node(OTHER).signin, answer(state))
    assert type(error) is InvalidState
    assert error.note == "state unknown: not made here, or its secret is not listed"
    assert google.asked == []


async def test_a_provider_that_is_not_configured_begins_and_finishes_nothing(
    signin: SignIn, database: Database
) -> None:
    """A provider that is not configured has its own error, at the start and at the callback."""
    with pytest.raises(ProviderNotConfigured):
        signin.begin(Provider("facebook"), LoginMode.JSON)
    with pytest.raises(ProviderNotConfigured):
        await signin.finish(Provider("facebook"), answer(await begun(signin)), cookie=None)
    assert events(database) == []


@pytest.mark.parametrize("issuer", [None, "https://accounts.google.com"])
async def test_the_issuer_of_the_callback_may_be_absent_or_right(signin: SignIn, issuer: str | None) -> None:
    """RFC 9207, 2.4: the issuer may be missing. If there is one, it must be the provider's own."""
    assert await signin.finish(Provider("google"), answer(await begun(signin), issuer=issuer), cookie=None)


@pytest.mark.parametrize("issuer", ["", "https://accounts.google.com/", "https://www.facebook.com"])
async def test_a_callback_of_another_issuer_is_refused(signin: SignIn, google: Vouching, issuer: str) -> None:
    """RFC 9207: a code of another issuer is not sent to this provider."""
    assert type(await fails(signin, answer(await begun(signin), issuer=issuer))) is InvalidState
    assert google.asked == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("access_denied", AccessDenied),
        ("temporarily_unavailable", ProviderUnavailable),
        ("server_error", ProviderUnavailable),
        ("invalid_scope", ProviderFailed),
        ("unauthorized_client", ProviderFailed),
        ("whatever ada@lovelace.example wrote", ProviderFailed),
        (None, ProviderFailed),
    ],
)
async def test_an_error_of_the_provider_is_told_apart(
    signin: SignIn, database: Database, error: str | None, kind: type[ProblemError]
) -> None:
    """Cancelled, unavailable and misconfigured are different errors. The caller and the record get our own sentence,
    and nothing of the callback."""
    description = "For ada@lovelace.example, token ya29.A0ARrdaM-long-enough"
    found = await fails(signin, answer(await begun(signin), code=None, error=error, error_description=description))
    assert type(found) is kind
    assert found.detail == kind.sentence
    assert str(found.note).startswith(error or "no error code") or "ada" in str(error)
    (event,) = events(database)
    assert event.detail == f"{kind.code}: {kind.title}"


async def test_words_of_the_provider_decide_what_its_error_means(signin: SignIn, google: Vouching) -> None:
    """A provider says more exactly in `error_reason` or `error_code` what went wrong; these count before `error`. The
    log gets all of the words."""
    google.meanings = {"user_denied": AccessDenied, "1349126": ProviderUnavailable, "server_error": ProviderRefused}
    google.error_words = frozenset(google.meanings)
    for reason, code, error, kind, note in (
        ("user_denied", "1349126", "server_error", AccessDenied, "server_error, user_denied, 1349126: words"),
        (None, "1349126", "server_error", ProviderUnavailable, "server_error, 1349126: words"),
        (None, None, "server_error", ProviderRefused, "server_error: words"),
    ):
        given = answer(
            await begun(signin), error=error, error_description="words", error_reason=reason, error_code=code
        )
        found = await fails(signin, given)
        assert (type(found), found.note) == (kind, note)


@pytest.mark.parametrize("kind", [ProviderRefused, ProviderUnavailable, ProviderFailed, IdentityRejected])
async def test_a_failure_is_recorded_with_its_login(
    signin: SignIn, google: Vouching, database: Database, clock: Clock, kind: type[ProblemError]
) -> None:
    """A failed sign-in is recorded with time, login, request and reason. The reason is our own text, because a
    provider's answer may quote the client's input. No user and no session are named."""
    reason = "google: status 400, invalid_grant: Bad Request"
    google.says = kind(reason) if kind is IdentityRejected else kind(note=reason)
    token = request_id.set("request-1")
    state = await begun(signin)
    clock.advance(30)
    error = await fails(signin, answer(state))
    request_id.reset(token)
    assert type(error) is kind
    (event,) = events(database)
    assert event == AuditEvent(
        clock.now,
        "login_failed",
        login_id=id_of(state),
        request_id="request-1",
        detail=f"{kind.code}: {reason if kind is IdentityRejected else kind.title}",
    )
    assert database.read_now(users.page) == []


async def test_a_failure_without_a_reason_is_recorded_by_its_title(
    signin: SignIn, google: Vouching, database: Database
) -> None:
    """An error without a note is recorded by its title."""
    google.says = ProviderUnavailable()
    await fails(signin, answer(await begun(signin)))
    assert [event.detail for event in events(database)] == ["provider_unavailable: Provider unavailable"]


async def test_a_success_is_recorded_with_everything_it_made(signin: SignIn, database: Database, clock: Clock) -> None:
    """One event names login, user and session, and is committed together with them."""
    done = await signin.finish(Provider("google"), answer(await begun(signin)), cookie=None)
    assert events(database) == [
        AuditEvent(
            clock.now,
            "login_succeeded",
            login_id=database.read_now(lambda db: db.execute_sql('SELECT "id" FROM "login"').fetchone()[0]),
            user_id=done.user.id,
            session_id=done.session.id,
        )
    ]
    assert {done.user.id, done.session.id} <= set(stored(database)[0])


async def test_a_made_up_state_leaves_no_trace(signin: SignIn, database: Database) -> None:
    """A callback with a made-up state writes no audit event."""
    assert type(await fails(signin, answer("made up"))) is InvalidState
    assert events(database) == []


async def test_a_deactivated_user_is_refused_and_gets_no_session(
    node: Making, database: Database, clock: Clock
) -> None:
    """Deactivation ends existing tokens and refuses new sign-ins. Only the person who signs in learns the reason."""
    server = node(SECRET)
    done = await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)
    database.write_now(accounts.set_active, done.user, active=False, now=clock.now)
    with pytest.raises(InvalidToken):
        await server.sessions.authenticate(done.access.token)
    assert type(await fails(server.signin, answer(await begun(server.signin)))) is UserDeactivated
    assert len(database.read_now(sessions.of_user, done.user.id, active_at=clock.now)) == 0
    assert [event.event for event in events(database)] == ["login_succeeded", "user_deactivated", "login_failed"]
    assert events(database)[-1].user_id == done.user.id


async def test_activating_again_revives_no_session(node: Making, database: Database, clock: Clock) -> None:
    """Activating a user again does not restore ended sessions. The person has to sign in again."""
    server = node(SECRET)
    done = await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)
    for active in (False, True):
        database.write_now(accounts.set_active, done.user, active=active, now=clock.now)
    with pytest.raises(InvalidToken):
        await server.sessions.authenticate(done.access.token)
    clock.advance(0.001)
    again = await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)
    assert await server.sessions.authenticate(again.access.token) == SignedInUser(again.user, again.session.id)


async def test_deleting_a_user_ends_the_token_at_once(node: Making, database: Database, clock: Clock) -> None:
    """Deletion takes effect with the next request. The audit event of the deletion remains, without an email."""
    server = node(SECRET)
    done = await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)
    database.write_now(accounts.delete, done.user, now=clock.now)
    with pytest.raises(InvalidToken):
        await server.sessions.authenticate(done.access.token)
    assert database.read_now(audit.latest_of_user, done.user.id) == [
        AuditEvent(clock.now, "user_deleted", user_id=done.user.id)
    ]
    clock.advance(0.001)
    again = await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)
    assert again.user.id != done.user.id


async def test_a_token_ends_with_its_hour_and_a_session_with_its_month(node: Making, clock: Clock) -> None:
    """The expiry of a token is checked with every request, although its signature is cached."""
    server = node(SECRET)
    done = await server.signin.finish(Provider("google"), answer(await begun(server.signin)), cookie=None)
    clock.advance(3599)
    assert await server.sessions.authenticate(done.access.token)
    clock.advance(1)
    with pytest.raises(InvalidToken):
        await server.sessions.authenticate(done.access.token)
    clock.advance(31 * 24 * 3600 - 3600)
    late = server.sessions.access_token(done.session, clock.now)
    with pytest.raises(InvalidToken):
        await server.sessions.authenticate(late.token)


async def test_the_subject_is_stored_as_its_digest_alone(signin: SignIn, google: Vouching, database: Database) -> None:
    """The provider's id for a person is not in the database."""
    await signin.finish(Provider("google"), answer(await begun(signin)), cookie=None)
    rows = str(database.read_now(lambda db: db.execute_sql('SELECT * FROM "user"').fetchall()))
    assert ADA.subject not in rows
    assert str(ADA.email) in rows


async def test_a_new_email_is_seen_at_the_next_sign_in(signin: SignIn, google: Vouching) -> None:
    """A subject is always the same user, even if the provider now gives another email."""
    first = await signin.finish(Provider("google"), answer(await begun(signin)), cookie=None)
    google.says = Identity(Provider("google"), ADA.subject, "countess@lovelace.example", email_verified=False)
    second = await signin.finish(Provider("google"), answer(await begun(signin)), cookie=None)
    assert (second.user.id, second.user.email) == (first.user.id, "countess@lovelace.example")
    assert second.session.id != first.session.id


async def test_no_transaction_is_open_while_the_provider_is_asked(
    signin: SignIn, google: Vouching, database: Database, database_url: str, clock: Clock
) -> None:
    """No transaction is open during a request to the provider, so that other writes can continue."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def thinks(*_: object) -> Identity:
        asked.set()
        await go_on.wait()
        return ADA

    google.identify = thinks
    callback = asyncio.create_task(signin.finish(Provider("google"), answer(await begun(signin)), cookie=None))
    await asked.wait()
    other = database_at(database_url)
    other.write_now(audit.record, AuditEvent(clock.now, "from_elsewhere"))
    other.close()
    go_on.set()
    assert (await callback).user.email == ADA.email
    assert [event.event for event in events(database)] == ["from_elsewhere", "login_succeeded"]
