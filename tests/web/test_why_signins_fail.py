"""The log explains every failed sign-in: one line with the reason, and no secrets."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest

from nextarget.model import Millis, Provider
from nextarget.registry import PROVIDERS
from nextarget.services import accounts
from nextarget.services.sessions import end_all
from nextarget.storage.rows import users
from nextarget.web.app_keys import ONLINE
from tests.apps import App, refresh
from tests.running import Browser, Server, open_browser, query_of
from tests.web.conftest import Log

TIME = r"20[0-9-]{8}T[0-9:.]{12}Z"
BOTH = pytest.mark.parametrize("provider", PROVIDERS)


async def come_back(browser: Browser, provider: str = "google", *, person: str = "ada") -> tuple[str, str]:
    """A login with mode=redirect that was approved. Returns the URL of the callback and its `Cookie` header."""
    begun = await browser.get(f"/auth/{provider}/start?mode=redirect")
    cookie = begun.headers["Set-Cookie"].partition(";")[0]
    return (await browser.approve(begun.headers["Location"], person=person)).partition("#")[0], cookie


@BOTH
async def test_a_cookie_that_is_missing_is_told(log: Log, server: Server, provider: Provider) -> None:
    """The line has the login's id, which is also in the line of its start."""
    back, _ = await come_back(server, provider)
    assert (await server.get(back, headers={"Cookie": "other=1"})).status == 400
    line = log.only_failure
    assert line["event"] == "login_failed"
    assert line["level"] == "warning"
    assert (line["provider"], line["code"], line["reason"]) == (provider, "invalid_state", "cookie missing")
    (began,) = log.requests("/auth/{provider}/start")
    assert line["login_id"] == began["login_id"]


async def test_a_cookie_of_another_login_is_told(log: Log, server: Server) -> None:
    """A cookie of another login, a doubled cookie and a malformed cookie have different reasons."""
    back, cookie = await come_back(server)
    _, other = await come_back(server)
    name = cookie.partition("=")[0]
    for sent, reason in (
        (other, "cookie missing, though 1 of other logins came"),
        (f"{name}={other.partition('=')[2]}", "cookie of another login, or of a secret that is no longer listed"),
        (f"{cookie}; {cookie}", "cookie came twice"),
        (f"{name}=", "cookie malformed"),
    ):
        assert (await server.get(back, headers={"Cookie": sent})).status == 400
        assert log.events("login_failed")[-1]["reason"] == reason
    assert len(log.events("login_failed")) == 4
    assert log.events("problem") == []


async def test_a_state_that_is_unknown_or_of_another_provider_is_told(log: Log, server: Server) -> None:
    """An unknown state and a state of another provider have different reasons, because the remedies differ: a missing
    secret, or a wrong redirect URI."""
    back, _ = await come_back(server, "facebook")
    query = back.partition("?")[2]
    made_up = f"{'A' * 43}.1900000000000.{'A' * 43}"
    for path, reason in (
        (f"/auth/google/callback?{query}", "state of another provider: facebook"),
        (f"/auth/google/callback?state={made_up}&code=x", "state unknown: not made here, or its secret is not listed"),
        (f"/auth/google/callback?state={'A' * 43}&code=x", "state unknown: not made here, or its secret is not listed"),
    ):
        assert (await server.get(path)).status == 400
        line = log.events("login_failed")[-1]
        assert (line["provider"], line["code"], line["reason"]) == ("google", "invalid_state", reason)
    assert len(log.events("login_failed")) == 3
    assert log.events("problem") == []


async def test_a_state_that_expired_is_told_with_the_moment(log: Log, server: Server) -> None:
    """The line has the time of expiry, for a sign-in with and without an app."""
    async with open_browser(server.url) as browser:
        app = App(browser)
        backs = [await app.approve(), (await come_back(browser))[0]]
        server.app[ONLINE].sign_in._outcomes._clock = lambda: Millis(server.runtime.clock() + 700_000)
        for back, status in zip(backs, (302, 400), strict=True):
            assert (await browser.get(back)).status == status
    lines = log.events("login_failed")
    assert [line["code"] for line in lines] == ["login_expired"] * 2
    assert all(re.fullmatch(f"state expired at {TIME}", line["reason"]) for line in lines)
    assert lines[0]["client_id"] == "nextarget-app"
    assert log.events("problem") == []


