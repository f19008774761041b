"""Two apps of one server: both sign people in, and the codes and tokens of one are not accepted from the other."""

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from nextarget.model import Client, ClientLinks
from nextarget.registry import PROVIDERS, display_name
from nextarget.web import pages
from nextarget.web.pages import texts
from tests.apps import App, assert_oauth_error, events, links_of, refresh, stands
from tests.logos import SVG
from tests.running import Browser, Server, free_listener, free_port, open_browser, query_of, running
from tests.web.test_profile import claims_of

HTML = {"Accept": "text/html"}
SHOP = """
[[app]]
client_id = "shop"
redirect_uris = ["https://shop.example/callback", "http://127.0.0.1/shop"]
name = "The <b>Shop</b>"
logo = "shop.svg"
privacy_url = "https://shop.example/privacy"
terms_url = "https://shop.example/terms"

[[app]]
client_id = "news"
redirect_uris = ["news:/callback"]
logo = "https://cdn.example/a;b,c.png?v=2"
"""


def write_apps(folder: Path, text: str = SHOP) -> str:
    """Writes a file of apps and its picture. Returns the file's path."""
    (folder / "shop.svg").write_bytes(SVG)
    (folder / "apps.toml").write_text(text, encoding="utf-8")
    return str(folder / "apps.toml")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, APPS_FILE=write_apps(tmp_path), APP_NAME="NexTarget") as server:
        yield server


@pytest.fixture
async def browser(server: Server) -> AsyncIterator[Browser]:
    """The browser of a device, with its cookies, which all apps on the device use."""
    async with open_browser(server.url) as browser:
        yield browser


@pytest.fixture
def first(browser: Browser) -> App:
    return App(browser)


@pytest.fixture
def shop(browser: Browser) -> App:
    return App(browser, "https://shop.example/callback", "shop")


async def revoke(server: Server, token: str, **more: str) -> int:
    return (await server.ask("POST", "/auth/revoke", data={"token": token} | more)).status


async def test_a_second_app_signs_in_beside_the_first(server: Server, first: App, shop: App) -> None:
    """Both apps work from the authorization request to the sign-out. Tokens name their app, and a sign-out in one app
    leaves the other signed in."""
    tokens = {app: await app.sign_in() for app in (first, shop)}
    for app, pair in tokens.items():
        assert claims_of(pair["access_token"])["client_id"] == app.client_id
        refreshed = await refresh(server, pair["refresh_token"], client_id=app.client_id)
        assert refreshed.status == 200
        assert claims_of(refreshed.json["access_token"])["client_id"] == app.client_id
        assert (await server.me(refreshed.json["access_token"])).status == 200
        tokens[app] = refreshed.json
    assert await revoke(server, tokens[shop]["refresh_token"], client_id="shop") == 200
    assert not await stands(server, tokens[shop])
    assert await stands(server, tokens[first])


async def test_a_redirect_of_another_app_is_refused_on_the_spot(server: Server, browser: Browser) -> None:
    """A redirect belongs to one app, so that its code cannot reach another one. The error page names no app."""
    for redirect_uri, client_id in (
        ("https://shop.example/callback", "nextarget-app"),
        ("nextarget://callback", "shop"),
    ):
        answer = await server.get(App(browser, redirect_uri, client_id).request(), headers=HTML)
        assert answer.status == 400
        assert "redirect_refused" in answer.text
        assert "Shop" not in answer.text
        assert "NexTarget" not in answer.text


async def test_each_app_of_the_file_follows_the_rules_of_redirects(server: Server, browser: Browser) -> None:
    """RFC 8252, 7.3 and 8.6: a loopback redirect may have any port, and a redirect without https needs the person's
    consent."""
    local = App(browser, "http://127.0.0.1:4321/shop", "shop")
    assert query_of(await local.begin())["prompt"] == "select_account"
    assert (await local.redeem(await local.code())).status == 200
    claimed = App(browser, "https://shop.example/callback", "shop")
    assert "prompt" not in query_of(await claimed.begin())
    own_scheme = await server.get(App(browser, "news:/callback", "news").request(provider="facebook"))
    assert own_scheme.status == 200


