"""A callback that is loaded again after it succeeded, by a reload, the back button, or a proxy that repeats
requests."""

from collections.abc import AsyncIterator

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from tests.apps import App, events, links_of, stands
from tests.running import Answer, Browser, Server, open_browser, query_of
from tests.web.conftest import Log

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
BOTH = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture
async def app(server: Server) -> AsyncIterator[App]:
    async with open_browser(server.url) as browser:
        yield App(browser)


def assert_finished_page(answer: Answer) -> None:
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Location" not in answer.headers
    assert "Set-Cookie" not in answer.headers


@BOTH
async def test_a_callback_loaded_again_says_that_the_sign_in_is_finished(
    server: Server, app: App, provider: Provider
) -> None:
    """RFC 6749, 4.1.2.1: the page's link tells the app to begin again, in case its answer was lost. No session ends,
    and the code can still be redeemed."""
    back = await app.approve(provider=provider)
    first = await app.browser.get(back, headers=HTML)
    assert first.status == 302
    for _ in range(3):
        again = await app.browser.get(back, headers=HTML)
        assert_finished_page(again)
        assert "finished" in again.text
        (link,) = links_of(again.text)
        assert link.startswith(app.redirect_uri)
        assert link.endswith("#")
        told = query_of(link)
        assert told.pop("error_description")
        assert told == {"error": "temporarily_unavailable", "state": app.state, "iss": server.url}
    code = query_of(first.headers["Location"])["code"]
    assert code not in again.text
    tokens = await app.redeem(code)
    assert tokens.status == 200
    assert_finished_page(await app.browser.get(back, headers=HTML))
    assert await stands(server, tokens.json)
    assert len(await events(server, "login_succeeded")) == 1
    assert await events(server, "login_failed") == []


@BOTH
async def test_in_french_it_is_finished_too(app: App, provider: Provider) -> None:
    """The page is in the reader's language."""
    back = await app.approve(provider=provider)
    await app.browser.get(back, headers=HTML)
    again = await app.browser.get(back, headers=HTML | {"Accept-Language": "fr"})
    assert again.headers["Content-Language"] == "fr"
    assert "terminée" in again.text


@BOTH
async def test_a_sign_in_without_an_app_is_finished_too(server: Server, provider: Provider) -> None:
    """With mode=redirect there is no app, so the page has no link. The tokens are not shown again."""
    async with open_browser(server.url) as browser:
        begun = await browser.get(f"/auth/{provider}/start?mode=redirect")
        back = await browser.approve(begun.headers["Location"])
        tokens = (await browser.get(back)).json
        again = await browser.get(back, headers=HTML)
        assert_finished_page(again)
        assert links_of(again.text) == []
        assert tokens["access_token"] not in again.text
        assert tokens["refresh_token"] not in again.text
        assert await stands(server, tokens)


async def refusals(browser: Browser, stranger: Browser, back: str) -> list[Answer]:
    return [
        await browser.get(back),
        await browser.get(back, headers={"Accept": "application/json"}),
        await browser.get(back, headers={"Accept": "*/*"}),
        await stranger.get(back),
        await stranger.get(back, headers=HTML),
    ]


@BOTH
async def test_without_the_cookie_or_without_html_it_stays_an_error(
    server: Server, app: App, provider: Provider
) -> None:
    """A program, or a person with another browser, gets an error without facts of the login."""
    back = await app.approve(provider=provider)
    code = query_of((await app.browser.get(back)).headers["Location"])["code"]
    async with open_browser(server.url) as stranger:
        for answer in await refusals(app.browser, stranger, back):
            assert answer.status == 400
            assert "invalid_state" in answer.text
            assert app.redirect_uri not in answer.text
    assert (await app.redeem(code)).status == 200


async def test_a_login_of_the_json_flow_stays_an_error(server: Server) -> None:
    """A login of the JSON flow is not bound to a browser, so a repeated callback gets an error."""
    back = await server.approve((await server.begin())["auth_url"])
    assert (await server.get(back)).status == 200
    assert (await server.get(back, headers=HTML)).status == 400


async def test_any_node_tells_that_it_is_finished(server: Server, second: Server) -> None:
    """Another node knows from the shared database that the state was used."""
    async with open_browser(server.url) as browser:
        app = App(browser)
        back = await app.approve()
        assert (await browser.get(back, headers=HTML)).status == 302
        elsewhere = back.replace(server.url, second.url)
        again = await browser.get(elsewhere, headers=HTML)
        assert_finished_page(again)
        assert query_of(links_of(again.text)[0])["state"] == app.state


async def test_the_log_says_when_it_was_used(server: Server, app: App, log: Log) -> None:
    """Every repetition has one log line with the login's id, and is not logged as a failure."""
    back = await app.approve()
    await app.browser.get(back, headers=HTML)
    await app.browser.get(back, headers=HTML)
    (repeated,) = log.events("login_repeated")
    (succeeded,) = log.events("login_succeeded")
    assert repeated["login_id"] == succeeded["login_id"]
    assert repeated["reason"].startswith("state used already, at 2")
    assert repeated["provider"] == "google"
    assert log.events("login_failed") == log.events("problem") == []