async def test_a_state_that_was_used_is_told_with_the_moment(log: Log, server: Server) -> None:
    """The line has the time of the first use. Its login id is the one of the successful sign-in."""
    back = await server.approve((await server.begin())["auth_url"])
    await server.get(back)
    assert (await server.get(back)).status == 400
    line = log.only_failure
    assert (line["event"], line["code"]) == ("login_failed", "invalid_state")
    assert re.fullmatch(f"state used already, at {TIME}", line["reason"])
    assert line["login_id"] == log.events("login_succeeded")[0]["login_id"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "The parameter 'state' is missing. Add it."),
        ("state=a&state=b&code=x", "The parameter 'state' is given more than once. Send it once."),
        ("state=a", "The parameter 'code' is missing, and so is 'error'. The provider sends one of them."),
    ],
)
async def test_a_callback_that_is_malformed_is_told(log: Log, server: Server, query: str, reason: str) -> None:
    """A malformed callback, for example one that a proxy cut off, is logged."""
    assert (await server.get(f"/auth/google/callback?{query}")).status == 400
    line = log.only_failure
    assert (line["event"], line["code"], line["reason"]) == ("login_failed", "invalid_request", reason)


@BOTH
@pytest.mark.parametrize("fault", ["error_500", "code_used"])
async def test_a_failure_at_the_provider_is_one_line(
    log: Log, server: Server, browser: Browser, provider: Provider, fault: str
) -> None:
    """A failure at the provider has one log line, with and without an app."""
    assert (await server.sign_in(provider, fault=fault)).status >= 400
    one = log.only_failure
    assert (await browser.get(await App(browser).approve(fault=fault, provider=provider))).status == 302
    assert [line["event"] for line in log.failures] == ["login_failed"] * 2
    assert log.events("login_failed")[1]["code"] == one["code"]


REFUSED = {
    "https://evil.example/callback?code=secret-code&state=x#frag": "https://evil.example/callback",
    "https://ada:pass-word@evil.example:8443/cb": "https://evil.example:8443/cb",
    "http://127.0.0.1:5000/other?x": "http://127.0.0.1:5000/other",
    "nextarget:callback?code=1": "nextarget:callback",
    "nextarget://callback/": "nextarget://callback/",
    "mailto:ada@lovelace.example": "mailto:[...]",
    "https://evil.example/ada@lovelace.example/x": "https://evil.example/[...]/x",
    f"https://evil.example/{'t0ken' * 20}/x": "https://evil.example/[...]/x",
    "https://evil.example/\x1b[31m\r\n{}\u202e": "https://evil.example/ [31m {} ",
    "https://evil.example/" + "a/" * 400: "https://evil.example/" + "a/" * 89 + "a",
    "": "",
}


@pytest.mark.parametrize(("sent", "told"), REFUSED.items(), ids=range(len(REFUSED)))
async def test_a_redirect_that_is_refused_is_told_without_its_query(
    log: Log, server: Server, sent: str, told: str
) -> None:
    """The line has the refused redirect, for a comparison with APP_REDIRECT_URIS: without query, user and control
    characters, and with at most 200 characters."""
    answer = await server.get(App(server).request(redirect_uri=sent))
    assert answer.status == 400
    line = log.only_failure
    assert (line["event"], line["level"], line["code"]) == ("problem", "warning", "redirect_refused")
    assert line["client_id"] == "nextarget-app"
    assert line["redirect_uri"] == told
    assert line["reason"]
    assert "secret-code" not in log.text
    assert "pass-word" not in log.text
    assert "lovelace" not in log.text


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("another-app", "another-app"),
        ("com.example.app", "com.example.app"),
        ("ada@lovelace.example", "[...]"),
        ("two words", "[...]"),
        ("x" * 101, "[...]"),
        ("a\x1b[31m", "[...]"),
        (None, ""),
    ],
)
async def test_a_client_that_is_refused_is_told_if_it_looks_like_one(
    log: Log, server: Server, sent: str | None, told: str
) -> None:
    """The line has the client id if it has only letters, digits and a few signs. Otherwise it says only that there was
    one."""
    assert (await server.get(App(server).request(client_id=sent))).status == 400
    line = log.only_failure
    assert (line["code"], line["client_id"], line["redirect_uri"]) == ("redirect_refused", told, "nextarget://callback")