async def test_a_code_is_good_for_its_app_alone(server: Server, first: App, shop: App) -> None:
    """RFC 6749, 4.1.3: another app cannot redeem a code. After the refusal its own app still can."""
    code = await shop.code()
    assert_oauth_error(await shop.redeem(code, client_id="nextarget-app"), "invalid_grant")
    first.verifier = shop.verifier
    assert_oauth_error(await first.redeem(code), "invalid_grant")
    assert (await shop.redeem(code)).status == 200


async def test_a_refresh_token_is_good_for_its_app_alone(server: Server, shop: App) -> None:
    """RFC 6749, 6 and 10.4: another app cannot use a refresh token, and the attempt does not change the session.
    Without a client_id the session's own app is assumed."""
    tokens = await shop.sign_in()
    for client_id in ("nextarget-app", "news"):
        assert_oauth_error(await refresh(server, tokens["refresh_token"], client_id=client_id), "invalid_grant")
    assert await events(server, "refresh_reused") == []
    refreshed = await refresh(server, tokens["refresh_token"])
    assert claims_of(refreshed.json["access_token"])["client_id"] == "shop"
    assert_oauth_error(await refresh(server, tokens["refresh_token"], client_id="nextarget-app"), "invalid_grant")
    assert await stands(server, refreshed.json)


async def test_refreshes_of_several_apps_that_come_together_are_judged_one_by_one(
    server: Server, browser: Browser, shop: App
) -> None:
    """In a batch of refreshes, one with the token of another app is refused and does not affect the others."""
    tokens = [await App(browser, shop.redirect_uri, "shop").sign_in() for _ in range(3)]
    clients = ("shop", "nextarget-app", "shop")
    answers = await asyncio.gather(
        *(
            refresh(server, pair["refresh_token"], client_id=client_id)
            for pair, client_id in zip(tokens, clients, strict=True)
        )
    )
    assert [answer.status for answer in answers] == [200, 400, 200]
    assert await stands(server, tokens[1])


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_no_app_signs_out_of_another(server: Server, shop: App, kind: str) -> None:
    """RFC 7009, 2.1: a token of another client is refused. Without a client_id, any holder of the token can revoke
    it."""
    tokens = await shop.sign_in()
    answer = await server.ask("POST", "/auth/revoke", data={"token": tokens[kind], "client_id": "nextarget-app"})
    assert_oauth_error(answer, "invalid_grant")
    assert await stands(server, tokens)
    assert await revoke(server, tokens[kind]) == 200
    assert not await stands(server, tokens)


@pytest.mark.parametrize("mode", ["json", "redirect"])
async def test_the_flow_without_an_app_is_of_the_first_app_unless_it_names_another(
    server: Server, browser: Browser, mode: str
) -> None:
    """The state contains the app, so that nothing is stored and nobody can change it."""
    for client_id, whose in (("", "nextarget-app"), ("shop", "shop"), ("nextarget-app", "nextarget-app")):
        begun = await browser.get(f"/auth/google/start?mode={mode}&client_id={client_id}")
        auth_url = begun.json["auth_url"] if mode == "json" else begun.headers["Location"]
        tokens = (await browser.get(await browser.approve(auth_url))).json
        assert claims_of(tokens["access_token"])["client_id"] == whose
        assert (await refresh(server, tokens["refresh_token"], client_id=whose)).status == 200


async def test_a_flow_for_an_app_that_there_is_not_is_refused(server: Server) -> None:
    """The error names the parameter."""
    answer = await server.get("/auth/google/start?client_id=another")
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert answer.json["detail"] == "The parameter 'client_id' names no app of this service."


