"""A real browser before the whole server. It reaches nothing but this machine; everything it complains of counts."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.conftest import need
from tests.running import Server

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--no-sandbox",  # Chromium refuses to start as root with it
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    need(path, f"none of {', '.join(NAMES)} is installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(SWITCHES))
        yield browser
        await browser.close()


@dataclass
class Person:
    """Somebody at a browser of their own."""

    context: BrowserContext
    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    """What the browser's console says: script errors, violated policies, failed requests."""
    requested: list[str] = field(default_factory=list)
    """Every URL that the browser asked for."""

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def text(self) -> str:
        return await self.page.inner_text("main")

    async def fits(self) -> bool:
        """Whether nothing has to be scrolled sideways."""
        return await self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    @property
    def strangers(self) -> list[str]:
        """Requests that went elsewhere than to the server."""
        return [url for url in self.requested if not url.startswith((f"{self.url}/", "data:"))]


async def sit_down(browser: Browser, server: Server, **options: object) -> Person:
    context = await browser.new_context(**options)  # type: ignore[arg-type]
    page = await context.new_page()
    person = Person(context, page, server.url)
    page.on("console", lambda message: person.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: person.complaints.append(str(error)))
    page.on("request", lambda request: person.requested.append(request.url))
    return person


@pytest.fixture
async def person(chromium: Browser, server: Server) -> AsyncIterator[Person]:
    """Somebody at a desktop."""
    person = await sit_down(chromium, server)
    yield person
    await person.context.close()


@pytest.fixture(params=[{"java_script_enabled": False}, {"color_scheme": "dark"}], ids=["no JavaScript", "dark"])
async def phone_user(chromium: Browser, server: Server, request: pytest.FixtureRequest) -> AsyncIterator[Person]:
    """Somebody with a narrow screen."""
    person = await sit_down(chromium, server, viewport={"width": 360, "height": 740}, **request.param)
    yield person
    await person.context.close()
