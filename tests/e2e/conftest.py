"""A real browser against the whole server. It reaches only this machine, and tests count its console's messages.

All tests and fixtures here run on the loop of the session, on which the only Chromium runs (tests/browsing.py).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.typedefs import Handler
from playwright.async_api import Browser, BrowserContext, Page

from tests.running import Server, free_listener, running


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """The whole server, on the browser's loop."""
    async with running(tmp_path) as server:
        yield server


@asynccontextmanager
async def another_site(handler: Handler) -> AsyncIterator[int]:
    """Run another site on this machine with one page, and yield its port."""
    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = free_listener()
    await web.SockSite(runner, listener).start()
    try:
        yield listener.getsockname()[1]
    finally:
        await runner.cleanup()


@dataclass
class Person:
    """A person with a browser context."""

    context: BrowserContext
    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    """The messages of the browser's console: script errors, violated policies, failed requests."""
    requested: list[str] = field(default_factory=list)
    """Every URL that the browser requested."""

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def choose(self, name: str) -> None:
        """Click on a person, or on Cancel, on a stand-in's page. Of a provider that answers with a form, send it."""
        await self.page.click(f"text={name}")
        if "/sandbox/" in self.page.url and await self.page.get_by_role("button", name="Send the answer").count():
            await self.page.click("text=Send the answer")

    async def text(self) -> str:
        return await self.page.inner_text("main")

    async def fits(self) -> bool:
        """Whether the page fits without horizontal scrolling."""
        return await self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    @property
    def strangers(self) -> list[str]:
        """Requests to other servers."""
        return [url for url in self.requested if not url.startswith((f"{self.url}/", "data:"))]


async def sit_down(browser: Browser, server: Server, **options: object) -> Person:
    context = await browser.new_context(**options)  # type: ignore[arg-type]
    page = await context.new_page()
    person = Person(context, page, server.url)
    page.on("console", lambda message: person.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: person.complaints.append(str(error)))
    page.on("request", lambda request: person.requested.append(request.url))
    return person


@pytest_asyncio.fixture(loop_scope="session")
async def person(chromium: Browser, server: Server) -> AsyncIterator[Person]:
    """A person at a desktop."""
    person = await sit_down(chromium, server)
    yield person
    await person.context.close()


@pytest_asyncio.fixture(
    loop_scope="session",
    params=[{"java_script_enabled": False}, {"color_scheme": "dark"}],
    ids=["no JavaScript", "dark"],
)
async def phone_user(chromium: Browser, server: Server, request: pytest.FixtureRequest) -> AsyncIterator[Person]:
    """A person with a narrow screen."""
    person = await sit_down(chromium, server, viewport={"width": 360, "height": 740}, **request.param)
    yield person
    await person.context.close()
