"""What a login is bound to: its state, its provider, its ten minutes and, with `mode=redirect`, its browser."""

import asyncio
import re
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from nextarget.errors import InvalidState, LoginExpired
from nextarget.model import Millis, Provider
from nextarget.registry import PROVIDERS
from nextarget.sandbox.workspace import sandbox_values
from nextarget.tokens.encoding import digest
from nextarget.web.app_keys import ONLINE
from tests.apps import App
from tests.running import Answer, Browser, Server, free_listener, open_browser, query_of, running
from tests.web.wire import exchange

SECRET = "another secret that is quite long enough 0123456789"


async def approved(browser: Browser, provider: str = "google") -> str:
    """The URL of the callback of an approved login."""
    return await browser.approve((await browser.begin(provider))["auth_url"])


async def begin_redirect(browser: Browser, provider: str = "google") -> tuple[Answer, str]:
    """Start a login with mode=redirect. Returns the 302 and the URL of the callback after the approval."""
    answer = await browser.get(f"/auth/{provider}/start?mode=redirect")
    assert answer.status == 302
    return answer, await browser.approve(answer.headers["Location"])


def cookie_of(answer: Answer) -> tuple[str, str]:
    """The value of `Cookie` that a browser would return for the one cookie that was set, and the cookie's name."""
    ((name, morsel),) = SimpleCookie(answer.headers["Set-Cookie"]).items()
    return f"{name}={morsel.value}", name


def assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.code) == (InvalidState.status, InvalidState.code)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_state_is_good_once(server: Server, provider: Provider) -> None:
    """A repeated callback is refused, and so is the same state with another code."""
    back = await approved(server, provider)
    assert (await server.get(back)).status == 200
    assert_refused(await server.get(back))
    other = query_of(await approved(server, provider))["code"]
    again = urlencode({"state": query_of(back)["state"], "code": other})
    assert_refused(await server.get(f"/auth/{provider}/callback?{again}"))


