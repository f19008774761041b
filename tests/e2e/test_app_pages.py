"""The pages between an app and a provider, in a browser: the choice, the errors, and the way back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from nextarget.model import Provider
from nextarget.providers.http import breaker
from nextarget.providers.http.breaker import FAILURES
from nextarget.registry import PROVIDERS, display_name
from nextarget.settings import credentials_of
from nextarget.web.pages import texts
from tests.apps import App, stands
from tests.e2e.conftest import Person, sit_down
from tests.running import Server, running
from tests.web.test_removals import send, signed

pytestmark = pytest.mark.asyncio(loop_scope="session")

BACK = '<link rel="icon" href="data:,"><h1>Back in the app</h1>'
LANGUAGES = pytest.mark.parametrize("language", texts.LANGUAGES)
SCHEMES = pytest.mark.parametrize("color_scheme", ["light", "dark"])

CONTRASTS = """() => {
  const channels = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return {rgb: [r, g, b], a};
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const {rgb, a} = channels(getComputedStyle(at).backgroundColor);
      if (a === 1) return rgb;
      if (a > 0) throw new Error("half transparent");
    }
    return [255, 255, 255];
  };
  const luminance = rgb => {
    const [r, g, b] = rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const speaking = [...document.querySelectorAll("main *")].filter(element =>
    [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()));
  return speaking.map(element =>
    [element.textContent.trim(), ratio(channels(getComputedStyle(element).color).rgb, ground(element))]);
}"""
"""The contrast of every text with its background (WCAG 2.2, 1.4.3)."""


async def assert_readable(page: Page) -> None:
    contrasts = await page.evaluate(CONTRASTS)
    assert contrasts
    assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []


async def assert_well_formed(person: Person, language: str) -> None:
    """The page has what a screen reader needs: a language, a title, one heading, one landmark, and names for links."""
    page = person.page
    assert await page.locator("html").get_attribute("lang") == language
    assert await page.get_by_role("main").count() == 1
    [heading] = await page.get_by_role("heading").all_inner_texts()
    assert await page.get_by_role("heading", level=1).count() == 1
    assert await page.title() == heading
    for link in await page.get_by_role("link").all():
        assert (await link.inner_text()).strip()
    assert await page.get_by_role("img").count() == 0
    assert await page.locator("script, [style], [onclick], style").count() == 0


def other_complaints(person: Person) -> list[str]:
    """The console's messages, except the status of an error page itself."""
    return [complaint for complaint in person.complaints if "the server responded with a status of" not in complaint]


@pytest.fixture
def app(server: Server) -> App:
    return App(server)


@asynccontextmanager
async def listening_app() -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """An app on this machine (RFC 8252, 7.3): its redirect, and the answers that it gets."""
    answers: list[dict[str, str]] = []

    async def callback(request: web.Request) -> web.Response:
        answers.append(dict(request.query))
        return web.Response(text=BACK, content_type="text/html")

    listener = web.Application()
    listener.router.add_get("/callback", callback)
    runner = web.AppRunner(listener)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/callback", answers
    finally:
        await runner.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("chosen", [True, False], ids=["by the app", "by the person"])
async def test_a_person_signs_in_to_an_app(
    server: Server, phone_user: Person, provider: Provider, chosen: bool
) -> None:
    """The person goes from the app over our page and the provider's page back to the app, which gets tokens. All
    pages fit a phone."""
    page = phone_user.page
    async with listening_app() as (redirect_uri, answers):
        app = App(server, redirect_uri)
        await phone_user.open(app.request(provider=provider if chosen else None))
        if provider != Provider("google") or not chosen:
            assert await phone_user.fits()
            await page.get_by_role("link", name=f"Continue with {display_name(provider)}").click()
        await expect(page.get_by_role("note")).to_have_text(f"Sandbox: not {display_name(provider)}")
        assert await phone_user.fits()
        await phone_user.choose("Ada Lovelace")
        await expect(page.get_by_role("heading")).to_have_text("Back in the app")
        assert page.url.startswith(redirect_uri + "?code=")
        assert page.url.endswith("#"), "the app does not get Facebook's fragment (#_=_)"
        [answer] = answers
        assert (answer["state"], answer["iss"]) == (app.state, server.url)
        tokens = await app.redeem(answer["code"])
        assert tokens.json["provider"] == provider
        assert await stands(server, tokens.json)
    cookies = await phone_user.context.cookies()
    assert [cookie["httpOnly"] for cookie in cookies] == [True] * len(cookies), "no script can read the cookies"
    assert not chosen or len(cookies) == 1
    assert phone_user.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_who_says_no_comes_back_to_the_app(server: Server, person: Person, provider: Provider) -> None:
    """A cancelled sign-in is an answer for the app too."""
    async with listening_app() as (redirect_uri, answers):
        app = App(server, redirect_uri)
        await person.open(app.request(provider=None))
        await person.page.click(f"text=Continue with {display_name(provider)}")
        await person.choose("Cancel")
        await expect(person.page.get_by_role("heading")).to_have_text("Back in the app")
        [answer] = answers
        assert (answer["error"], answer["state"]) == ("access_denied", app.state)


