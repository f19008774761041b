"""The pages in a browser: a sign-in, a cancelled sign-in, and the documentation."""

import json

import pytest
from playwright.async_api import Browser, expect

from nextarget.errors import AccessDenied
from nextarget.model import Provider
from nextarget.registry import PROVIDERS, display_name
from nextarget.sandbox.people import PEOPLE, people_of
from nextarget.web.routes.documents import openapi_document
from tests.apps import App
from tests.e2e.conftest import Person, sit_down
from tests.running import Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPERATIONS = [
    f"operations-{operation['tags'][0]}-{operation['operationId']}"
    for item in json.loads(openapi_document())["paths"].values()
    for operation in item.values()
    if "operationId" in operation
]
LOOKS_OF_BUTTONS = """buttons => buttons.map(button => {
    const {backgroundColor, borderColor, color, fontWeight, borderRadius} = getComputedStyle(button)
    return [button.innerHTML.trim(), backgroundColor, borderColor, color, fontWeight, borderRadius]
})"""


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_person_signs_in_with_a_click_on_their_name(person: Person, provider: Provider) -> None:
    """The way is from the home page over the provider's page to the profile, and the token on the profile works."""
    page = person.page
    await person.open("/")
    await page.click(f"text=Continue with {display_name(provider)}")
    await expect(page.get_by_role("note")).to_have_text(f"Sandbox: not {display_name(provider)}")
    assert await page.locator("button.person").count() == len(people_of(provider))
    await person.choose("Ada Lovelace")

    await expect(page.get_by_role("heading")).to_have_text("You are signed in")
    text = await person.text()
    assert "ada@lovelace.example" in text
    assert display_name(provider) in text
    await page.click("summary")
    token = await page.inner_text("#access-token")
    answer = await page.request.get(f"{person.url}/users/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200
    assert (await answer.json())["provider"] == provider
    [cookie] = await person.context.cookies()  # the cookie of this login, which no script can read
    assert cookie["httpOnly"]
    assert person.complaints == []
    assert person.strangers == []


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_who_cancels_is_told_what_to_do(person: Person, provider: Provider) -> None:
    """Cancel leads to a page with a sentence and the request id. A new sign-in works."""
    page = person.page
    await person.open("/")
    await page.click(f"text=Continue with {display_name(provider)}")
    async with page.expect_response(lambda response: "/callback?" in response.url) as callback:
        await person.choose("Cancel")
    response = await callback.value
    assert response.status == 403
    await expect(page.get_by_role("heading")).to_have_text(AccessDenied.title)
    text = await person.text()
    assert AccessDenied.sentence in text
    assert response.headers["x-request-id"] in text
    assert person.strangers == []
    assert [complaint for complaint in person.complaints if "403" not in complaint] == []

    await person.open("/")
    await page.click(f"text=Continue with {display_name(provider)}")
    await person.choose("Ada Lovelace")
    await expect(page.get_by_role("heading")).to_have_text("You are signed in")


@pytest.mark.slow
async def test_a_fault_that_is_chosen_goes_wrong_on_a_page(person: Person) -> None:
    """The account page offers the faults, and the result of a fault is an error page."""
    page = person.page
    await person.open("/auth/google/start?mode=redirect")
    await page.select_option("select", "bad_signature")
    await page.click("text=Ada Lovelace")
    await expect(page.get_by_role("heading")).to_have_text("Identity could not be verified")


@pytest.mark.slow
async def test_going_back_after_signing_in_starts_afresh(person: Person) -> None:
    """The back button leads to the account page, and a page says that its login is finished."""
    page = person.page
    await person.open("/")
    await page.click("text=Continue with Google")
    await page.click("text=Ada Lovelace")
    await expect(page.get_by_role("heading")).to_have_text("You are signed in")
    await page.go_back()
    await expect(page.get_by_role("note")).to_have_text("Sandbox: not Google")
    await page.click("text=Grace Hopper")
    await expect(page.get_by_role("heading")).to_have_text("Sign-in finished")


@pytest.mark.slow
async def test_the_documentation_shows_every_operation_and_asks_nobody_else(person: Person) -> None:
    """Swagger UI loads only from this server, and breaks no policy."""
    await person.open("/docs")
    await expect(person.page.locator(".opblock")).to_have_count(len(OPERATIONS))
    assert len(OPERATIONS) >= 5
    shown = await person.page.locator(".opblock").evaluate_all("blocks => blocks.map(block => block.id)")
    assert sorted(shown) == sorted(OPERATIONS)
    assert person.complaints == []
    assert person.strangers == []


@pytest.mark.slow
async def test_an_operation_can_be_tried_out(person: Person) -> None:
    """'Try it out' on /health shows the server's answer."""
    await person.open("/docs")
    block = person.page.locator("[id$='-health']")
    await block.locator(".opblock-summary-control").click()
    await block.get_by_role("button", name="Try it out").click()
    await block.get_by_role("button", name="Execute").click()
    await expect(block.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    await expect(block.locator(".live-responses-table")).to_contain_text('"status": "ok"')
    assert person.complaints == []
    assert person.strangers == []


@pytest.mark.slow
async def test_every_page_fits_a_phone_and_works_without_javascript(phone_user: Person, server: Server) -> None:
    """On 360 pixels, also with the longest email, no page scrolls sideways or needs a script."""
    page, stops = phone_user.page, ["/", *(f"/auth/{provider}/start?mode=redirect" for provider in PROVIDERS)]
    stops += ["/auth/google/start?mode=nonsense", "/sandbox/google/authorize?client_id=x"]
    for path in stops:
        await phone_user.open(path)
        assert await phone_user.fits(), path
    for key in ("max", "bobby"):
        await phone_user.open("/")
        await page.click("text=Continue with Google")
        await page.click(f"button[value={key}]")
        await expect(page.get_by_role("heading")).to_have_text("You are signed in")
        await page.click("summary")
        assert await phone_user.fits(), key
        assert PEOPLE[key].email in await phone_user.text()
    assert phone_user.strangers == []
    assert [complaint for complaint in phone_user.complaints if "400" not in complaint] == []


@pytest.mark.slow
async def test_what_is_on_a_page_can_be_reached_with_the_keyboard(person: Person) -> None:
    """Tab and Enter are enough to sign in."""
    page = person.page
    await person.open("/")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading")).to_have_text("Choose an account")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading")).to_have_text("You are signed in")