async def test_of_many_callbacks_at_the_same_moment_one_signs_in(server: Server) -> None:
    """One statement uses the login up, so that a doubled request makes one session."""
    back = await approved(server)
    answers = await asyncio.gather(*(server.get(back) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 9


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_made_up_state_is_refused(server: Server, provider: Provider) -> None:
    """A state that we did not issue is refused, whatever parameters come with it."""
    state = f"{'A' * 43}.{server.runtime.clock() + 60_000}.{'A' * 43}"
    for extra in ("code=x", "error=access_denied", "code=x&iss=https://elsewhere.example"):
        assert_refused(await server.get(f"/auth/{provider}/callback?state={state}&{extra}"))


@pytest.mark.parametrize(("begun", "finished"), [("google", "facebook"), ("facebook", "google")])
async def test_a_state_is_refused_at_the_other_providers_callback(server: Server, begun: str, finished: str) -> None:
    """Providers cannot be mixed up, and the attempt does not use the login up."""
    back = await approved(server, begun)
    assert_refused(await server.get(f"/auth/{finished}/callback?{urlsplit(back).query}"))
    assert (await server.get(back)).status == 200


async def test_a_code_of_another_login_is_refused(server: Server) -> None:
    """PKCE and the nonce bind Google's code to its own login (code injection)."""
    mine, stolen = await approved(server), query_of(await approved(server))["code"]
    injected = urlencode({"state": query_of(mine)["state"], "code": stolen})
    answer = await server.get(f"/auth/google/callback?{injected}")
    assert (answer.status, answer.code) == (400, "provider_refused")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_login_older_than_ten_minutes_is_over(server: Server, provider: Provider) -> None:
    """A login is valid for 600 seconds from its start. Afterwards the person gets an error that says so."""
    back = await approved(server, provider)
    expires_at = int(query_of(back)["state"].split(".")[1])
    assert 590_000 < expires_at - server.runtime.clock() <= 600_000
    server.app[ONLINE].sign_in._outcomes._clock = lambda: Millis(expires_at)
    answer = await server.get(back)
    assert (answer.status, answer.code) == (LoginExpired.status, LoginExpired.code)


async def test_a_login_that_an_earlier_version_began_ends_in_a_page_to_begin_again(server: Server) -> None:
    """The state of an earlier version has another form. The person is asked to start again, and there is no internal
    error."""
    page = {"Accept": "text/html"}
    answer = await server.get(f"/auth/google/callback?state={'A' * 43}&code=x", headers=page)
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (400, "text/html")
    assert "Start the sign-in again" in answer.text
    assert_refused(await server.get(f"/auth/google/callback?state={'A' * 43}&code=x"))


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_login_survives_a_restart(tmp_path: Path, provider: Provider) -> None:
    """A login can be finished after a restart, because nothing of it is kept in memory."""
    listener = free_listener()
    port = listener.getsockname()[1]
    async with running(tmp_path, listener=listener) as before:
        begun = await before.begin(provider)
    async with running(tmp_path, listener=free_listener(port)) as after:
        assert (await after.get(await after.approve(begun["auth_url"]))).status == 200


@pytest.mark.parametrize(("previous", "status"), [(True, 200), (False, 400)])
async def test_a_login_survives_a_change_of_secrets_while_the_old_one_is_listed(
    tmp_path: Path, previous: bool, status: int
) -> None:
    """Nonce and verifier derive from the secret. The login can be finished while this secret is listed."""
    listener = free_listener()
    port = listener.getsockname()[1]
    async with running(tmp_path, listener=listener) as before:
        begun = await before.begin()
        old = before.runtime.settings.jwt_secret_key.reveal()
    changed = {"JWT_SECRET_KEY": SECRET, "JWT_PREVIOUS_SECRET_KEYS": old if previous else ""}
    async with running(tmp_path, listener=free_listener(port), **changed) as after:
        answer = await after.get(await after.approve(begun["auth_url"]))
        assert answer.status == status
        assert status == 200 or answer.code == InvalidState.code


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_any_node_finishes_what_another_began(tmp_path: Path, provider: Provider) -> None:
    """Two servers share a database: one begins a login, the other finishes it, and both accept the token."""
    async with running(tmp_path) as one:
        same_settings = sandbox_values(tmp_path, "127.0.0.1", urlsplit(one.url).port or 0)
        del same_settings["DATABASE_URL"]  # the database of the directory, of either kind
        async with running(tmp_path, **same_settings) as two:
            query = urlsplit(await approved(one, provider)).query
            answer = await two.get(f"/auth/{provider}/callback?{query}")
            assert answer.status == 200
            assert_refused(await one.get(f"/auth/{provider}/callback?{query}"))
            for node in (one, two):
                assert (await node.me(answer.json["access_token"])).json["id"] == answer.json["user_id"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_redirect_carries_a_cookie_for_this_login_alone(server: Server, provider: Provider) -> None:
    """With http, the cookie has HttpOnly, SameSite=Lax, Path=/ and an hour, but neither Secure nor a prefix. The answer
    must not be cached."""
    answer = await server.get(f"/auth/{provider}/start?mode=redirect")
    assert answer.status == 302
    assert answer.text == ""
    assert answer.headers["Cache-Control"] == "no-store"
    state = query_of(answer.headers["Location"])["state"]
    cookie, _, attributes = answer.headers["Set-Cookie"].partition("; ")
    name, value = cookie.split("=")
    assert name == f"nextarget-login-{digest(state)[:16]}"
    assert re.fullmatch(r"[A-Za-z0-9_-]+", value)
    assert value not in answer.headers["Location"]
    assert set(attributes.split("; ")) == {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=3600"}


async def test_over_https_the_cookie_is_secure_and_bound_to_the_host(tmp_path: Path) -> None:
    """With https, the cookie has Secure and the prefix __Host-, and the callback accepts only this cookie."""
    async with running(tmp_path, PUBLIC_URL="https://example.org") as server:
        answer, back = await begin_redirect(server)
        cookie, name = cookie_of(answer)
        attributes = answer.headers["Set-Cookie"].partition("; ")[2]
        assert set(attributes.split("; ")) == {"HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=3600"}
        assert name.startswith("__Host-nextarget-login-")
        assert_refused(await server.get(back, headers={"Cookie": cookie.removeprefix("__Host-")}))
        assert (await server.get(back, headers={"Cookie": cookie})).status == 200


@pytest.mark.parametrize(
    "planted",
    [
        "\u2000{name}={value}",
        "\u00a0{name}={value}",
        "\u3000{name}={value}",
        "\x85{name}={value}",
        "\x1f{name}={value}",
        "\t{name}={value}",
        "  {name}={value}",
        "{name} ={value}",
        "{name}\u2000={value}",
        '"{name}"={value}',
        "{upper}={value}",
        "$Version=1, {name}={value}",
        "a=1, {name}={value}",
        "={name}={value}",
        '{name}="{value}"',
        "{name}= {value}",
        "{name}={value}\u2000",
    ],
)
async def test_a_cookie_counts_under_its_exact_name_alone(tmp_path: Path, planted: str) -> None:
    """RFC 6265bis, 4.1.3.2: a sibling subdomain can set any name without the prefix __Host-. A name that only another
    parser would trim or unquote to ours is not accepted."""
    async with running(tmp_path, PUBLIC_URL="https://example.org") as server:
        answer, back = await begin_redirect(server)
        cookie, name = cookie_of(answer)
        value = cookie.removeprefix(f"{name}=")
        sent = planted.format(name=name, value=value, upper=name.upper()).encode()
        target = back.removeprefix(server.url).encode()
        head = b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nCookie: "
        raw = await exchange(server, head + b"a=b; " + sent + b"\r\n\r\n")
        assert raw is not None
        assert raw.status == 400
        right = await exchange(server, head + f"a=b; {cookie}; c=d".encode() + b"\r\n\r\n")
        assert right is not None
        assert right.status == 200


@pytest.mark.parametrize("again", ["{name}={value}", "{name}=x", "{name}=", "{name}"])
@pytest.mark.parametrize("joint", ["; ", "\r\nCookie: "])
async def test_a_cookie_that_comes_twice_is_none(server: Server, again: str, joint: str) -> None:
    """With http, other sites of this host may set a cookie with the same name. If there are two, the callback is
    refused."""
    answer, back = await begin_redirect(server)
    cookie, name = cookie_of(answer)
    twice = again.format(name=name, value=cookie.removeprefix(f"{name}="))
    for first, second in ((cookie, twice), (twice, cookie)):
        target = back.removeprefix(server.url)
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nCookie: {first}{joint}{second}\r\n\r\n"
        raw = await exchange(server, head.encode())
        assert raw is not None
        assert (raw.status, raw.code) == (400, "invalid_state")
    assert (await server.get(back, headers={"Cookie": cookie})).status == 200


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_login_by_redirect_needs_the_browser_that_began_it(server: Server, provider: Provider) -> None:
    """Without the cookie, or with a wrong one, the callback is refused, and the login is not used up."""
    answer, back = await begin_redirect(server, provider)
    cookie, name = cookie_of(answer)
    other, _ = await begin_redirect(server, provider)
    other_cookie, _ = cookie_of(other)
    for wrong in ({}, {"Cookie": other_cookie}, {"Cookie": f"{name}={'A' * 43}"}, {"Cookie": f"{name}="}):
        assert_refused(await server.get(back, headers=wrong))
    assert_refused(await server.get(back, headers={"Cookie": f"{name}={other_cookie.split('=')[1]}"}))

    done = await server.get(back, headers={"Cookie": f"unrelated=1; {cookie}; {other_cookie}"})
    assert done.status == 200
    assert "Set-Cookie" not in done.headers


async def test_a_cookie_of_odd_bytes_is_refused_like_any_wrong_one(server: Server) -> None:
    """A cookie with bytes that we never send is refused."""
    answer, back = await begin_redirect(server)
    _, name = cookie_of(answer)
    target = back.removeprefix(server.url)
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nCookie: {name}=".encode()
    raw = await exchange(server, head + b"\xff\xfe\xc3\x28\r\n\r\n")
    assert raw is not None
    assert (raw.status, raw.code) == (400, "invalid_state")


async def test_a_victims_browser_does_not_finish_an_attackers_login(server: Server) -> None:
    """Login CSRF: an attacker begins and approves a login, and the victim's browser opens the callback."""
    async with open_browser(server.url) as attacker, open_browser(server.url) as victim:
        _, back = await begin_redirect(attacker)
        await begin_redirect(victim)  # the victim has begun a login too
        assert_refused(await victim.get(back))
        assert (await attacker.get(back)).status == 200


async def test_two_tabs_at_once_both_finish(server: Server) -> None:
    """Every login has its own cookie, so that two tabs do not disturb one another."""
    async with open_browser(server.url) as browser:
        backs = [(await begin_redirect(browser, provider))[1] for provider in ("google", "facebook", "google")]
        assert [(await browser.get(back)).status for back in reversed(backs)] == [200] * 3


@pytest.mark.parametrize("public_url", ["", "https://example.org"])
@pytest.mark.parametrize("state", ["", "x" * 2000], ids=["small", "large"])
async def test_many_begun_logins_never_lock_a_browser_out(tmp_path: Path, public_url: str, state: str) -> None:
    """The oldest cookies are deleted. Names and values stay below 6 KiB in all, and the newest login works."""
    overrides = {"PUBLIC_URL": public_url} if public_url else {}
    async with running(tmp_path, **overrides) as server:
        app = App(server)
        app.state = state or "s"
        held: dict[str, str] = {}
        order: list[str] = []
        for _ in range(200 if not state else 12):
            headers = {"Cookie": "; ".join(f"{name}={held[name]}" for name in order)}
            answer = await server.get(app.request(), headers=headers if held else None)
            assert answer.status == 302
            for field in answer.headers.getall("Set-Cookie"):
                ((name, morsel),) = SimpleCookie(field).items()
                if morsel["max-age"] == "0":
                    assert name == order.pop(0), "the oldest cookie must be deleted first"
                    del held[name]
                else:
                    held[name] = morsel.value
                    order.append(name)
            assert sum(len(name) + len(value) for name, value in held.items()) <= 6 * 1024
        assert len(held) > 1
        assert sum(len(name) + len(value) for name, value in held.items()) > 3 * 1024
        back = await server.approve(answer.headers["Location"])
        cookies = "; ".join(f"{name}={held[name]}" for name in order)
        assert (await server.get(back, headers={"Cookie": cookies})).status == 302


async def test_cookies_that_only_resemble_ours_are_left_alone(server: Server) -> None:
    """Cookies with impossible names, set by another app on this host, cannot prevent a sign-in."""
    cookies = "; ".join(f"nextarget-login-{odd}{number}=x" for number in range(8) for odd in "(/[a")
    answer = await server.get("/auth/google/start?mode=redirect", headers={"Cookie": cookies})
    assert answer.status == 302
    assert len(answer.headers.getall("Set-Cookie")) == 1


async def test_a_login_without_a_redirect_needs_no_cookie_and_sets_none(server: Server) -> None:
    """The JSON flow is for tools, which compare the state themselves. Any browser may open the URL, and no cookie is
    needed."""
    answer = await server.get("/auth/google/start?mode=json")
    assert "Set-Cookie" not in answer.headers
    async with open_browser(server.url) as browser:
        done = await browser.get(await browser.approve(answer.json["auth_url"]))
        assert done.status == 200
        assert "Set-Cookie" not in done.headers


async def test_an_issuer_that_is_not_the_providers_is_refused(server: Server) -> None:
    """RFC 9207, 2.4: an issuer in the callback must be the provider's own."""
    state = (await server.begin("facebook"))["state"]
    query = urlencode({"state": state, "code": "x", "iss": f"{server.url}/sandbox/google"})
    assert_refused(await server.get(f"/auth/facebook/callback?{query}"))


async def test_a_callback_that_failed_may_succeed_after_all(server: Server) -> None:
    """An attacker who sees a state cannot block the login: only a success uses it up."""
    back = await approved(server)
    state = query_of(back)["state"]
    assert (await server.get(f"/auth/google/callback?state={state}&error=access_denied")).status == 403
    assert (await server.get(f"/auth/google/callback?state={state}&code=made-up")).status == 400
    assert (await server.get(back)).status == 200


async def test_strangers_write_nothing_but_a_line_on_record(server: Server) -> None:
    """Starting logins and nonces writes no rows. A failed callback writes one event, without any text of the caller."""

    async def rows() -> dict[str, int]:
        tables = ("user", "session", "login", "nonce", "audit_event")
        return await server.runtime.database.read(
            lambda db: {name: db.execute_sql(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
        )

    before = await rows()
    begun = {"/auth/google/start": 200, "/auth/facebook/start?mode=redirect": 302, App(server).request(): 302}
    for path, status in begun.items():
        for _ in range(50):
            assert (await server.get(path)).status == status
    for _ in range(50):
        assert (await server.ask("POST", "/auth/nonce")).status == 200
    assert await rows() == before
    state = (await server.begin())["state"]
    words = urlencode({"state": state, "error": "words_of_a_stranger", "error_description": "words of a stranger"})
    for _ in range(3):
        assert (await server.get(f"/auth/google/callback?{words}")).status == 502
    made_up = f"{'A' * 43}.1900000000000.{'A' * 43}"
    assert_refused(await server.get(f"/auth/google/callback?state={made_up}&error=x"))
    assert await rows() == before | {"audit_event": before["audit_event"] + 3}
    kept = await server.runtime.database.read(lambda db: db.execute_sql('SELECT * FROM "audit_event"').fetchall())
    assert "stranger" not in str(kept)
