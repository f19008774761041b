"""Attacks on the account page: forms of other sites, logins and cookies in the wrong place, visits that have ended."""

from pathlib import Path
from typing import Any

import pytest

from nextarget.model import LoginMode, Millis, Provider
from nextarget.registry import PROVIDERS
from nextarget.services import accounts
from nextarget.services.sessions import end_all
from nextarget.storage.engines.database import Connection
from nextarget.storage.rows import users
from nextarget.tokens import login, visits
from nextarget.web.app_keys import ONLINE
from tests.apps import App, assert_oauth_error, links_of, refresh
from tests.running import Answer, Browser, Server, open_browser, query_of, running
from tests.web.account_pages import PAGE, VISIT_COOKIE, Visitor, form_token_of, session_ids_of, shown, visit_cookie_of
from tests.web.conftest import Log
from tests.web.session_rows import everything
from tests.web.wire import exchange

SIGNED_OUT = "Continue with"
SECRET = "another secret that is quite long enough 0123456789"
FORMS = [("/account", {"action": "end_all"}), ("/account/delete", {})]


@pytest.fixture
async def visitor(server: Server, browser: Browser) -> Visitor:
    """Ada, who has an account with one session, and has signed in at the account page."""
    await server.sign_in()
    visitor = Visitor(browser)
    await visitor.sign_in()
    return visitor


async def stands(server: Server) -> bool:
    """Whether Ada still has her account and her session."""
    found: list[tuple[Any, ...]] = await server.runtime.database.read(
        lambda db: db.execute_sql('SELECT "revoked_at" FROM "session"').fetchall()
    )
    return (None,) in found


async def cookie_of(visitor: Visitor) -> str:
    """The cookie of another visit of the same person."""
    async with open_browser(visitor.browser.url) as other:
        return visit_cookie_of(await Visitor(other).sign_in())


async def page_with(server: Server, cookies: str) -> Answer:
    return await server.get("/account", headers=PAGE | {"Cookie": cookies})


@pytest.mark.parametrize(("path", "form"), FORMS)
@pytest.mark.parametrize("token", ["", "A" * 43, "another visit"])
async def test_a_form_needs_the_token_of_its_visit(
    server: Server, visitor: Visitor, path: str, form: dict[str, str], token: str
) -> None:
    """Without the token, or with that of another visit, nothing happens, even with the person's cookie."""
    if token == "another visit":
        await server.sign_in(person="grace")
        async with open_browser(server.url) as other:
            attacker = Visitor(other)
            await attacker.sign_in(person="grace")
            token = form_token_of(await attacker.get())
    answer = await visitor.send(form | {"token": token}, path)
    assert answer.status == (403 if token else 400)
    assert ("form_refused" if token else "invalid_request") in shown(answer)
    assert await stands(server)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "nonsense"},
    ],
    ids=str,
)
async def test_a_form_of_another_origin_is_refused_even_with_the_token(
    server: Server, visitor: Visitor, headers: dict[str, str], log: Log
) -> None:
    """What the browser says of the sender is a second look, and holds by itself. The log says which, and quotes
    nothing."""
    for path, form in FORMS:
        answer = await visitor.send(form, path, **headers)
        assert answer.status == 403
        assert "form_refused" in shown(answer)
    assert await stands(server)
    assert [line["code"] for line in log.failures] == ["form_refused"] * 2
    assert not log.holds("evil")


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}], ids=str)
async def test_a_form_of_our_own_page_is_accepted(server: Server, visitor: Visitor, headers: dict[str, str]) -> None:
    """A browser sends our own origin, or an old one nothing."""
    answer = await visitor.send({"action": "end_all"}, **headers, Origin=server.url)
    assert answer.status == 303
    assert not await stands(server)


@pytest.mark.parametrize(("path", "form"), FORMS)
async def test_a_form_without_the_cookie_does_nothing(
    server: Server, visitor: Visitor, path: str, form: dict[str, str]
) -> None:
    """With a form of another site the browser sends no cookie, because it is SameSite=Lax."""
    token = form_token_of(await visitor.get())
    answer = await server.ask("POST", path, data=form | {"token": token}, headers=PAGE)
    assert answer.status == 403
    assert "visit_ended" in shown(answer)
    assert 'href="/account"' in answer.text
    assert await stands(server)
    assert (await server.ask("POST", path, data=form | {"token": token})).code == "visit_ended"