@pytest.mark.slow
async def test_who_goes_back_to_the_page_may_choose_again(server: Server, person: Person) -> None:
    """After the back button, a sign-in with another provider works."""
    async with listening_app() as (redirect_uri, answers):
        await person.open(App(server, redirect_uri).request(provider=None))
        await person.page.click("text=Continue with Google")
        await expect(person.page.get_by_role("note")).to_have_text("Sandbox: not Google")
        await person.page.go_back()
        await person.page.click("text=Continue with Facebook")
        await person.page.click("text=Ada Lovelace")
        await expect(person.page.get_by_role("heading")).to_have_text("Back in the app")
        assert "code" in answers[0]


@pytest.mark.slow
@LANGUAGES
@SCHEMES
async def test_the_page_to_choose_is_readable_by_everybody(
    chromium: Browser, server: Server, app: App, language: str, color_scheme: str
) -> None:
    """The page is readable in all languages, light or dark, on 360 pixels, and with a screen reader."""
    reader = await sit_down(
        chromium, server, locale=language, color_scheme=color_scheme, viewport={"width": 360, "height": 740}
    )
    for provider in (None, "facebook"):
        await reader.open(app.request(provider=provider))
        await assert_well_formed(reader, language)
        await assert_readable(reader.page)
        assert await reader.fits()
        links = await reader.page.get_by_role("link").all_inner_texts()
        names = ["Facebook"] if provider else [display_name(name) for name in PROVIDERS]
        assert links == [texts.text("continue_with", language, name=name) for name in names]
        for link in await reader.page.get_by_role("link").all():
            box = await link.bounding_box()
            assert box is not None
            assert box["height"] >= 44
    assert reader.complaints == []
    assert reader.strangers == []
    await reader.context.close()


@pytest.mark.slow
@LANGUAGES
@SCHEMES
async def test_an_error_page_is_readable_by_everybody_and_says_what_to_do(
    chromium: Browser, server: Server, app: App, language: str, color_scheme: str
) -> None:
    """The page says what happened and what to do next, and has the request id of the log."""
    reader = await sit_down(
        chromium, server, locale=language, color_scheme=color_scheme, viewport={"width": 360, "height": 740}
    )
    state = urlencode({"state": "A" * 43, "code": "x"})
    for path, code in (
        (app.request(redirect_uri="https://evil.example"), "redirect_refused"),
        (f"/auth/google/callback?{state}", "invalid_state"),
        ("/auth/google/callback", "invalid_request"),
        ("/auth/google/start?mode=" + "x" * 2000, "invalid_request"),
    ):
        async with reader.page.expect_response(server.url + path) as waiting:
            await reader.open(path)
        response = await waiting.value
        assert response.status == 400
        assert response.headers["content-language"] == language
        await assert_well_formed(reader, language)
        await assert_readable(reader.page)
        assert await reader.fits()
        shown = await reader.text()
        assert code in shown
        assert response.headers["x-request-id"] in shown
        step = {"redirect_refused": "beware"}.get(code, "again")
        assert await reader.page.inner_text(".next") == texts.next_step(step, language)
    assert other_complaints(reader) == []
    assert reader.strangers == []
    await reader.context.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("locale", "language"),
    [("fr-CA", "fr"), ("de-DE", "en"), ("en-GB", "en")],
)
async def test_who_reads_neither_gets_english(
    chromium: Browser, server: Server, app: App, locale: str, language: str
) -> None:
    """The region of a language does not matter."""
    reader = await sit_down(chromium, server, locale=locale)
    await reader.open(app.request(provider=None))
    await assert_well_formed(reader, language)
    await reader.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_keyboard_is_enough(person: Person, app: App, provider: Provider) -> None:
    """Tab visits the links in order and shows the focus; Enter follows a link."""
    page = person.page
    await person.open(app.request(provider=None))
    for name in PROVIDERS:
        await page.keyboard.press("Tab")
        focused = page.locator(":focus-visible")
        assert await focused.inner_text() == f"Continue with {display_name(name)}"
        style, width = await focused.evaluate(
            "e => [getComputedStyle(e).outlineStyle, getComputedStyle(e).outlineWidth]"
        )
        assert style == "solid"
        assert float(width.removesuffix("px")) >= 2
        if name is provider:
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("note")).to_have_text(f"Sandbox: not {display_name(provider)}")
    assert person.complaints == []


