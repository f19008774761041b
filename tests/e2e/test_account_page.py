"""The account page in a browser: every provider, the keyboard alone, both languages, and attacks by another site."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from nextarget.model import Provider
from nextarget.registry import PROVIDERS, display_name
from nextarget.storage.rows import users
from nextarget.web.pages import texts
from tests.apps import App
from tests.browsing import EVIL
from tests.e2e.conftest import Person, another_site, sit_down
from tests.e2e.test_app_pages import LANGUAGES, SCHEMES, assert_readable, assert_well_formed, other_complaints
from tests.running import Server, open_browser
from tests.web.test_revocations import counted, settled

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

HANG_SECONDS = 30
PHONE = {"width": 360, "height": 740}


async def has_account(server: Server, user_id: str) -> bool:
    return await server.runtime.database.read(users.get, user_id) is not None


async def sign_in(person: Person, provider: str = "google", path: str = "/account") -> None:
    await person.open(path)
    name = display_name(Provider(provider))
    await person.page.locator(f"a.choice.{provider}").click()
    await expect(person.page.get_by_role("note")).to_have_text(f"Sandbox: not {name}")
    await person.choose("Ada Lovelace")


@pytest_asyncio.fixture(loop_scope="session")
async def evil_port() -> AsyncIterator[int]:
    """A site of an attacker, whose page the test fills."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text='<!doctype html><title>Kittens</title><link rel="icon" href="data:,">',
                            content_type="text/html")  # fmt: skip

    async with another_site(page) as port:
        yield port


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_person_deletes_the_account_on_a_phone(server: Server, phone_user: Person, provider: Provider) -> None:
    """From the public address over the provider's page to the page that says what was deleted, with and without
    JavaScript. Every page fits."""
    tokens, revoked = (await server.sign_in(provider)).json, await counted(server, "revoked")
    page = phone_user.page
    await sign_in(phone_user, provider, "/account/delete")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your account")
    assert page.url == f"{server.url}/account#", "without Facebook's fragment (#_=_)"
    assert await phone_user.fits()
    assert tokens["email"] in await phone_user.text()
    await page.get_by_role("link", name="Delete your account").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Delete your account")
    assert await phone_user.fits()
    assert await has_account(server, tokens["user_id"])
    await page.get_by_role("button", name="Delete the account now").click()
    await expect(page.get_by_role("heading")).to_have_text("Deletion of your data")
    assert await phone_user.fits()
    assert not await has_account(server, tokens["user_id"])
    await settled(server)
    assert await counted(server, "revoked") == revoked + (provider == "apple")
    await page.reload()
    assert "was deleted on" in await phone_user.text()
    assert not [cookie for cookie in await phone_user.context.cookies() if cookie["name"] == "nextarget-account"]
    assert all(cookie["httpOnly"] for cookie in await phone_user.context.cookies())
    await phone_user.open("/account")
    await expect(page.get_by_role("link", name=f"Continue with {display_name(provider)}")).to_be_visible()
    assert phone_user.complaints == []
    assert phone_user.strangers == []


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_keyboard_is_enough(server: Server, person: Person, provider: Provider) -> None:
    """Tab, Enter and Space sign in, end sessions, and delete the account; the focus is always seen."""
    tokens = [(await server.sign_in(provider)).json for _ in range(2)]
    page = person.page
    await person.open("/account")
    for name in PROVIDERS:
        await page.keyboard.press("Tab")
        if name is provider:
            break
    await _press(page, f"Continue with {display_name(provider)}", "Enter")
    await expect(page.get_by_role("note")).to_have_text(f"Sandbox: not {display_name(provider)}")
    await page.locator("button.person").first.focus()
    await page.keyboard.press("Enter")
    if provider == "apple":
        await page.get_by_role("button", name="Send the answer").press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your account")

    await page.keyboard.press("Tab")
    await _press(page, "End", "Enter")
    await expect(page.locator(".sessions li")).to_have_count(1)
    assert (await server.me(tokens[0]["access_token"])).status == 401
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await _press(page, "End all sessions", "Space")
    await expect(page.locator(".sessions li")).to_have_count(0)
    await page.keyboard.press("Tab")
    await _press(page, "Delete your account", "Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Delete your account")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await _press(page, "Delete the account now", "Enter")
    await expect(page.get_by_role("heading")).to_have_text("Deletion of your data")
    assert not await has_account(server, tokens[0]["user_id"])
    assert person.complaints == []


async def _press(page: Page, name: str, key: str) -> None:
    """Press a key on the link or button that has the focus, which must have this text and be marked."""
    focused = page.locator(":focus-visible")
    assert await focused.inner_text() == name
    assert await focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    await page.keyboard.press(key)


