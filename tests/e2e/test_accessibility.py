"""WCAG 2.2, level AA, on every page (https://www.w3.org/TR/WCAG22/): light in English, and dark in French.

axe-core judges what a program can judge. The rest are measurements: reflow, enlarged text, and the focus.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page

import nextarget
from tests.clients.packages import MODULES
from tests.e2e.conftest import Person, sit_down
from tests.e2e.pages import PAGES, PARTS, ROUTES, ROUTES_OF_PAGES, settings_of
from tests.running import Server, running

session_loop = pytest.mark.asyncio(loop_scope="session")

AXE = MODULES / "axe-core" / "axe.min.js"
RUN_AXE = """async () => {
    const levels = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
    const found = await axe.run({runOnly: {type: "tag", values: levels}, rules: {"target-size": {enabled: true}}})
    return found.violations.map(({id, nodes}) => [id, nodes.map(({html, failureSummary}) => [html, failureSummary])])
}"""
OVERFLOW = """() => {
    const wide = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    return document.documentElement.scrollWidth <= innerWidth ? [] : wide.map(e => e.outerHTML.slice(0, 120))
}"""
FOCUS = """() => {
    const at = document.activeElement
    if (!at || at === document.body) return null
    const {outlineStyle, outlineWidth} = getComputedStyle(at)
    const {left, top, width, height} = at.getBoundingClientRect()
    const above = document.elementFromPoint(left + width / 2, Math.min(top + height / 2, innerHeight - 1))
    return {
        html: at.outerHTML.slice(0, 120),
        outline: outlineStyle === "none" ? 0 : parseFloat(outlineWidth),
        seen: top < innerHeight && top + height > 0 && (at.contains(above) || !!above?.contains(at)),
    }
}"""
LOOKS: dict[str, dict[str, Any]] = {
    "light, English": {"color_scheme": "light", "locale": "en-GB"},
    "dark, French": {"color_scheme": "dark", "locale": "fr-FR"},
}
PHONE, SMALLEST, DESKTOP = ({"width": width, "height": 740} for width in (360, 320, 1280))
MOST_STOPS = 60


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, **settings_of(tmp_path)) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session", params=LOOKS)
async def reader(
    chromium: Browser, server: Server, request: pytest.FixtureRequest, node_packages: None
) -> AsyncIterator[Person]:
    person = await sit_down(chromium, server, viewport=PHONE, **LOOKS[request.param])
    await person.context.add_init_script(path=AXE)
    yield person
    await person.context.close()


async def enlarge_text(page: Page) -> None:
    await page.evaluate("document.documentElement.style.fontSize = '200%'")


@pytest.mark.slow
@session_loop
@pytest.mark.parametrize("name", PAGES)
async def test_a_page_is_for_everybody(server: Server, reader: Person, name: str) -> None:
    """axe-core finds nothing on a phone or a desktop. Nothing scrolls sideways on 320 pixels (1.4.10), nor with text
    of twice the size (1.4.4). The focus can be seen (2.4.7) and is not covered (2.4.11)."""
    _, visit = PAGES[name]
    await visit(reader, server)
    page = reader.page
    for size in (PHONE, DESKTOP):
        await page.set_viewport_size(size)
        assert await page.evaluate(RUN_AXE) == [], size
    await page.set_viewport_size(SMALLEST)
    assert await page.evaluate(OVERFLOW) == []
    await assert_focus_is_seen(page)
    await page.set_viewport_size(PHONE)
    await enlarge_text(page)
    assert await page.evaluate(OVERFLOW) == []
    if name.startswith("web/error.html"):
        assert await page.locator("svg.alarm").count() == 1, "a person who sees no colours knows that it is an error"


async def assert_focus_is_seen(page: Page) -> None:
    """Tab visits what can be used, and every stop has an outline that nothing covers."""
    await page.evaluate("document.activeElement?.blur(), scrollTo(0, 0)")
    for _ in range(MOST_STOPS):
        await page.keyboard.press("Tab")
        stop = await page.evaluate(FOCUS)
        if stop is None:
            return
        assert stop["outline"] >= 2, stop
        assert stop["seen"], stop


def test_every_template_is_in_the_list_of_pages() -> None:
    """A new template without an entry in `pages.py` fails here."""
    root = Path(nextarget.__file__).parent
    templates = {
        f"{room}/{path.name}"
        for room in ("web", "sandbox")
        for path in (root / room / "pages").glob("*.html")
        if path.name not in PARTS
    }
    assert {name.partition(":")[0] for name in PAGES} == templates


async def test_every_route_that_shows_a_page_is_in_the_list_of_pages(tmp_path: Path) -> None:
    """The routes that answer errors with pages, and those with a fixed path that answer a browser with HTML. The page
    of 404 is that of an address that leads nowhere, which is in the list."""
    html = {"Accept": "text/html"}
    async with running(tmp_path, **settings_of(tmp_path)) as server:
        shown = set(ROUTES_OF_PAGES)
        for resource in server.app.router.resources():
            if isinstance(resource, web.PlainResource) and any(route.method == "GET" for route in resource):
                answer = await server.get(resource.canonical, headers=html)
                if answer.status != 404 and answer.headers.get("Content-Type", "").startswith("text/html"):
                    shown.add(str(resource.name))
    assert shown - ROUTES == set()