async def test_nobody_may_frame_or_keep_the_page(server: Server, visitor: Visitor) -> None:
    """Every page of a visit forbids framing, in the words of new and old browsers, and is kept in no cache."""
    signed_out = [await server.get(path, headers=PAGE) for path in ("/account", "/account/delete")]
    signed_in = [await visitor.get(path) for path in ("/account", "/account/delete")]
    async with open_browser(server.url) as other:
        nobody = await Visitor(other).sign_in(person="bobby")
    for answer in (*signed_out, *signed_in, nobody):
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "script-src" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        told = "no-referrer" if answer is nobody else "same-origin"  # the address of the callback has the code
        assert answer.headers["Referrer-Policy"] == told
    answer = await visitor.send({"action": "end_all"})
    assert answer.headers["Cache-Control"] == "no-store"


async def test_the_page_does_not_tell_when_an_app_refreshes(server: Server, visitor: Visitor) -> None:
    """A follower who reads it, on a screen that was left open, would learn when to refresh."""
    tokens = (await server.sign_in()).json
    before = await visitor.get()
    assert (await refresh(server, tokens["refresh_token"])).status == 200
    assert (await visitor.get()).text == before.text


async def test_a_copied_cookie_ends_with_all_sessions_and_not_by_signing_out(server: Server) -> None:
    """A visit has no row: signing out deletes the cookie of that browser alone. Ending all sessions ends every copy."""
    await server.sign_in()
    async with open_browser(server.url) as browser:
        visitor = Visitor(browser)
        copied = f"{VISIT_COOKIE}={visit_cookie_of(await visitor.sign_in())}"
        await visitor.send({"action": "sign_out"})
        assert SIGNED_OUT in shown(await visitor.get())
        assert SIGNED_OUT not in shown(await page_with(server, copied))
        await visitor.sign_in()
        await visitor.send({"action": "end_all"})
        assert SIGNED_OUT in shown(await page_with(server, copied))


