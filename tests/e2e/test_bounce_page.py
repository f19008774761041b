"""The page with a button before the app is opened (APP_BOUNCE_PAGE), on a phone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from nextarget.web.pages import texts
from tests.apps import REDIRECT, App
from tests.e2e.conftest import Person, sit_down
from tests.e2e.test_app_pages import LANGUAGES, assert_readable, assert_well_formed
from tests.running import Server, query_of, running

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "java_script_enabled": False}


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server whose first app has the page."""
    async with running(tmp_path, APP_BOUNCE_PAGE="true", APP_NAME="Tide") as server:
        yield server


async def come_back(person: Person, app: App, choice: str) -> None:
    """Sign in up to the page before the app."""
    await person.open(app.request())
    await person.page.click(f"text={choice}")
    await person.page.wait_for_url("**/auth/google/callback?*")


async def opened(page: Page, how: str) -> str:
    """Use the button as a person does. Return the address that the browser then asks the system to open."""
    button = page.locator(".choice")
    async with page.expect_request(lambda request: request.url.startswith(REDIRECT)) as asked:
        if how == "tap":
            await button.tap()
        else:
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
    return (await asked.value).url


@pytest.mark.parametrize("how", ["tap", "keyboard"])
async def test_a_tap_or_a_key_opens_the_app(server: Server, chromium: Browser, how: str) -> None:
    """The browser opens the app's address with the code, which the app redeems. Nothing else was opened before."""
    person = await sit_down(chromium, server, **PHONE)
    app = App(server)
    await come_back(person, app, "Ada Lovelace")
    assert person.page.url.startswith(f"{server.url}/auth/google/callback?")
    assert not [url for url in person.requested if url.startswith(REDIRECT)]
    told = query_of(await opened(person.page, how))
    assert (told["state"], told["iss"]) == (app.state, server.url)
    assert (await app.redeem(told["code"])).status == 200
    await person.context.close()


@LANGUAGES
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("choice", ["Ada Lovelace", "Cancel"])
async def test_the_page_is_readable_by_everybody(
    server: Server, chromium: Browser, language: str, color_scheme: str, choice: str
) -> None:
    """After a success and after an error: it fits, it is readable, and its button is large."""
    looks = PHONE | {"java_script_enabled": True, "locale": language, "color_scheme": color_scheme}
    person = await sit_down(chromium, server, **looks)
    await come_back(person, App(server), choice)
    await assert_well_formed(person, language)
    await assert_readable(person.page)
    assert await person.fits()
    button = person.page.locator(".choice")
    assert await button.inner_text() == texts.text("open_named", language, name="Tide")
    box = await button.bounding_box()
    assert box is not None
    assert box["height"] >= 44
    assert person.complaints == []
    assert person.strangers == []
    await person.context.close()


async def test_a_reload_says_that_the_sign_in_is_finished(server: Server, chromium: Browser) -> None:
    """Its button tells the app to begin again."""
    person = await sit_down(chromium, server, **PHONE)
    await come_back(person, App(server), "Ada Lovelace")
    await person.page.reload()
    assert texts.text("finished_lead", "en") in await person.text()
    assert query_of(await opened(person.page, "tap"))["error"] == "temporarily_unavailable"
    await person.context.close()
