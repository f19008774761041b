"""Pages of other sites and the sandbox, in a real browser: what they can do, and what not."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, Response

from tests.browsing import EVIL
from tests.e2e.conftest import another_site
from tests.running import Server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

FETCH = """async ([url, mode]) => {
    try {
        const answer = await fetch(url, {mode})
        return {status: answer.status, type: answer.type, body: await answer.text()}
    } catch (error) {
        return {failed: error.name}
    }
}"""

LOAD = """url => new Promise(done => {
    const image = document.createElement("img")
    image.onload = image.onerror = () => done(image.naturalWidth)
    image.src = url
    document.body.append(image)
})"""

FRAME = """url => new Promise(done => {
    const frame = document.createElement("iframe")
    frame.onload = () => done(true)
    frame.src = url
    document.body.append(frame)
})"""

POST = """url => {
    const form = document.createElement("form")
    form.method = "post"
    form.action = url
    document.body.append(form)
    form.submit()
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def page(chromium: Browser) -> AsyncIterator[Page]:
    context = await chromium.new_context()
    yield await context.new_page()
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def elsewhere() -> AsyncIterator[int]:
    """The port of another site, whose page has a link to the URL in its query."""

    async def home(request: web.Request) -> web.Response:
        link = f'<a href="{request.query["to"]}">Sign in</a>' if "to" in request.query else ""
        return web.Response(text=f"<!doctype html><title>Elsewhere</title>{link}", content_type="text/html")

    async with another_site(home) as port:
        yield port


def answers_to(page: Page) -> list[Response]:
    """Every later answer that the browser gets, even if the page cannot read it."""
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - Playwright wants a function of ours
    return answers


async def test_a_name_that_leads_here_opens_nothing(page: Page, server: Server) -> None:
    """DNS rebinding: another site's page whose name now resolves to the sandbox has the sandbox's origin for the
    browser."""
    site = f"http://{EVIL}:{server.port}"
    await page.route(f"{site}/trap", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    await page.goto(f"{site}/trap")
    begun = await server.begin()
    approval = f"{begun['auth_url'].removeprefix(server.url)}&person=ada"
    for path in ("/auth/google/start", "/health", "/", "/sandbox/google/sdk?person=ada", approval):
        answer = await page.evaluate(FETCH, [site + path, "same-origin"])
        assert answer["status"] == 421, path
        assert not {"auth_url", "id_token"} & json.loads(answer["body"]).keys()
    opened = await page.goto(f"{site}/")
    assert opened is not None
    assert opened.status == 421
    assert (await server.get(await server.approve(begun["auth_url"]))).status == 200, "the login is still unused"


@pytest.mark.parametrize("name", ["localhost", EVIL])
async def test_a_page_of_another_site_asks_no_stand_in(page: Page, server: Server, elsewhere: int, name: str) -> None:
    """Requests by fetch, an image, a frame or a form are refused, not only unreadable."""
    begun = await server.begin()
    await page.goto(f"http://{name}:{elsewhere}/")
    answers = answers_to(page)
    target = f"{server.url}/sandbox/google/sdk?person=ada"
    assert await page.evaluate(FETCH, [target, "cors"]) == {"failed": "TypeError"}
    assert await page.evaluate(FETCH, [target, "no-cors"]) in (
        {"failed": "TypeError"},
        {"status": 0, "type": "opaque", "body": ""},
    )
    assert await page.evaluate(LOAD, f"{begun['auth_url']}&person=ada") == 0
    await page.evaluate(FRAME, f"{begun['auth_url']}&person=ada")
    assert {answer.status for answer in answers if answer.url.startswith(server.url)} == {403}
    async with page.expect_response(f"{server.url}/**") as posted:
        await page.evaluate(POST, f"{server.url}/sandbox/google/token")
    assert (await posted.value).status == 403
    assert (await server.get(await server.approve(begun["auth_url"]))).status == 200, "the login is still unused"


@pytest.mark.parametrize("name", ["localhost", EVIL])
async def test_a_person_whom_another_site_sends_signs_in(page: Page, server: Server, elsewhere: int, name: str) -> None:
    """A link to our start leads over the stand-in's page and back, and the browser requests that page as from
    another site."""
    await page.goto(f"http://{name}:{elsewhere}/?to={server.url}/auth/google/start?mode=redirect")
    await page.get_by_role("link", name="Sign in").click()
    await page.get_by_role("button", name="Ada Lovelace").click()
    await page.wait_for_url("**/auth/google/callback**")
    assert "ada@lovelace.example" in await page.inner_text("main")