@pytest.mark.slow
async def test_without_any_provider_the_page_says_so(tmp_path: Path, chromium: Browser) -> None:
    """The server is not configured yet."""
    off = {name: "" for provider in PROVIDERS for name in credentials_of(provider)}
    async with running(tmp_path, **off) as server:
        reader = await sit_down(chromium, server)
        await reader.open(App(server).request(provider=None))
        assert await reader.page.get_by_role("link").count() == 0
        assert texts.text("none_configured", "en") in await reader.text()
        await assert_well_formed(reader, "en")
        await assert_readable(reader.page)
        await reader.context.close()


@pytest.mark.slow
@LANGUAGES
@SCHEMES
async def test_the_page_about_a_deletion_is_readable_by_everybody(
    chromium: Browser, server: Server, language: str, color_scheme: str
) -> None:
    """The page needs no JavaScript, fits on a phone, and is kept in no cache."""
    url = (await send(server, "deletion", signed(server))).json["url"]
    screen = {"width": 360, "height": 740}
    reader = await sit_down(
        chromium, server, locale=language, color_scheme=color_scheme, viewport=screen, java_script_enabled=False
    )
    async with reader.page.expect_response(url) as waiting:
        await reader.page.goto(url)
    assert (await waiting.value).headers["cache-control"] == "no-store"
    assert texts.text("deletion_rest", language) in await reader.text()
    await assert_well_formed(reader, language)
    await assert_readable(reader.page)
    assert await reader.fits()
    assert reader.complaints == []
    assert reader.strangers == []
    await reader.context.close()


@LANGUAGES
@SCHEMES
async def test_the_button_of_a_provider_that_fails_is_disabled_and_works_again(
    server: Server, chromium: Browser, monkeypatch: pytest.MonkeyPatch, language: str, color_scheme: str
) -> None:
    """A screen reader hears the button, that it is disabled, and why; the keyboard passes it by. The link below loads
    the page again, and after the cool-down the button leads to the provider."""
    for _ in range(FAILURES):
        await server.sign_in("facebook", fault="error_500")
    options = {"color_scheme": color_scheme, "locale": language}
    person = await sit_down(chromium, server, **options)
    page, name = person.page, texts.text("continue_with", language, name="Facebook")
    await person.open(App(server).request(provider=None))
    await assert_well_formed(person, language)
    await assert_readable(page)
    button = page.get_by_role("link", name=name, disabled=True)
    why = texts.text("not_answering", language, name="Facebook")
    await expect(button).to_have_accessible_description(why)
    await expect(page.get_by_text(why)).to_be_visible()
    assert await page.evaluate("[...document.links].every(link => !link.textContent.includes('Facebook'))")

    monkeypatch.setattr(breaker, "COOL_DOWN_SECONDS", 0)
    await page.get_by_role("link", name=texts.text("load_again", language)).click()
    await page.get_by_role("link", name=name, disabled=False).click()
    await page.wait_for_url("**/sandbox/facebook/**")
    assert other_complaints(person) == []
    await person.context.close()