@LANGUAGES
@SCHEMES
async def test_every_page_is_readable_by_everybody(
    chromium: Browser, server: Server, language: str, color_scheme: str
) -> None:
    """All pages, in both languages, light and dark, on a phone: contrast, headings, names, and room to tap."""
    async with open_browser(server.url) as browser:
        await App(browser).sign_in(device_name="Ada's phone with a name that is rather long for such a small screen")
    await server.sign_in()
    reader = await sit_down(chromium, server, locale=language, color_scheme=color_scheme, viewport=PHONE)
    page = reader.page

    async def check(key: str) -> None:
        await expect(page.get_by_role("heading", level=1)).to_have_text(texts.text(key, language))
        assert await page.locator("html").get_attribute("lang") == language
        assert await page.get_by_role("main").count() == 1
        assert await page.locator("script, [style], [onclick], style").count() == 0
        assert await reader.fits()
        await assert_readable(page)
        for control in (await page.get_by_role("link").all()) + (await page.get_by_role("button").all()):
            assert (await control.inner_text()).strip()
            box = await control.bounding_box()
            assert box is not None
            assert box["height"] >= 44

    await reader.open("/account/delete")
    await check("account_delete_title")
    await reader.open("/account")
    await check("account_title")
    await sign_in(reader)
    await check("account_title")
    assert len(await page.locator(".sessions li").all()) == 2
    names = [await button.get_attribute("aria-label") for button in await page.locator(".sessions button").all()]
    assert len(set(names)) == 2, "a screen reader tells the buttons apart"
    await page.locator("a.danger").click()
    await check("account_delete_title")
    await page.locator("button.danger").click()
    await assert_well_formed(reader, language)
    await reader.open("/account")
    await page.locator("a.choice.google").click()
    await reader.choose("Ada Lovelace")
    await check("account_none_title")
    assert other_complaints(reader) == []
    assert reader.strangers == []
    await reader.context.close()


@pytest.mark.parametrize("path", ["/account", "/account/delete"])
@pytest.mark.parametrize("host", [EVIL, "localhost", "127.0.0.1"])
async def test_a_form_of_another_site_does_nothing(
    server: Server, person: Person, evil_port: int, host: str, path: str
) -> None:
    """CSRF, tried for real: another site posts the form, with a token if it had one. The browser sends no cookie, or
    says where the form is from: `localhost` is another site, 127.0.0.1 with another port is the same site but another
    origin, where the cookie comes along."""
    tokens = (await server.sign_in()).json
    await sign_in(person)
    page = person.page
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your account")
    token = await page.locator("input[name=token]").first.get_attribute("value")
    await page.goto(f"http://{host}:{evil_port}/")
    for stolen in ("", token):
        async with page.expect_response(lambda answer: answer.request.method == "POST") as waiting:
            await page.evaluate(
                """([action, token]) => {
                    const form = document.createElement("form")
                    form.method = "post"
                    form.action = action
                    for (const [name, value] of Object.entries({token, action: "end_all"})) {
                        const field = document.createElement("input")
                        field.name = name
                        field.value = value
                        form.append(field)
                    }
                    document.body.append(form)
                    HTMLFormElement.prototype.submit.call(form)
                }""",
                [server.url + path, stolen],
            )
        response = await waiting.value
        assert response.status == 403
        await expect(page.get_by_role("heading")).to_have_text("Form not accepted")
        await page.goto(f"http://{host}:{evil_port}/")
    assert await has_account(server, tokens["user_id"])
    assert (await server.me(tokens["access_token"])).status == 200
    await person.open("/account")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your account")
    await expect(page.locator(".sessions li")).to_have_count(1)


@pytest.mark.parametrize("path", ["/account", "/account/delete"])
@pytest.mark.parametrize("host", [EVIL, "127.0.0.1"])
async def test_no_other_site_can_frame_the_page(
    server: Server, person: Person, evil_port: int, host: str, path: str
) -> None:
    """Clickjacking, tried for real: the frame stays empty, also where the cookie would come along."""
    await server.sign_in()
    await sign_in(person)
    await expect(person.page.get_by_role("heading", level=1)).to_have_text("Your account")
    await person.page.goto(f"http://{host}:{evil_port}/")
    before = len(person.complaints)
    await person.page.evaluate(
        """url => new Promise(done => {
            const frame = document.createElement("iframe")
            frame.onload = () => done(true)
            frame.src = url
            document.body.append(frame)
        })""",
        server.url + path,
    )
    [frame] = [each for each in person.page.frames if each is not person.page.main_frame]
    async with asyncio.timeout(HANG_SECONDS):
        while not frame.url:
            await asyncio.sleep(0)
    assert frame.url.startswith("chrome-error://")
    refused = person.complaints[before:]
    assert any("frame-ancestors" in complaint or "X-Frame-Options" in complaint for complaint in refused), refused


async def test_no_other_site_can_read_or_delete_by_script(server: Server, person: Person, evil_port: int) -> None:
    """A script of another site reads nothing, and changes nothing, with or without the cookie."""
    tokens = (await server.sign_in()).json
    await sign_in(person)
    await expect(person.page.get_by_role("heading", level=1)).to_have_text("Your account")
    await person.page.goto(f"http://127.0.0.1:{evil_port}/")
    for mode in ("cors", "no-cors"):
        for path in ("/account", "/account/delete"):
            for method in ("GET", "POST"):
                read = await person.page.evaluate(
                    """async ([url, method, mode]) => {
                        const body = method === "POST" ? new URLSearchParams({action: "end_all"}) : undefined
                        try {
                            const answer = await fetch(url, {method, mode, body, credentials: "include"})
                            return await answer.text()
                        } catch (error) {
                            return ""
                        }
                    }""",
                    [server.url + path, method, mode],
                )
                assert read == ""
    assert await has_account(server, tokens["user_id"])
    assert (await server.me(tokens["access_token"])).status == 200


async def test_a_shared_computer_forgets_who_was_there(server: Server, person: Person) -> None:
    """After signing out of the page, the back button shows nothing of it."""
    await server.sign_in()
    await sign_in(person)
    page = person.page
    await page.get_by_role("button", name="Sign out of this page").click()
    await expect(page.get_by_role("link", name="Continue with Google")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("link", name="Continue with Google")).to_be_visible()
    assert "lovelace" not in await person.text()
