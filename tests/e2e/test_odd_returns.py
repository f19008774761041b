"""Unusual ways back in a real browser: a second time, as a prefetch, too late, and with too many cookies."""

import asyncio
import re
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from nextarget.model import Millis
from nextarget.registry import PROVIDERS
from nextarget.web.app_keys import ONLINE
from nextarget.web.pages import texts
from nextarget.web.requests import prefetching
from nextarget.web.requests.prefetching import is_ahead
from tests.apps import App, stands
from tests.e2e.conftest import Person, sit_down
from tests.e2e.test_app_pages import assert_readable, assert_well_formed, listening_app, other_complaints
from tests.running import Server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

NARROW = {"width": 360, "height": 740}
PREFETCHING = """<!doctype html><title>Before</title><link rel="icon" href="data:,">
<script type="speculationrules">{"prefetch": [{"source": "list", "urls": ["%s"], "eagerness": "immediate"}]}</script>
"""


def callback_of(person: Person) -> str:
    """The URL of the callback that the browser opened last."""
    return [url for url in person.requested if "/auth/" in url and "/callback?" in url][-1]


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
async def test_a_callback_opened_again_leads_back_to_the_app(
    chromium: Browser, server: Server, language: str, color_scheme: str
) -> None:
    """The page says that the login is finished, its link tells the app to begin again, and the code can still be
    redeemed."""
    reader = await sit_down(chromium, server, locale=language, color_scheme=color_scheme, viewport=NARROW)
    async with listening_app() as (redirect_uri, answers):
        app = App(server, redirect_uri)
        await reader.open(app.request())
        await reader.page.click("text=Ada Lovelace")
        await expect(reader.page.get_by_role("heading")).to_have_text("Back in the app")
        await reader.page.goto(callback_of(reader))
        await assert_well_formed(reader, language)
        await assert_readable(reader.page)
        assert await reader.fits()
        assert texts.text("finished_lead", language) in await reader.text()
        await reader.page.click(f"text={texts.text('back_to_app', language)}")
        await expect(reader.page.get_by_role("heading")).to_have_text("Back in the app")
        first, second = answers
        assert (second["error"], second["state"]) == ("temporarily_unavailable", app.state)
        tokens = await app.redeem(first["code"])
        assert await stands(server, tokens.json)
    assert reader.complaints == []
    await reader.context.close()


@pytest.mark.parametrize("language", texts.LANGUAGES)
async def test_a_heap_of_cookies_ends_on_a_page_that_says_what_to_do(
    chromium: Browser, server: Server, language: str
) -> None:
    """Other sites of the parent domain may set cookies. The page has its style, and after their deletion everything
    works."""
    reader = await sit_down(chromium, server, locale=language, viewport=NARROW)
    host = urlsplit(server.url).hostname
    heap = [{"name": f"site-{number}", "value": "x" * 4000, "domain": host, "path": "/"} for number in range(3)]
    await reader.context.add_cookies(heap)  # type: ignore[arg-type]
    app = App(server)
    async with reader.page.expect_response(server.url + app.request(provider=None)) as waiting:
        await reader.open(app.request(provider=None))
    assert (await waiting.value).status == 431
    await assert_well_formed(reader, language)
    await assert_readable(reader.page)
    assert await reader.fits()
    assert await reader.page.inner_text(".next") == texts.next_step("cookies", language)
    assert other_complaints(reader) == []
    await reader.context.clear_cookies()
    await reader.open(app.request(provider=None))
    assert await reader.page.get_by_role("link").count() == len(PROVIDERS)
    await reader.context.close()


@pytest.mark.parametrize("language", texts.LANGUAGES)
async def test_who_comes_back_too_late_reads_what_to_do(chromium: Browser, server: Server, language: str) -> None:
    """The person, without an app, comes back from the provider after more than ten minutes."""
    reader = await sit_down(chromium, server, locale=language, viewport=NARROW)
    await reader.open("/auth/facebook/start?mode=redirect")
    server.app[ONLINE].sign_in._outcomes._clock = lambda: Millis(server.runtime.clock() + 600_000)
    await reader.page.click("text=Ada Lovelace")
    await expect(reader.page.locator("html")).to_have_attribute("lang", language)
    await assert_well_formed(reader, language)
    await assert_readable(reader.page)
    shown = await reader.text()
    assert "login_expired" in shown
    assert re.search("ten minutes|dix minutes", shown)
    assert await reader.page.inner_text(".next") == texts.next_step("again_here", language)
    await reader.context.close()


async def test_what_the_browser_asked_ahead_is_asked_again_for_the_visit(
    chromium: Browser, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chromium prefetches the callback with the cookie, by the page's rules. The person's later visit still signs
    in."""
    asked_ahead = asyncio.Event()

    def watched(request: web.BaseRequest) -> bool:
        ahead = is_ahead(request)
        if ahead and "nextarget-login-" in request.headers["Cookie"]:
            asked_ahead.set()
        return ahead

    monkeypatch.setattr(prefetching, "is_ahead", watched)
    person = await sit_down(chromium, server)
    async with listening_app() as (redirect_uri, answers):
        app = App(server, redirect_uri)
        await person.open(app.request())
        provider_page = person.page.url
        back = await app.browser.approve(provider_page)

        async def rules(route: object) -> None:
            await route.fulfill(body=PREFETCHING % back, content_type="text/html")  # type: ignore[attr-defined]

        await person.context.route("**/before", rules)
        await person.open("/before")
        async with asyncio.timeout(30):
            await asked_ahead.wait()
        assert answers == []
        await person.page.goto(back)
        await expect(person.page.get_by_role("heading")).to_have_text("Back in the app")
        assert (await app.redeem(answers[0]["code"])).status == 200
    await person.context.close()
