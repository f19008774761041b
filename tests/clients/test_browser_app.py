"""oidc-client-ts with its defaults in a real browser: a page of another origin signs a person in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page

from tests.clients.packages import MODULES
from tests.running import Server, free_listener, running

LIBRARY = MODULES / "oidc-client-ts" / "dist" / "browser" / "oidc-client-ts.min.js"
PAGE = Path(__file__).parent / "page.html"

pytestmark = [pytest.mark.usefixtures("node_packages"), pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

MANAGER = """([authority, more]) => {
    window.manager = new oidc.UserManager({
        authority, client_id: "nextarget-app", redirect_uri: `${location.origin}/callback`, ...more})
}"""
TRY = """async ([call, argument]) => {
    try {
        return {done: await manager[call](argument ?? undefined) ?? null}
    } catch (error) {
        return {refused: {name: error.name, error: error.error, message: error.message}}
    }
}"""
PROFILE = """async ([url, token]) => {
    const answer = await fetch(`${url}/users/me`, {headers: {Authorization: `Bearer ${token}`}})
    return {status: answer.status, body: await answer.json()}
}"""


@dataclass
class BrowserApp:
    """The app's page, and the errors in its browser's console."""

    page: Page
    origin: str
    server: Server
    complaints: list[str] = field(default_factory=list)

    async def load(self, **more: object) -> None:
        """Create the library's manager on the open page, as every page of the app does."""
        await self.page.evaluate(MANAGER, [self.server.url, more])

    async def call(self, name: str, argument: object = None) -> dict[str, Any]:
        return await self.page.evaluate(TRY, [name, argument])

    async def begin(self, **asked: object) -> None:
        """Send the person to the server's page of providers."""
        await self.page.goto(self.origin)
        await self.load()
        async with self.page.expect_navigation(url=f"{self.server.url}/auth/authorize?*"):
            await self.page.evaluate("asked => void setTimeout(() => manager.signinRedirect(asked))", asked)

    async def choose(self, person: str = "ada", page: Page | None = None) -> None:
        """Choose Google and an account, as the person."""
        page = page or self.page
        await page.locator(".choice.google").click()
        await page.locator(f'button[value="{person}"]').click()

    async def come_back(self, person: str = "ada") -> dict[str, Any]:
        """Finish the sign-in as the person. Return the library's user, or its error."""
        await self.choose(person)
        await self.page.wait_for_url(f"{self.origin}/callback?*")
        await self.load()
        return await self.call("signinCallback")

    async def profile(self, token: str) -> dict[str, Any]:
        return await self.page.evaluate(PROFILE, [self.server.url, token])


@pytest_asyncio.fixture(loop_scope="session")
async def app(chromium: Browser, tmp_path: Path) -> AsyncIterator[BrowserApp]:
    """An app on its own origin, which the server's settings list."""

    async def page(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE)

    async def library(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(LIBRARY)

    site = web.Application()
    site.router.add_get("/", page)
    site.router.add_get("/callback", page)
    site.router.add_get("/oidc-client-ts.js", library)
    runner = web.AppRunner(site)
    await runner.setup()
    listener = free_listener()
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await web.SockSite(runner, listener).start()
    context = await chromium.new_context()
    try:
        async with running(tmp_path, CORS_ALLOW_ORIGINS=origin) as server:
            app = BrowserApp(await context.new_page(), origin, server)
            app.page.on("pageerror", lambda error: app.complaints.append(str(error)))
            yield app
            assert app.complaints == []
    finally:
        await context.close()
        await runner.cleanup()


async def test_oidc_client_ts_signs_a_person_in(app: BrowserApp) -> None:
    """Discovery, PKCE, profile, renewal and revocation work. The library asks for `openid`, and the answer's scope
    does not have it."""
    await app.begin()
    user = (await app.come_back())["done"]
    assert (user["scope"], user["token_type"].lower()) == ("email", "bearer")
    assert (await app.profile(user["access_token"]))["body"]["email"] == "ada@lovelace.example"

    renewed = (await app.call("signinSilent"))["done"]
    assert renewed["access_token"] != user["access_token"]
    assert renewed["refresh_token"] != user["refresh_token"]
    assert (await app.profile(renewed["access_token"]))["status"] == 200

    assert await app.call("revokeTokens") == {"done": None}
    assert (await app.profile(renewed["access_token"]))["status"] == 401
    # The metadata announces no part of OpenID Connect that the server lacks.
    assert (await app.call("signoutRedirect"))["refused"]["message"] == "No end session endpoint"


async def test_oidc_client_ts_signs_in_from_a_window_of_its_own(app: BrowserApp) -> None:
    """The page that opened the window keeps its reference to the window while our pages are shown."""
    await app.page.goto(app.origin)
    await app.load()
    async with app.page.expect_popup() as opened:
        await app.page.evaluate("void (window.signingIn = manager.signinPopup())")
    window = await opened.value
    async with window.expect_event("close"):
        await app.choose("ada", window)
    user = await app.page.evaluate("window.signingIn")
    assert (await app.profile(user["access_token"]))["status"] == 200


async def test_oidc_client_ts_hears_that_the_person_said_no(app: BrowserApp) -> None:
    """RFC 6749, 4.1.2.1: the library passes the error code to the app."""
    await app.begin()
    refused = (await app.come_back("cancel"))["refused"]
    assert (refused["name"], refused["error"]) == ("ErrorResponse", "access_denied")


async def test_oidc_client_ts_takes_no_answer_that_it_did_not_ask_for(app: BrowserApp) -> None:
    """The library refuses an answer with another state."""
    await app.begin()
    await app.choose()
    await app.page.wait_for_url(f"{app.origin}/callback?*")
    await app.load()
    url = app.page.url.replace("state=", "state=x")
    refused = (await app.call("signinCallback", url))["refused"]
    assert refused["message"] == "No matching state found in storage"


async def test_oidc_client_ts_cannot_sign_in_unseen(app: BrowserApp) -> None:
    """OpenID Connect Core, 3.1.2.6: `prompt=none` in a hidden frame gets an error without a page, and the frame is
    allowed."""
    await app.page.goto(app.origin)
    await app.load(silentRequestTimeoutInSeconds=20)
    refused = (await app.call("signinSilent"))["refused"]
    assert refused["error"] == "login_required"
