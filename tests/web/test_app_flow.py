"""The flow of an app: authorize, callback, token, by the rules of RFC 6749, 7636, 8252 and 9207."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.services import accounts
from nextarget.services.sessions import end_all
from nextarget.storage.rows import users
from tests.apps import REDIRECT, App, assert_oauth_error, events, refresh, stands
from tests.running import Server, open_browser, query_of

BOTH = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture
async def app(server: Server) -> AsyncIterator[App]:
    async with open_browser(server.url) as browser:
        yield App(browser)


async def age_codes(server: Server, seconds: int) -> None:
    """Make all codes expire this many seconds earlier."""
    query = f"UPDATE login SET code_expires_at = code_expires_at - {seconds * 1000}"
    await server.runtime.database.write(lambda db: db.execute_sql(query).rowcount)


async def count(server: Server, table: str) -> int:
    query = f'SELECT count(*) FROM "{table}"'
    return await server.runtime.database.read(lambda db: db.execute_sql(query).fetchone()[0])


@BOTH
async def test_an_app_signs_a_person_in_and_keeps_them_in(server: Server, app: App, provider: Provider) -> None:
    """The whole flow of a public client: code with PKCE, tokens, profile, refresh."""
    location = await app.authorize(provider=provider)
    assert location.startswith(REDIRECT + "?")
    answer = query_of(location)
    assert answer.keys() == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == (app.state, server.url)
    tokens = (await app.redeem(answer["code"], device_name="Ada's phone")).json
    assert tokens["provider"] == provider
    assert (await server.me(tokens["access_token"])).json["email"] == tokens["email"]
    again = await refresh(server, tokens["refresh_token"])
    assert again.status == 200
    assert again.json["refresh_token"] != tokens["refresh_token"]
    assert (await server.me(again.json["access_token"])).status == 200


async def test_the_token_response_holds_the_tokens_and_whose_they_are(server: Server, app: App) -> None:
    """RFC 6749, 5.1: a token response must not be cached. It contains the tokens and facts of the user."""
    answer = await app.redeem(await app.code())
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    tokens = answer.json
    user_id = (await server.me(tokens["access_token"])).json["id"]
    assert isinstance(tokens.pop("access_token"), str)
    assert isinstance(tokens.pop("refresh_token"), str)
    assert tokens == {
        "token_type": "bearer",
        "expires_in": 3600,
        "email": "ada@lovelace.example",
        "email_verified": True,
        "provider": "google",
        "user_id": user_id,
        "scope": "email",
    }


async def test_without_state_none_comes_back(app: App) -> None:
    """RFC 6749, 4.1.2: state is returned if the app sent it. It is optional, because PKCE protects the flow."""
    assert query_of(await app.authorize(state=None)).keys() == {"code", "iss"}
    assert query_of(await app.authorize(state="")).keys() == {"code", "iss"}


async def test_state_comes_back_as_it_was_sent(app: App) -> None:
    """RFC 6749, appendix A.5: a state may have any printable ASCII characters, and is returned unchanged."""
    app.state = "".join(map(chr, range(0x20, 0x7F)))
    assert query_of(await app.authorize())["state"] == app.state


@BOTH
async def test_a_code_lives_sixty_seconds(server: Server, app: App, provider: Provider) -> None:
    """RFC 6749, 4.1.2: a code is valid for 60 seconds. An expired code is refused, and opens no session."""
    query = "SELECT l.code_expires_at - e.at FROM login l JOIN audit_event e ON e.login_id = l.id"
    code = await app.code(provider=provider)
    assert await server.runtime.database.read(lambda db: db.execute_sql(query).fetchall()) == [(60_000,)]
    await age_codes(server, 60)
    assert_oauth_error(await app.redeem(code), "invalid_grant")
    assert await count(server, "session") == 0
    young = await app.code(provider=provider)
    await age_codes(server, 30)
    assert (await app.redeem(young)).status == 200


@BOTH
async def test_a_code_used_twice_by_its_owner_ends_the_session(server: Server, app: App, provider: Provider) -> None:
    """RFC 6749, 4.1.2: the second use of a code is refused and ends the session of the first use. Other sessions stay
    active."""
    bystander = await app.sign_in()
    code = await app.code(provider=provider)
    tokens = (await app.redeem(code)).json
    again = (await refresh(server, tokens["refresh_token"])).json
    assert_oauth_error(await app.redeem(code), "invalid_grant")
    assert not await stands(server, tokens)
    assert not await stands(server, again)
    assert await stands(server, bystander)
    [reused] = await events(server, "code_reused")
    redeemed = await events(server, "code_redeemed")
    assert reused == redeemed[-1]
    assert reused[2] == tokens["user_id"]


async def test_a_code_used_twice_ends_the_session_after_its_time_too(server: Server, app: App) -> None:
    """A client that presents an old code with the right verifier is the app or has copied both. So the session ends."""
    code = await app.code()
    tokens = (await app.redeem(code)).json
    await age_codes(server, 3600)
    assert_oauth_error(await app.redeem(code), "invalid_grant")
    assert not await stands(server, tokens)


@BOTH
async def test_of_many_redemptions_at_the_same_moment_no_session_survives(
    server: Server, app: App, provider: Provider
) -> None:
    """One redemption gets tokens. Its session ends, because the code was used more than once."""
    code = await app.code(provider=provider)
    answers = await asyncio.gather(*(app.redeem(code) for _ in range(10)))
    [won] = [answer for answer in answers if answer.status == 200]
    for answer in answers:
        if answer is not won:
            assert_oauth_error(answer, "invalid_grant")
    assert not await stands(server, won.json)
    assert await count(server, "session") == 1
    assert len(await events(server, "code_redeemed")) == 1
    assert await events(server, "code_reused") == await events(server, "code_redeemed") * 9


@BOTH
@pytest.mark.parametrize("used", [False, True])
async def test_who_does_not_own_the_code_changes_nothing(
    server: Server, app: App, provider: Provider, used: bool, subtests: pytest.Subtests
) -> None:
    """A request with a wrong verifier, client or redirect neither uses the code up nor ends its session."""
    code = await app.code(provider=provider)
    before = await app.redeem(code) if used else None
    for changes, error in (
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1/callback"}, "invalid_grant"),
        ({"redirect_uri": REDIRECT + "/"}, "invalid_grant"),
        ({"client_id": "another-app"}, "invalid_client"),
        ({"client_id": ""}, "invalid_request"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"code_verifier": "too-short"}, "invalid_request"),
        ({"client_secret": "x"}, "invalid_client"),
    ):
        with subtests.test(changes=changes):
            assert_oauth_error(await app.redeem(code, **changes), error, 401 if error == "invalid_client" else 400)
    tokens = (before or await app.redeem(code)).json
    assert await stands(server, tokens)
    assert await events(server, "code_reused") == []


async def test_the_challenge_itself_is_no_verifier(app: App) -> None:
    """RFC 7636, 4.6: the challenge, which was visible in the browser, is not accepted as the verifier."""
    challenge = query_of(app.request())["code_challenge"]
    assert_oauth_error(await app.redeem(await app.code(), code_verifier=challenge), "invalid_grant")


async def test_the_longest_verifier_works_and_a_longer_one_does_not(app: App) -> None:
    """RFC 7636, 4.1: a verifier has 43 to 128 unreserved characters."""
    app.verifier = "aZ0-._~" * 18 + "xy"
    assert len(app.verifier) == 128
    code = await app.code()
    assert_oauth_error(await app.redeem(code, code_verifier=app.verifier + "z"), "invalid_request")
    assert (await app.redeem(code)).status == 200


async def test_a_made_up_code_is_refused(app: App) -> None:
    """A code that was never issued is refused, and so is the provider's own code."""
    theirs = query_of(await app.approve())["code"]
    for code in ("x", "x" * 43, theirs):
        assert_oauth_error(await app.redeem(code), "invalid_grant")