async def test_native_sign_in_is_for_the_app_that_asks(server: Server) -> None:
    """The session belongs to the app of the client_id, or to the first app without a client_id."""
    for client_id, whose in (("", "nextarget-app"), ("shop", "shop")):
        nonce = (await server.ask("POST", "/auth/nonce")).json["nonce"]
        sdk = await server.get(f"/sandbox/google/sdk?person=ada&nonce={nonce}")
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": sdk.json["id_token"],
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "subject_issuer": "google",
            "client_id": client_id,
        }
        answer = await server.ask("POST", "/auth/token", data=form)
        assert claims_of(answer.json["access_token"])["client_id"] == whose


async def test_two_names_of_a_client_that_differ_are_refused(server: Server, shop: App) -> None:
    """A request with two different client ids is refused, even if both are ours."""
    tokens = await shop.sign_in()
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "shop"}
    headers = {"Authorization": "Basic bmV4dGFyZ2V0LWFwcDo="}
    assert_oauth_error(await server.ask("POST", "/auth/token", data=form, headers=headers), "invalid_client", 401)


async def test_what_an_app_was_given_ends_when_it_is_taken_out_of_the_file(tmp_path: Path) -> None:
    """Sessions, codes and logins of a removed app are refused. The ones of other apps still work. After the app was
    added again, its sessions work too: a server with older settings must not end them for ever."""
    port = free_port()
    async with (
        open_browser(f"http://127.0.0.1:{port}") as browser,
        running(tmp_path, listener=free_listener(port), APPS_FILE=write_apps(tmp_path)) as server,
    ):
        shop = App(browser, "https://shop.example/callback", "shop")
        tokens, others = await shop.sign_in(), await App(browser).sign_in()
        code, callback = await shop.code(), await shop.approve()
        await server.runner.cleanup()
        async with running(tmp_path, listener=free_listener(port)) as without:
            profile = await without.me(tokens["access_token"])
            assert (profile.status, profile.code) == (401, "invalid_token")
            assert_oauth_error(await refresh(without, tokens["refresh_token"]), "invalid_grant")
            assert_oauth_error(await refresh(without, tokens["refresh_token"], client_id="shop"), "invalid_client", 401)
            assert_oauth_error(await shop.redeem(code), "invalid_client", 401)
            assert_oauth_error(await shop.redeem(code, client_id="nextarget-app"), "invalid_grant")
            ended = await browser.get(callback)
            assert (ended.status, ended.code) == (400, "redirect_refused")
            assert await stands(without, others)
            bearer = {"Authorization": f"Bearer {others['access_token']}"}
            assert len((await without.get("/users/me/sessions", headers=bearer)).json["sessions"]) == 1
        async with running(tmp_path, listener=free_listener(port), APPS_FILE=write_apps(tmp_path)) as again:
            assert await stands(again, tokens)


async def test_pages_say_which_app_wants_to_sign_the_person_in(server: Server, browser: Browser, first: App) -> None:
    """Pages show the app's name as plain text, its logo, and its links."""
    answer = await server.get(first.request(provider=None), headers=HTML)
    assert "NexTarget wants to sign you in." in unescape(answer.text)
    assert "<img" not in answer.text
    shop = App(browser, "http://127.0.0.1:1/shop", "shop")
    for request in (shop.request(provider=None), shop.request(provider="facebook")):
        page = await server.get(request, headers=HTML | {"Accept-Language": "fr"})
        assert "The <b>Shop</b> souhaite vous connecter." in unescape(page.text)
        assert "<b>" not in page.text
        assert links_of(page.text)[-2:] == ["https://shop.example/privacy", "https://shop.example/terms"]
        assert re.search(r'<img class="app-logo" src="/logos/[0-9a-f]{32}" alt="">', page.text)
        assert "img-src 'self' data:;" in page.headers["Content-Security-Policy"]