@pytest.mark.slow
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
async def test_the_buttons_of_the_sandbox_are_those_of_the_product(
    chromium: Browser, server: Server, color_scheme: str
) -> None:
    """A button has the provider's mark and colours, as on the page to choose a provider."""
    person = await sit_down(chromium, server, color_scheme=color_scheme)
    looks = []
    for path in ("/", App(server).request(provider=None)):
        await person.open(path)
        looks.append(await person.page.locator(".choice").evaluate_all(LOOKS_OF_BUTTONS))
    assert looks[0] == looks[1]
    assert len(looks[0]) == len(PROVIDERS)
    assert person.complaints == []
    await person.context.close()


@pytest.mark.slow
async def test_the_documentation_is_dark_for_who_wants_it_dark(chromium: Browser, server: Server) -> None:
    """Dark ground and light text, as on the other pages."""
    for color_scheme in ("light", "dark"):
        person = await sit_down(chromium, server, color_scheme=color_scheme)
        await person.open("/docs")
        await expect(person.page.locator(".opblock").first).to_be_visible()
        ground, ink = await person.page.evaluate(
            "[document.body, document.querySelector('.info .title')]"
            ".map((e, i) => getComputedStyle(e)[i ? 'color' : 'backgroundColor'].match(/[0-9]+/g)[0] * 1)"
        )
        assert (ground < ink) is (color_scheme == "dark")
        assert person.complaints == []
        await person.context.close()