async def test_the_cookie_is_for_ten_minutes_and_no_script_reads_it(visitor: Visitor, tmp_path: Path) -> None:
    """Over https it has Secure and `__Host-`, which no other host of the site can set. Over http it has neither."""
    plain = {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"}
    async with open_browser(visitor.browser.url) as other:
        assert attributes_of(await Visitor(other).sign_in()) == (VISIT_COOKIE, plain)
    place = tmp_path / "https"
    place.mkdir()
    async with running(place, PUBLIC_URL="https://example.org") as server:
        await server.sign_in()
        begun = await server.get("/account", headers=PAGE)
        held = "; ".join(field.partition(";")[0] for field in begun.headers.getall("Set-Cookie"))
        [link] = [each for each in links_of(begun.text) if "/sandbox/google/" in each]
        answer = await server.get(await server.approve(link), headers=PAGE | {"Cookie": held})
        assert attributes_of(answer) == (f"__Host-{VISIT_COOKIE}", plain | {"Secure"})
        value = visit_cookie_of(answer)
        assert SIGNED_OUT not in (await page_with(server, f"__Host-{VISIT_COOKIE}={value}")).text
        assert SIGNED_OUT in (await page_with(server, f"{VISIT_COOKIE}={value}")).text


def attributes_of(answer: Answer) -> tuple[str, set[str]]:
    [field] = [each for each in answer.headers.getall("Set-Cookie") if VISIT_COOKIE in each]
    cookie, *attributes = field.split("; ")
    return cookie.partition("=")[0], set(attributes)


@pytest.mark.parametrize(
    "planted",
    ["\u2000{0}={1}", "\u00a0{0}={1}", "\t{0}={1}", "  {0}={1}", "{0} ={1}", '"{0}"={1}', '{0}="{1}"', "{0}= {1}",
     "{0}={1}\u2000", "a=1, {0}={1}", "={0}={1}", "{0}={1}; {0}={1}", "{0}=x; {0}={1}", "{0}={1}; {0}="],
)  # fmt: skip
async def test_the_cookie_counts_byte_for_byte_and_once(server: Server, visitor: Visitor, planted: str) -> None:
    """What another parser might read as our cookie is none, and so are two of them."""
    cookie = await cookie_of(visitor)
    fields = planted.format(VISIT_COOKIE, cookie).encode("utf-8")
    request = b"GET /account HTTP/1.1\r\nHost: localhost\r\nCookie: b=2;%b\r\n\r\n"
    refused, accepted = [
        await exchange(server, request % field) for field in (fields, f" {VISIT_COOKIE}={cookie}; b=2".encode())
    ]
    assert refused is not None
    assert accepted is not None
    assert (refused.status, accepted.status) == (200, 200)
    assert SIGNED_OUT.encode() in refused.body
    assert SIGNED_OUT.encode() not in accepted.body


async def test_no_changed_cookie_is_a_visit(server: Server, visitor: Visitor) -> None:
    """Neither another user, nor another time, nor another MAC."""
    cookie = await cookie_of(visitor)
    user_id, ended_at, expires_at, mac = cookie.split(".")
    other = (await server.sign_in(person="grace")).json["user_id"]
    for changed in (
        f"{other}.{ended_at}.{expires_at}.{mac}",
        f"{user_id}.1.{expires_at}.{mac}",
        f"{user_id}.{ended_at}.{int(expires_at) + 60_000}.{mac}",
        f"{user_id}.{ended_at}.{expires_at}.{'A' * 43}",
        f"{user_id}.{ended_at}.{expires_at}",
        f"{user_id}.{ended_at}.{expires_at}.{mac}.",
        cookie[:-1],
        cookie.upper(),
        "",
        "." * 200,
    ):
        assert SIGNED_OUT in (await page_with(server, f"{VISIT_COOKIE}={changed}")).text


async def deactivated(db: Connection, server: Server) -> None:
    [user] = users.page(db)
    accounts.set_active(db, user, active=False, now=server.runtime.clock())


async def deactivated_for_a_while(db: Connection, server: Server) -> None:
    await deactivated(db, server)
    [user] = users.page(db)
    accounts.set_active(db, user, active=True, now=server.runtime.clock())


async def deleted(db: Connection, server: Server) -> None:
    [user] = users.page(db)
    accounts.delete(db, user, now=server.runtime.clock())


async def sessions_ended(db: Connection, server: Server) -> None:
    [user] = users.page(db)
    end_all(db, user, now=server.runtime.clock())


@pytest.mark.parametrize("happening", [deactivated, deactivated_for_a_while, deleted, sessions_ended])
async def test_what_ends_the_sessions_ends_the_visit_at_once(server: Server, visitor: Visitor, happening: Any) -> None:
    """Deactivating, deleting and `revoke-sessions` hold from the next request on. A form that was open does nothing."""
    page = await visitor.get()

    def write(db: Connection) -> None:
        try:
            happening(db, server).send(None)
        except StopIteration:
            return

    await server.runtime.database.write(write)
    before = await everything(server)
    assert SIGNED_OUT in (await visitor.get()).text
    for path, form in FORMS:
        answer = await visitor.send(form | {"token": form_token_of(page)}, path)
        assert "visit_ended" in shown(answer)
    assert await everything(server) == before


async def test_a_visit_ends_after_ten_minutes(server: Server, visitor: Visitor) -> None:
    """A deletion needs a sign-in of the last ten minutes. To end all sessions does not make the visit longer."""
    service, now = server.app[ONLINE].account_page, server.runtime.clock()
    service._clock = lambda: Millis(now + 500_000)
    answer = await visitor.send({"action": "end_all"})
    cookie = visit_cookie_of(answer)
    assert int(cookie.split(".")[2]) <= now + 600_000
    assert SIGNED_OUT not in (await page_with(server, f"{VISIT_COOKIE}={cookie}")).text
    service._clock = lambda: Millis(now + 600_001)
    assert SIGNED_OUT in (await page_with(server, f"{VISIT_COOKIE}={cookie}")).text


async def test_a_visit_is_no_session(server: Server, visitor: Visitor) -> None:
    """It has no row, and is not counted: the person's sessions are those of apps alone."""
    assert len((await everything(server))["session"]) == 1
    assert len(session_ids_of(await visitor.get())) == 1


async def test_a_visit_gives_no_token(server: Server, visitor: Visitor) -> None:
    """Neither the cookie nor the form's token is an access token, a refresh token or a code."""
    cookie, token = await cookie_of(visitor), form_token_of(await visitor.get())
    for text in (cookie, token):
        assert (await server.me(text)).code == "invalid_token"
        assert_oauth_error(await refresh(server, text), "invalid_grant")
        assert_oauth_error(await App(server).redeem(text), "invalid_grant")
        assert (await server.ask("POST", "/auth/revoke", data={"token": text})).status == 200
    assert SIGNED_OUT not in (await visitor.get()).text
    assert await stands(server)


async def test_no_token_is_a_visit(server: Server, visitor: Visitor) -> None:
    """Neither a token of an app nor the cookie of a login opens the page."""
    app = App(visitor.browser)
    tokens = await app.sign_in()
    login_cookies = [
        field.partition(";")[0].partition("=")[2]
        for field in (await visitor.browser.get(app.request(provider="google"))).headers.getall("Set-Cookie")
    ]
    for text in (tokens["access_token"], tokens["refresh_token"], *login_cookies):
        assert SIGNED_OUT in (await page_with(server, f"{VISIT_COOKIE}={text}")).text


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_login_of_the_page_is_no_code(server: Server, browser: Browser, provider: Provider) -> None:
    """The state and the provider's code are no code of ours, before and after the callback, and no app gets one."""
    await server.sign_in(provider)
    visitor = Visitor(browser)
    callback = await visitor.approve(provider)
    sent = query_of(callback)
    for finished in (False, True):
        if finished:
            answer = await browser.get(callback)
            assert (answer.status, answer.headers["Location"]) == (303, "/account#")
            assert answer.text == ""
        for text in (sent["code"], sent["state"]):
            assert_oauth_error(await App(browser).redeem(text), "invalid_grant")
            assert_oauth_error(await refresh(server, text), "invalid_grant")
    rows = (await everything(server))["login"]
    assert len(rows) == 2
    assert len((await everything(server))["session"]) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_login_of_an_app_never_ends_on_the_page(server: Server, browser: Browser, provider: Provider) -> None:
    """An app's login gives a code to the app, and no visit, also for a person who visits the page at the time."""
    await server.sign_in(provider)
    app, visitor = App(browser), Visitor(browser)
    callback = await app.approve(provider=provider)
    await visitor.get()
    answer = await browser.get(callback)
    assert answer.headers["Location"].startswith("nextarget://callback?code=")
    assert not any(VISIT_COOKIE in field for field in answer.headers.getall("Set-Cookie", []))
    assert SIGNED_OUT in (await visitor.get()).text
    redirected = await browser.get(f"/auth/{provider}/start?mode=redirect")
    tokens = await browser.get(await browser.approve(redirected.headers["Location"]))
    assert tokens.json["access_token"]
    assert SIGNED_OUT in (await visitor.get()).text


@pytest.mark.parametrize("mode", [LoginMode.JSON, LoginMode.REDIRECT, LoginMode.APP])
async def test_the_cookie_of_one_login_does_not_finish_another(
    server: Server, browser: Browser, mode: LoginMode
) -> None:
    """What a cookie holds is sealed with its own state, whose MAC holds the mode."""
    key = server.runtime.keyring.current
    account = login.new_state(key, Provider("google"), LoginMode.ACCOUNT, now=server.runtime.clock())
    other = login.new_state(key, Provider("google"), mode, now=server.runtime.clock())
    opened = login.open_state(server.runtime.keyring, account, Provider("google"))
    assert opened is not None
    assert opened.login.mode is LoginMode.ACCOUNT
    with pytest.raises(ValueError, match="not sealed with this name"):
        login.unseal(opened, login.seal(key, other, None))
    for state, sealed in ((account, login.seal(key, other, None)), (other, login.seal(key, account, None))):
        name = f"nextarget-login-{login.digest(state)[:16]}"
        answer = await server.get(
            f"/auth/google/callback?state={state}&error=access_denied", headers={"Cookie": f"{name}={sealed}"}
        )
        assert answer.code == ("access_denied" if state == other and mode is LoginMode.JSON else "invalid_state")


async def test_nobody_is_signed_in_at_the_page_with_the_login_of_another_browser(
    server: Server, browser: Browser
) -> None:
    """Login CSRF: the attacker signs in, and sends the person to the callback. Their browser has no cookie for it."""
    await server.sign_in(person="grace")
    async with open_browser(server.url) as attackers:
        callback = await Visitor(attackers).approve(person="grace")
    person = Visitor(browser)
    await person.get()  # the person's own logins at the page do not help
    answer = await browser.get(callback, headers=PAGE)
    assert answer.status == 400
    assert "invalid_state" in shown(answer)
    assert "Set-Cookie" not in answer.headers
    assert SIGNED_OUT in (await person.get()).text


async def test_a_code_of_the_attackers_does_not_fit_the_login_of_the_person(server: Server, browser: Browser) -> None:
    """The person's own state with the attacker's code: Google binds its code to the login by nonce and PKCE."""
    await server.sign_in(person="grace")
    async with open_browser(server.url) as attackers:
        code = query_of(await Visitor(attackers).approve(person="grace"))["code"]
    state = query_of(await Visitor(browser).approve())["state"]
    answer = await browser.get(f"/auth/google/callback?state={state}&code={code}", headers=PAGE)
    assert "provider_refused" in shown(answer)
    assert 'href="/account"' in answer.text


async def test_a_callback_that_comes_again_leads_to_the_page(server: Server, browser: Browser) -> None:
    """A browser that asks twice ends on the page, and is signed in once."""
    await server.sign_in()
    visitor = Visitor(browser)
    callback = await visitor.approve()
    for _ in range(2):
        answer = await browser.get(callback, headers=PAGE)
        assert (answer.status, answer.headers["Location"]) == (303, "/account#")
    assert len((await everything(server))["login"]) == 2
    async with open_browser(server.url) as thief:
        assert "Set-Cookie" not in (await thief.get(callback)).headers


@pytest.mark.parametrize(("previous", "lasts"), [(True, True), (False, False)])
async def test_a_visit_outlives_a_change_of_secrets_while_the_old_one_is_listed(
    tmp_path: Path, previous: bool, lasts: bool
) -> None:
    """A new secret ends no visit while the old one still verifies."""
    async with running(tmp_path) as before:
        tokens = (await before.sign_in()).json
        [user] = await before.runtime.database.read(users.page)
        cookie = before.app[ONLINE].account_page.open(user)
        old = before.runtime.settings.jwt_secret_key.reveal()
    changed = {"JWT_SECRET_KEY": SECRET, "JWT_PREVIOUS_SECRET_KEYS": old if previous else ""}
    async with running(tmp_path, PUBLIC_URL=before.url, **changed) as after:
        page = await page_with(after, f"{VISIT_COOKIE}={cookie}")
        assert (SIGNED_OUT not in page.text) is lasts
        if lasts:
            headers = PAGE | {"Cookie": f"{VISIT_COOKIE}={cookie}"}
            form = {"token": form_token_of(page)}
            assert (await after.ask("POST", "/account/delete", data=form, headers=headers)).status == 303
            assert (await after.me(tokens["access_token"])).status == 401


def test_a_made_up_cookie_is_none(server: Server) -> None:
    """The MAC covers everything, and is of this use alone."""
    keyring = server.runtime.keyring
    body = f"{'a' * 36}.0.{server.runtime.clock()}"
    for use in ("login state", "account form", "refresh token"):
        mac = visits._mac(keyring.current, use, body)
        assert visits.read(keyring, f"{body}.{mac}") is None
    assert visits.read(keyring, f"{body}.{visits._mac(keyring.current, 'account visit', body)}") is not None