async def test_a_logo_elsewhere_is_allowed_on_the_pages_of_its_app_alone(
    server: Server, browser: Browser, first: App
) -> None:
    """The policy allows exactly the logo's URL, with the characters escaped that would end a directive."""
    news = await server.get(App(browser, "news:/callback", "news").request(provider=None), headers=HTML)
    assert '<img class="app-logo" src="https://cdn.example/a;b,c.png?v=2" alt="">' in news.text
    assert "img-src 'self' data: https://cdn.example/a%3Bb%2Cc.png; base-uri" in news.headers["Content-Security-Policy"]
    other = await server.get(first.request(provider=None), headers=HTML)
    assert "cdn.example" not in other.headers["Content-Security-Policy"] + other.text


async def test_a_logo_is_served_so_that_it_can_do_nothing(server: Server, shop: App) -> None:
    """A logo is served with its media type and may be cached for ever, because its URL names its content. An SVG cannot
    run scripts."""
    page = await server.get(shop.request(provider=None), headers=HTML)
    (path,) = re.findall(r"/logos/[0-9a-f]{32}", page.text)
    answer = await server.get(path)
    assert (answer.status, answer.text.encode()) == (200, SVG)
    assert answer.headers["Content-Type"] == "image/svg+xml"
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = answer.headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
    assert (await server.ask("HEAD", path)).headers["Content-Length"] == str(len(SVG))
    missing = await server.get("/logos/" + "0" * 32)
    assert (missing.status, missing.headers["Cache-Control"]) == (404, "no-store")


async def test_pages_at_the_end_of_a_login_name_its_app(browser: Browser, shop: App) -> None:
    """The page for a repeated callback leads back to the app by its name."""
    callback = await shop.approve()
    assert (await browser.get(callback)).status == 302
    page = await browser.get(callback, headers=HTML)
    assert "Back to The <b>Shop</b>" in unescape(page.text)
    assert re.search(r"/logos/[0-9a-f]{32}", page.text)


async def test_an_error_page_names_the_app_of_its_login_where_it_is_known(tmp_path: Path) -> None:
    """The app is known by client and redirect, or by the login's cookie. Without the cookie, the page names no app."""
    limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_BEGIN": "3", "RATE_LIMIT_FINISH": "1"}
    async with (
        running(tmp_path, APPS_FILE=write_apps(tmp_path), **limits) as server,
        open_browser(server.url) as browser,
    ):
        shop = App(browser, "https://shop.example/callback", "shop")
        callback = await shop.approve()
        assert (await browser.get(callback)).status == 302
        page = await browser.get(callback, headers=HTML)
        assert page.status == 429
        assert "try again here, or go back to The <b>Shop</b>." in unescape(page.text)
        browser.session.cookie_jar.clear()
        page = await browser.get(callback, headers=HTML)
        assert page.status == 429
        assert "go back to the app or site you came from" in page.text
        for _ in range(4):
            page = await browser.get(shop.request(), headers=HTML)
        assert page.status == 429
        assert "try again here, or go back to The <b>Shop</b>." in unescape(page.text)
        assert links_of(page.text) == ["", "https://shop.example/privacy", "https://shop.example/terms"]


class _Texts(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(
    st.text(min_size=1, max_size=60).filter(str.isprintable)
    | st.sampled_from(["<script>", "{{ 7*7 }}", "{name}", "&lt;"])
)
@pytest.mark.slow
def test_a_name_stays_text_on_every_page_and_in_every_language(name: str) -> None:
    """A name with any characters adds no element to a page, and is shown unchanged."""
    for language in texts.LANGUAGES:
        request = make_mocked_request("GET", "/", headers={"Accept-Language": language})
        choices = [(provider, display_name(provider), "/") for provider in PROVIDERS]
        facts = {"choices": choices, "again": None, "mark_styles": pages.MARK_STYLES}, {"link": "/"}
        for template, more in zip(("choose.html", "finished.html"), facts, strict=True):
            plain, named = (
                _Texts(
                    str(pages.page(template, request, client=Client("x", (), each, None, ClientLinks()), **more).text)
                )
                for each in (None, name)
            )
            assert named.elements == plain.elements
            assert name in named.text
