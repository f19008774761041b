"""The page about an app: its name, logo and links, and what the page's policy allows."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.apps import App
from tests.e2e.conftest import sit_down
from tests.e2e.test_app_pages import LANGUAGES, assert_readable, assert_well_formed
from tests.logos import PNG, SVG, WEBP
from tests.running import running

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

LOGOS = {"logo.png": PNG, "logo.svg": SVG, "logo.webp": WEBP}
LEADS = {
    "en": "The <script>alert(1)</script> Shop wants to sign you in.",
    "fr": "The <script>alert(1)</script> Shop souhaite vous connecter.",
}
ELSEWHERE = "https://cdn.example/logos/a;b.png?v=2"


def write_app(folder: Path, logo: str) -> str:
    """Write a file of apps with this logo. Return its path."""
    for name, content in LOGOS.items():
        (folder / name).write_bytes(content)
    path = folder / "apps.toml"
    path.write_text(
        f"""
[[app]]
client_id = "shop"
redirect_uris = ["https://shop.example/callback"]
name = "The <script>alert(1)</script> Shop"
logo = "{logo}"
privacy_url = "https://shop.example/privacy"
terms_url = "https://shop.example/terms"
""",
        encoding="utf-8",
    )
    return str(path)


async def is_drawn(page: Page) -> bool:
    """Whether the page's logo has loaded and has its full height."""
    return await page.locator("img.app-logo").evaluate(
        "logo => logo.decode().then(() => logo.naturalWidth > 0 && logo.clientHeight === 48, () => false)"
    )


@LANGUAGES
@pytest.mark.parametrize("logo", LOGOS)
async def test_a_person_sees_which_app_it_is(tmp_path: Path, chromium: Browser, logo: str, language: str) -> None:
    """The name, the logo and the links are the app's. No script runs, and no other server is contacted."""
    async with running(tmp_path, APPS_FILE=write_app(tmp_path, logo)) as server:
        person = await sit_down(chromium, server, locale=language, viewport={"width": 360, "height": 740})
        page = person.page
        await person.open(App(server, "https://shop.example/callback", "shop").request(provider=None))
        assert LEADS[language] in await person.text()
        assert await is_drawn(page)
        links = [await link.get_attribute("href") for link in await page.get_by_role("link").all()]
        assert links[-2:] == ["https://shop.example/privacy", "https://shop.example/terms"]
        await assert_well_formed(person, language)
        await assert_readable(page)
        assert await person.fits()
        assert person.complaints == []
        assert person.strangers == []
        await person.context.close()


async def test_a_logo_elsewhere_is_loaded_and_nothing_else_is(tmp_path: Path, chromium: Browser) -> None:
    """The page's policy allows the logo's URL, but no other file of this host, and no other host."""

    async def picture(route: Route) -> None:
        await route.fulfill(body=PNG, content_type="image/png")

    async with running(tmp_path, APPS_FILE=write_app(tmp_path, ELSEWHERE)) as server:
        person = await sit_down(chromium, server)
        await person.context.route(lambda url: url.startswith("https://"), picture)
        page = person.page
        await person.open(App(server, "https://shop.example/callback", "shop").request(provider=None))
        drawn = await is_drawn(page)
        assert (drawn, person.complaints) == (True, [])
        assert person.strangers == [ELSEWHERE]
        for other in ("https://cdn.example/logos/other.png", "https://other.example/logos/a;b.png"):
            with_other = "url => {const i = new Image(); i.src = url; return i.decode().then(() => true, () => false)}"
            assert await page.evaluate(with_other, other) is False
        assert len([each for each in person.complaints if "Content Security Policy" in each]) == 2
        await person.open(App(server).request(provider=None))
        assert await page.locator("img").count() == 0
        assert await page.evaluate(with_other, ELSEWHERE) is False
        await person.context.close()


async def test_an_svg_that_is_opened_by_itself_runs_nothing(tmp_path: Path, chromium: Browser) -> None:
    """Otherwise its script would run on this server's origin."""
    async with running(tmp_path, APPS_FILE=write_app(tmp_path, "logo.svg")) as server:
        person = await sit_down(chromium, server)
        await person.open(App(server, "https://shop.example/callback", "shop").request(provider=None))
        address = await person.page.locator("img.app-logo").get_attribute("src")
        assert address is not None
        await person.open(address)
        assert [urlsplit(url).path for url in person.requested if "from=svg" in url] == []
        assert any("Blocked script execution" in each or "script" in each for each in person.complaints)
        await expect(person.page.locator("rect")).to_have_count(1)
        await person.context.close()
