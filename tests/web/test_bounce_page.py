"""The page with a button before a redirect into the app (APP_BOUNCE_PAGE)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from tests.apps import REDIRECT, App, links_of
from tests.logos import PNG
from tests.running import Answer, Server, open_browser, query_of, running

FINGERPRINT = ":".join(["AB"] * 32)
CLAIMED, SITE = "https://phone.example.org/callback", "https://shop.example.org/callback"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
APPS = f"""
[[app]]
client_id = "phone"
redirect_uris = ["{CLAIMED}", "http://127.0.0.1/callback"]
name = "The <Phone>"
logo = "logo.png"
android_app_links = ["org.example.phone={FINGERPRINT}"]
bounce_page = true

[[app]]
client_id = "shop"
redirect_uris = ["{SITE}", "shop:/callback"]
bounce_page = true

[[app]]
client_id = "driver"
redirect_uris = ["driver:/callback"]
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    (tmp_path / "apps.toml").write_text(APPS)
    (tmp_path / "logo.png").write_bytes(PNG)
    settings = {"APPS_FILE": str(tmp_path / "apps.toml"), "APP_BOUNCE_PAGE": "true"}
    async with running(tmp_path, RATE_LIMIT_ENABLED="false", **settings) as server:
        yield server


def button_of(answer: Answer) -> str:
    """The target of the page's only link. The page has what every page has, and is kept nowhere."""
    assert answer.status == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "Location" not in answer.headers
    assert "<script" not in answer.text
    (link,) = links_of(answer.text)
    return link


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_button_leads_where_the_redirect_would(server: Server, provider: Provider) -> None:
    """The link has the code, the state, the issuer and the empty fragment, and the code can be redeemed."""
    async with open_browser(server.url) as browser:
        app = App(browser)
        link = button_of(await browser.get(await app.approve(provider=provider), headers=HTML))
        assert link.startswith(f"{REDIRECT}?code=")
        assert link.endswith("#")
        told = query_of(link.removesuffix("#"))
        assert told.keys() == {"code", "state", "iss"}
        assert (told["state"], told["iss"]) == (app.state, server.url)
        assert (await app.redeem(told["code"])).status == 200


async def test_a_reload_shows_that_the_sign_in_is_finished(server: Server) -> None:
    """The page comes once. A reload shows the page of a finished sign-in, without the code, which stays valid."""
    async with open_browser(server.url) as browser:
        app = App(browser)
        back = await app.approve()
        code = query_of(button_of(await browser.get(back, headers=HTML)))["code"]
        again = await browser.get(back, headers=HTML)
        assert "finished" in again.text
        assert code not in again.text
        assert query_of(button_of(again))["error"] == "temporarily_unavailable"
        assert (await app.redeem(code)).status == 200


async def test_an_error_for_the_app_has_the_page_too(server: Server) -> None:
    """Both an error of the provider and an error of the request."""
    async with open_browser(server.url) as browser:
        app = App(browser)
        for answer, error, title in (
            (await browser.get(await app.approve("cancel"), headers=HTML), "access_denied", "Sign-in cancelled"),
            (await browser.get(app.request(code_challenge=None), headers=HTML), "invalid_request", "Invalid request"),
            (await browser.get(app.request(prompt="none"), headers=HTML), "login_required", "Invalid request"),
        ):
            told = query_of(button_of(answer))
            assert (told["error"], told["state"], told["iss"]) == (error, app.state, server.url)
            assert title in answer.text
    async with open_browser(server.url) as browser:
        app = App(browser)
        back = await app.approve("cancel")
        redirect = await browser.get(back)
        assert button_of(await browser.get(back, headers=HTML)) == redirect.headers["Location"]


@pytest.mark.parametrize(
    ("client_id", "redirect_uri", "bounces"),
    [
        ("nextarget-app", REDIRECT, True),
        ("phone", CLAIMED, True),
        ("phone", "http://127.0.0.1:50123/callback", False),
        ("shop", "shop:/callback", True),
        ("shop", SITE, False),
        ("driver", "driver:/callback", False),
    ],
)
async def test_only_a_redirect_that_opens_a_program_has_the_page(
    server: Server, client_id: str, redirect_uri: str, bounces: bool
) -> None:
    """RFC 8252, 7: a custom scheme, and an https redirect that a program claims. A site and a loopback redirect are
    opened as any page. Every app has its own setting, which is off by default."""
    async with open_browser(server.url) as browser:
        answer = await browser.get(await App(browser, redirect_uri, client_id).approve(), headers=HTML)
        if bounces:
            assert button_of(answer).startswith(f"{redirect_uri}?code=")
        else:
            assert answer.status == 302
            assert answer.headers["Location"].startswith(f"{redirect_uri}?code=")


async def test_a_program_is_redirected_at_once(server: Server) -> None:
    """A client that does not ask for HTML has no person who could tap."""
    async with open_browser(server.url) as browser:
        answer = await browser.get(await App(browser).approve())
        assert (answer.status, answer.headers["Location"].partition("?")[0]) == (302, REDIRECT)


async def test_the_page_names_its_app_in_the_language_of_the_login(server: Server) -> None:
    """The name and logo of the app; the language that the app chose when the login began."""
    async with open_browser(server.url) as browser:
        app = App(browser, CLAIMED, "phone")
        answer = await browser.get(await app.approve(ui_locales="fr"), headers=HTML)
        assert answer.headers["Content-Language"] == "fr"
        assert "Ouvrir The &lt;Phone&gt;" in answer.text
        assert 'class="app-logo"' in answer.text
        assert "<Phone>" not in answer.text


async def test_neither_a_prefetch_nor_head_gets_the_page(server: Server) -> None:
    """The page has a code, so what a browser asks for ahead of a visit makes none, and uses no login up."""
    async with open_browser(server.url) as browser:
        back = await App(browser).approve()
        assert (await browser.get(back, headers=HTML | {"Sec-Purpose": "prefetch"})).status == 403
        assert (await browser.ask("HEAD", back, headers=HTML)).status == 405
        assert button_of(await browser.get(back, headers=HTML)).startswith(f"{REDIRECT}?code=")


async def test_tools_without_an_app_see_no_page(server: Server) -> None:
    """A login without an app ends with its tokens, not with a redirect."""
    async with open_browser(server.url) as browser:
        assert (await browser.sign_in()).json["token_type"].lower() == "bearer"
