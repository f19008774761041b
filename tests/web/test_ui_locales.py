"""The language of the pages of a login (OpenID Connect Core, 3.1.2.1: `ui_locales`)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from tests.apps import REDIRECT, App, links_of
from tests.running import Answer, Server, open_browser, query_of, running

HTML = {"Accept": "text/html", "Accept-Language": "en"}
FRENCH = {"Accept": "text/html", "Accept-Language": "fr"}


@pytest.fixture
async def app(server: Server) -> AsyncIterator[App]:
    async with open_browser(server.url) as browser:
        yield App(browser)


def speaks(answer: Answer, language: str) -> bool:
    """Whether a page is in this language, and says so in its headers."""
    assert answer.headers["Content-Type"].startswith("text/html")
    assert f'<html lang="{answer.headers["Content-Language"]}">' in answer.text
    return answer.headers["Content-Language"] == language


@pytest.mark.parametrize(
    ("ui_locales", "language"),
    [
        ("fr", "fr"),
        ("fr-CA", "fr"),
        ("FR_ca fr", "fr"),
        ("fr-CA fr en", "fr"),
        ("de fr en", "fr"),
        ("de en fr", "en"),
        ("en-GB", "en"),
        ("  fr  ", "fr"),
        ("de", None),
        ("", None),
        ("frx", None),
        ("*", None),
        ("\u00e9 \x00 fr", "fr"),
        ("x " * 2000 + "fr", None),
    ],
)
async def test_the_app_chooses_the_language_of_the_page_to_choose(
    app: App, ui_locales: str, language: str | None
) -> None:
    """The first supported language of the list is used, or the browser's preference if there is none. No value is an
    error."""
    for headers, preferred in ((HTML, "en"), (FRENCH, "fr")):
        page = await app.browser.get(app.request(provider=None, ui_locales=ui_locales), headers=headers)
        assert page.status == 200
        assert speaks(page, language or preferred)


@pytest.mark.parametrize("provider", ["facebook", None])
async def test_the_pages_links_keep_the_language(app: App, provider: str | None) -> None:
    """The links keep the language, for the page before Facebook and for errors after it."""
    page = await app.browser.get(app.request(provider=provider, ui_locales="fr"), headers=HTML)
    assert speaks(page, "fr")
    for link in links_of(page.text):
        if link.startswith("/"):
            assert query_of(link)["ui_locales"] == "fr"


async def test_a_request_that_is_refused_on_the_spot_is_refused_in_that_language(app: App) -> None:
    """Error pages without a redirect are in this language, unless the query cannot be read."""
    for changes in ({"client_id": "another"}, {"redirect_uri": "https://elsewhere.example/"}, {"redirect_uri": None}):
        page = await app.browser.get(app.request(ui_locales="fr", **changes), headers=HTML)
        assert page.status == 400
        assert speaks(page, "fr")
    page = await app.browser.get(app.request(client_id="another", ui_locales="fr") + "&ui_locales=en", headers=HTML)
    assert speaks(page, "en")


async def test_two_lists_of_languages_are_told_to_the_app(app: App) -> None:
    """RFC 6749, 3.1: a parameter must not be repeated."""
    answer = await app.browser.get(app.request(ui_locales="fr") + "&ui_locales=en")
    assert query_of(answer.headers["Location"])["error"] == "invalid_request"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_callbacks_pages_speak_the_language_of_the_login(app: App, provider: Provider) -> None:
    """The provider does not return the language, so the login's cookie contains it. Without the cookie, the browser's
    preference counts."""
    callback = await app.approve(provider=provider, ui_locales="fr")
    async with open_browser(app.browser.url) as stranger:
        assert speaks(await stranger.get(callback, headers=HTML), "en")
    other = await app.approve(provider=provider)
    assert (await app.browser.get(callback)).status == 302
    assert (await app.browser.get(other)).status == 302
    assert speaks(await app.browser.get(callback, headers=HTML), "fr")
    assert speaks(await app.browser.get(callback, headers=FRENCH), "fr")
    assert speaks(await app.browser.get(other, headers=HTML), "en")
    assert speaks(await app.browser.get(other, headers=FRENCH), "fr")


async def test_a_browser_without_an_app_may_choose_too(server: Server) -> None:
    """With `mode=redirect`, our pages at the callback are in this language."""
    async with open_browser(server.url) as browser:
        begun = await browser.get("/auth/google/start?mode=redirect&ui_locales=fr")
        callback = await browser.approve(begun.headers["Location"], person="cancel")
        assert speaks(await browser.get(callback, headers=HTML), "fr")
    page = await server.get("/auth/google/start?mode=odd&ui_locales=fr", headers=HTML)
    assert (page.status, speaks(page, "fr")) == (400, True)


@pytest.mark.parametrize("marked", [".fr", ".de", ".f", ".", ".fr.en", ".FR", "fr"])
async def test_what_stands_behind_the_cookie_chooses_a_language_and_nothing_else(app: App, marked: str) -> None:
    """The language after the sealed part of the cookie is not protected. It changes nothing but the language."""
    callback = await app.approve()
    [(name, cookie)] = [(c.key, c.value) for c in app.browser.session.cookie_jar]
    headers = HTML | {"Cookie": f"{name}={cookie}{marked}"}
    async with open_browser(app.browser.url) as browser:
        answer = await browser.get(callback, headers=headers)
    if marked in {".fr", ".de"}:
        assert answer.headers["Location"].startswith(f"{REDIRECT}?code=")
    else:
        assert answer.status == 400
        assert speaks(answer, "en")


async def test_too_many_requests_are_refused_in_that_language(tmp_path: Path) -> None:
    """The page for too many requests is in this language."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true") as server:
        path = App(server).request(provider=None, ui_locales="fr")
        answers = [await server.get(path, headers=HTML) for _ in range(40)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert all(speaks(answer, "fr") for answer in answers)


async def test_the_longest_state_fits_with_a_language_too(app: App) -> None:
    """The cookie of 4 KB has room for a state of 2000 characters, the longest usual redirect and the language."""
    app.state = "x" * 2000
    answer = query_of(await app.authorize(ui_locales="fr"))
    assert answer["state"] == app.state


async def test_the_metadata_lists_the_languages_that_pages_speak(server: Server) -> None:
    """RFC 8414, 2, and OpenID Connect Discovery, 3: the metadata lists the languages of the pages."""
    assert (await server.get("/.well-known/openid-configuration")).json["ui_locales_supported"] == ["en", "fr"]