async def test_what_goes_back_to_an_app_is_told_too(log: Log, server: Server) -> None:
    """An error that is sent to an app is logged too, because its developer may ask the operator."""
    assert (await server.get(App(server).request(code_challenge=None))).status == 302
    line = log.only_failure
    assert (line["event"], line["code"]) == ("problem", "invalid_request")
    assert "code_challenge" in line["reason"]
    assert line["client_id"] == "nextarget-app"


async def the_user(server: Server, user_id: str) -> users.User:
    user = await server.runtime.database.read(users.get, user_id)
    assert user is not None
    return user


async def deactivate(server: Server, user_id: str) -> None:
    user = await the_user(server, user_id)
    await server.runtime.database.write(accounts.set_active, user, active=False, now=server.runtime.clock())


async def recorded(server: Server, user_id: str) -> list[tuple[str, str]]:
    """The failed sign-ins of a user in `show-user`: event and detail, oldest first."""
    query = "SELECT event, detail FROM audit_event WHERE user_id = '{}' AND event = 'login_failed' ORDER BY id"
    return await server.runtime.database.read(lambda db: db.execute_sql(query.format(user_id)).fetchall())


@BOTH
async def test_a_deactivated_person_is_named_in_the_log_and_on_record(
    log: Log, server: Server, browser: Browser, provider: Provider
) -> None:
    """The log and the audit event have the id of the user, so that `show-user` lists the attempt, with and without an
    app."""
    user_id = (await server.sign_in(provider)).json["user_id"]
    await deactivate(server, user_id)
    assert (await server.sign_in(provider)).status == 403
    line = log.only_failure
    assert (line["event"], line["code"], line["user_id"]) == ("login_failed", "user_deactivated", user_id)
    assert query_of(await App(browser).authorize(provider=provider))["error"] == "access_denied"
    assert [line["user_id"] for line in log.events("login_failed")] == [user_id] * 2
    assert log.events("problem") == []
    assert await recorded(server, user_id) == [("login_failed", "user_deactivated: Account deactivated")] * 2


async def test_who_is_deactivated_before_the_code_is_redeemed_is_named_too(
    log: Log, server: Server, browser: Browser
) -> None:
    """A user who is deactivated before the code is redeemed is named too."""
    app = App(browser)
    user_id = (await app.sign_in())["user_id"]
    code = await app.code()
    await deactivate(server, user_id)
    assert (await app.redeem(code)).status == 400
    line = log.only_failure
    assert (line["code"], line["reason"], line["user_id"]) == ("invalid_grant", "user deactivated", user_id)
    assert line["login_id"] == log.events("login_succeeded")[-1]["login_id"]
    assert await recorded(server, user_id) == [("login_failed", "user_deactivated: Account deactivated")]


async def test_a_code_that_is_refused_is_told_with_its_reason(log: Log, server: Server, browser: Browser) -> None:
    """An unknown, foreign, used, expired or ended code has its own reason, with login, user and session if they are
    known."""
    app = App(browser)

    async def refused(code: str, **changes: str) -> dict[str, Any]:
        before = len(log.failures)
        assert (await app.redeem(code, **changes)).status == 400
        (line,) = log.failures[before:]
        assert (line["event"], line["level"], line["code"]) == ("problem", "warning", "invalid_grant")
        return line

    assert (await refused("made-up"))["reason"] == "code unknown"
    code = await app.code()
    line = await refused(code, code_verifier="x" * 43)
    login_id = log.events("login_succeeded")[-1]["login_id"]
    assert line["reason"] == "the code_verifier is wrong"
    assert line["login_id"] == login_id
    tokens = (await app.redeem(code)).json
    line = await refused(code)
    assert line["reason"] == "code used already: the session that it made has ended"
    assert (line["login_id"], line["user_id"]) == (login_id, tokens["user_id"])
    assert line["session_id"] == log.events("code_redeemed")[0]["session_id"]

    late = await app.code()
    query = "UPDATE login SET code_expires_at = code_expires_at - 60000"
    await server.runtime.database.write(lambda db: db.execute_sql(query).rowcount)
    assert re.fullmatch(f"code expired at {TIME}", (await refused(late))["reason"])

    early = await app.code()
    user = await the_user(server, tokens["user_id"])
    await server.runtime.database.write(end_all, user, now=server.runtime.clock())
    assert (await refused(early))["reason"] == "the user's sessions were ended after the sign-in began"
    gone = await app.code()
    await server.runtime.database.write(accounts.delete, user, now=server.runtime.clock())
    assert (await refused(gone))["reason"] == "user deleted"