async def test_the_loopback_port_is_part_of_what_the_code_is_bound_to(server: Server) -> None:
    """RFC 6749, 4.1.3: the redirect of the token request must equal the one of the authorization request, port
    included."""
    async with open_browser(server.url) as browser:
        app = App(browser, "http://127.0.0.1:50123/callback")
        code = await app.code()
        assert_oauth_error(await app.redeem(code, redirect_uri="http://127.0.0.1:50124/callback"), "invalid_grant")
        assert (await app.redeem(code)).status == 200


@pytest.mark.parametrize("label", ["Ada's phone", "Téléphone de Zoë 📱", "x" * 100])
async def test_a_device_name_labels_the_session(server: Server, app: App, label: str) -> None:
    """The list of sessions shows the name of the device."""
    tokens = await app.sign_in(device_name=label)
    listed = await server.get("/users/me/sessions", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert [session["label"] for session in listed.json["sessions"]] == [label]


@pytest.mark.parametrize("label", ["x" * 101, "two\nlines", "a\x00b", "a\x85b"])
async def test_an_unfit_device_name_is_refused_before_the_code_is_used(app: App, label: str) -> None:
    """A name is one line of at most 100 characters. After a refusal the code can still be redeemed."""
    code = await app.code()
    assert_oauth_error(await app.redeem(code, device_name=label), "invalid_request")
    assert (await app.redeem(code)).status == 200


@BOTH
async def test_who_is_deactivated_between_authorize_and_token_gets_no_session(
    server: Server, app: App, provider: Provider
) -> None:
    """Deactivation also ends codes. A code stays invalid if the user is activated again within its minute."""
    code = await app.code(provider=provider)
    database, now = server.runtime.database, server.runtime.clock()
    [user] = await database.read(users.page)
    await database.write(accounts.set_active, user, active=False, now=now)
    assert_oauth_error(await app.redeem(code), "invalid_grant")
    assert await count(server, "session") == 0
    await database.write(accounts.set_active, user, active=True, now=now)
    assert_oauth_error(await app.redeem(code), "invalid_grant")
    assert (await app.redeem(await app.code(provider=provider))).status == 200


async def by_operator(server: Server, _access_token: str) -> None:
    database, now = server.runtime.database, server.runtime.clock()
    [user] = await database.read(users.page)
    await database.write(end_all, user, now=now)


async def by_ending_all_others(server: Server, access_token: str) -> None:
    headers = {"Authorization": f"Bearer {access_token}"}
    assert (await server.ask("DELETE", "/users/me/sessions", headers=headers)).status == 204


async def by_deleting_the_account(server: Server, access_token: str) -> None:
    headers = {"Authorization": f"Bearer {access_token}"}
    assert (await server.ask("DELETE", "/users/me", headers=headers)).status == 204


@BOTH
@pytest.mark.parametrize("end", [by_operator, by_ending_all_others, by_deleting_the_account])
async def test_a_code_that_is_not_redeemed_yet_ends_with_the_sessions(
    server: Server, app: App, provider: Provider, end: Callable[[Server, str], Awaitable[None]]
) -> None:
    """A code ends together with the user's sessions, so that a thief with a code is stopped too. A later sign-in
    works."""
    access_token = (await app.redeem(await app.code(provider=provider))).json["access_token"]
    code = await app.code(provider=provider)
    await end(server, access_token)
    sessions = await count(server, "session")
    assert_oauth_error(await app.redeem(code), "invalid_grant")
    assert await count(server, "session") == sessions
    assert (await app.redeem(await app.code(provider=provider))).status == 200


@BOTH
async def test_a_deactivated_person_comes_back_to_the_app_without_a_code(
    server: Server, app: App, provider: Provider
) -> None:
    """RFC 6749, 4.1.2.1: the app gets access_denied, with state and iss."""
    await app.sign_in()
    await app.code(provider=provider)
    database = server.runtime.database
    for user in await database.read(users.page):
        await database.write(accounts.set_active, user, active=False, now=server.runtime.clock())
    answer = query_of(await app.authorize(provider=provider))
    assert answer.keys() == {"error", "error_description", "state", "iss"}
    assert (answer["error"], answer["state"]) == ("access_denied", app.state)


async def test_a_deleted_users_code_is_worth_nothing(server: Server, app: App) -> None:
    """Deletion takes effect with the next request."""
    code = await app.code()
    database = server.runtime.database
    [user] = await database.read(users.page)
    await database.write(accounts.delete, user, now=server.runtime.clock())
    assert_oauth_error(await app.redeem(code), "invalid_grant")
    assert await count(server, "user") == 0