async def test_a_refresh_that_is_refused_is_told_with_its_reason(log: Log, server: Server) -> None:
    """A refused refresh has its reason, with session and user if they are known, so that an operator can look up why an
    app was signed out."""

    async def refused(token: str) -> dict[str, Any]:
        before = len(log.failures)
        assert (await refresh(server, token)).status == 400
        (line,) = log.failures[before:]
        assert line["code"] == "invalid_grant"
        return line

    assert (await refused("made up"))["reason"] == "refresh token malformed or not ours"

    tokens = (await server.sign_in()).json
    session_id = log.events("login_succeeded")[-1]["session_id"]
    await server.ask("POST", "/auth/revoke", data={"token": tokens["refresh_token"]})
    line = await refused(tokens["refresh_token"])
    assert re.fullmatch(f"session ended at {TIME}", line["reason"])
    assert (line["session_id"], line["user_id"]) == (session_id, tokens["user_id"])

    tokens = (await server.sign_in()).json
    query = "UPDATE session SET expires_at = 1769861400000 WHERE revoked_at IS NULL"
    await server.runtime.database.write(lambda db: db.execute_sql(query).rowcount)
    line = await refused(tokens["refresh_token"])
    assert line["reason"] == "session expired at 2026-01-31T12:10:00.000Z"
    assert line["user_id"] == tokens["user_id"]

    query = "DELETE FROM session"
    await server.runtime.database.write(lambda db: db.execute_sql(query).rowcount)
    line = await refused(tokens["refresh_token"])
    assert line["reason"] == "session unknown: purged after its end, or its user deleted"
    assert line["session_id"] == log.events("login_succeeded")[-1]["session_id"]


async def test_a_token_that_is_reused_is_one_line(log: Log, server: Server) -> None:
    """A reuse is one line at warning level, with session and user."""
    tokens = [(await server.sign_in()).json["refresh_token"]]
    query = "UPDATE session SET rotated_at = rotated_at - 40000, recovered_at = recovered_at - 40000"
    for _ in range(3):
        await server.runtime.database.write(lambda db: db.execute_sql(query).rowcount)
        tokens.append((await refresh(server, tokens[-1])).json["refresh_token"])
    await server.runtime.database.write(lambda db: db.execute_sql(query).rowcount)
    assert (await refresh(server, tokens[0])).status == 400
    line = log.only_failure
    succeeded = log.events("login_succeeded")[0]
    assert (line["event"], line["level"]) == ("refresh_reused", "warning")
    assert (line["user_id"], line["session_id"]) == (succeeded["user_id"], succeeded["session_id"])


async def test_what_is_asked_ahead_is_no_failure(log: Log, server: Server) -> None:
    """A prefetch is not logged as a failure. It has no rate limit, so a client could write any number of lines."""
    await server.get("/auth/google/callback?state=x&code=y", headers={"Sec-Purpose": "prefetch"})
    assert [line["status"] for line in log.requests("/auth/{provider}/callback")] == [403]
    assert log.events("login_failed") == log.events("problem") == []


async def test_an_app_that_asks_whether_anybody_is_signed_in_has_its_answer(log: Log, server: Server) -> None:
    """Browser apps send `prompt=none` whenever they are opened, so the line is at info level."""
    await server.get(App(server).request(prompt="none"))
    line = log.only_failure
    assert (line["event"], line["level"], line["code"]) == ("problem", "info", "login_required")


@pytest.mark.parametrize("provider", ["google", "facebook"])
async def test_no_reason_holds_what_a_stranger_wrote(log: Log, server: Server, provider: str) -> None:
    """No value of the query appears in the log."""
    word = "hush-2mq7-do-not-repeat"
    for query in ({"state": word, "code": word}, {"state": f"{word}é"}, {"state": word, "error": word, "iss": word}):
        await server.get(f"/auth/{provider}/callback?{urlencode(query)}")
    assert len(log.events("login_failed")) == 3
    assert word not in log.text
