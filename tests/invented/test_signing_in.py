"""People sign in through a provider that the program does not contain."""

from pathlib import Path

import pytest

from nextarget.sandbox.people import PEOPLE, Fault
from tests.apps import App, assert_oauth_error, links_of
from tests.faults import check_in_every_flow, check_sdk
from tests.invented import NAME
from tests.running import Answer, Browser, Form, Server, open_browser, query_of, running

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"


async def form_of(browser: Browser, auth_url: str, person: str = "ada", fault: str | None = None) -> Form:
    """The form that the provider makes the person's browser post."""
    answer = await browser.get(f"{auth_url}&person={person}" + (f"&fault={fault}" if fault else ""))
    assert answer.status == 200, answer.text
    return Form(answer.text)


async def come_back(browser: Browser, form: Form) -> Answer:
    """Post the form as from another site, and follow the redirect."""
    posted = await browser.ask("POST", form.action, data=form.fields)
    assert posted.status == 303, posted.text
    return await browser.get(posted.headers["Location"])


async def sign_in(server: Server, person: str = "ada", fault: str | None = None) -> Answer:
    """Run a whole login of the JSON flow. Return the callback's answer."""
    return await come_back(server, await form_of(server, (await server.begin("parrot"))["auth_url"], person, fault))


async def test_a_tool_signs_in(parrot_server: Server) -> None:
    """The JSON flow gives tokens, and the profile names the provider. The provider sends `email_verified` as text."""
    answer = await sign_in(parrot_server)
    assert answer.status == 200, answer.text
    assert (answer.json["provider"], answer.json["email"]) == ("parrot", PEOPLE["ada"].email)
    profile = (await parrot_server.me(answer.json["access_token"])).json
    assert (profile["provider"], profile["email_verified"]) == ("parrot", True)


async def test_the_email_of_the_first_sign_in_stays(parrot_server: Server) -> None:
    """Later id_tokens have no email. The person is still the same user, with the same email."""
    first, second = [(await sign_in(parrot_server, "grace")).json for _ in range(2)]
    assert first["user_id"] == second["user_id"]
    assert first["email"] == second["email"] == PEOPLE["grace"].email
    assert first["email_verified"] is second["email_verified"] is False


async def test_an_app_signs_in(parrot_server: Server) -> None:
    """In the app flow, our Continue page comes first, since this provider cannot be made to ask the person. Then
    come the form and our code."""
    async with open_browser(parrot_server.url) as browser:
        app = App(browser)
        page = await browser.get(app.request(provider="parrot"))
        assert "Continue with Parrot" in page.text
        [link] = links_of(page.text)
        answer = await come_back(browser, await form_of(browser, link))
        assert answer.status == 302
        back = query_of(answer.headers["Location"])
        assert back["state"] == app.state
        tokens = await app.redeem(back["code"])
        assert (tokens.status, tokens.json["provider"]) == (200, "parrot")


async def test_a_person_can_choose_the_provider(parrot_server: Server) -> None:
    """The page lists the provider beside the other ones, by its display name."""
    page = await parrot_server.get(
        App(parrot_server).request(provider=None, redirect_uri="https://app.example/callback")
    )
    assert all(f"Continue with {name}" in page.text for name in ("Google", "Facebook", "Parrot"))
    home = (await parrot_server.get("/")).text
    assert 'href="/auth/parrot/start?mode=redirect"' in home
    assert "/sandbox/parrot/sdk?person=ada" in home


@pytest.mark.parametrize(("state", "begun"), [("s", 3), ("s" * 1500, 1)], ids=["small", "large"])
async def test_every_link_of_the_page_to_choose_works(parrot_server: Server, state: str, begun: int) -> None:
    """Facebook, Apple and this provider may send the person back without asking, so the page itself begins their
    logins. Each needs its cookie. If the cookies are too large for one answer, a link leads to the page of its provider
    instead."""
    async with open_browser(parrot_server.url) as browser:
        app = App(browser)
        app.state = state
        page = await browser.get(app.request(provider=None))
        assert len(page.headers.getall("Set-Cookie")) == begun
        _, facebook, _, parrot = links_of(page.text)
        if begun == 1:
            [parrot] = links_of((await browser.get(parrot)).text)
        facebook_answer = await browser.get(await browser.approve(facebook))
        parrot_answer = await come_back(browser, await form_of(browser, parrot))
        for answer in (facebook_answer, parrot_answer):
            assert answer.status == 302, answer.text
            back = query_of(answer.headers["Location"])
            assert (back["state"], "code" in back) == (state, True)


async def test_a_person_who_says_no_is_told_to_the_app(parrot_server: Server) -> None:
    """The provider has its own word for this, and the app gets the standard error."""
    async with open_browser(parrot_server.url) as browser:
        app = App(browser)
        answer = await come_back(browser, await form_of(browser, await app.begin(provider="parrot"), "cancel"))
        assert query_of(answer.headers["Location"])["error"] == "access_denied"
        assert "user_cancelled" not in answer.headers["Location"]


async def test_the_sdk_of_the_provider_signs_in(parrot_server: Server) -> None:
    """In native sign-in, an id_token for the app's client id with our nonce is accepted once."""
    nonce = (await parrot_server.ask("POST", "/auth/nonce")).json["nonce"]
    sdk = await parrot_server.get(f"/sandbox/parrot/sdk?person=ada&nonce={nonce}")
    form = {
        "grant_type": EXCHANGE,
        "client_id": "nextarget-app",
        "subject_issuer": "parrot",
        "subject_token_type": ID_TOKEN,
        "subject_token": sdk.json["id_token"],
    }
    answer = await parrot_server.ask("POST", "/auth/token", data=form)
    assert (answer.status, answer.json["provider"]) == (200, "parrot")
    assert_oauth_error(await parrot_server.ask("POST", "/auth/token", data=form), "invalid_request")


@pytest.mark.parametrize("fault", ["bad_signature", "wrong_audience", "wrong_nonce", "expired"])
async def test_a_forged_identity_is_rejected(parrot_server: Server, fault: str) -> None:
    """Every rule about id_tokens holds for the new provider too."""
    assert (await sign_in(parrot_server, fault=fault)).code == "identity_rejected"


async def test_a_client_secret_of_another_key_is_no_fault_of_the_person(tmp_path: Path) -> None:
    """The provider checks the secret's signature. The person reads that the provider failed."""
    async with running(tmp_path, PARROT_KEY_ID="ANOTHERKEY") as server:
        assert (await sign_in(server)).code == "provider_failed"


async def test_nothing_but_a_callbacks_parameters_gets_into_a_url(parrot_server: Server) -> None:
    """The form has the person's name and email beside the code, and URLs get into histories and logs."""
    form = await form_of(parrot_server, (await parrot_server.begin("parrot"))["auth_url"])
    assert "email" in form.fields["user"]
    posted = await parrot_server.ask("POST", form.action, data=form.fields | {"id_token": "a.b.c"})
    assert query_of(posted.headers["Location"]).keys() == {"state", "code"}
    assert posted.headers["Location"].startswith("/auth/parrot/callback?")
    assert "no-store" in posted.headers["Cache-Control"]


@pytest.mark.parametrize("character", ["x", "é", "あ", "🦜", "%"])
async def test_the_longest_error_and_code_lead_to_the_callback(parrot_server: Server, character: str) -> None:
    """The server never redirects to a URL that is too long for itself. The person still gets the provider's error."""
    form = await form_of(parrot_server, (await parrot_server.begin("parrot"))["auth_url"])
    words = dict.fromkeys(("error_reason", "error_code"), "%" * 200) | {"error": "access_denied", "code": "%" * 2048}
    words |= dict.fromkeys(("error_description", "error_message"), character * 2048) | {"iss": "%" * 255}
    posted = await parrot_server.ask("POST", form.action, data=form.fields | words)
    assert (posted.status, len(posted.headers["Location"]) < 8000) == (303, True)
    posted = await parrot_server.ask("POST", form.action, data=form.fields | words | {"iss": ""})
    assert (await parrot_server.get(posted.headers["Location"])).code == "access_denied"
    coded = form.fields | {"code": "%" * 2048, "error_description": character * 2048}
    posted = await parrot_server.ask("POST", form.action, data=coded)
    assert (await parrot_server.get(posted.headers["Location"])).code != "invalid_request"


@pytest.mark.parametrize(
    "fields", [{}, {"state": "x y", "code": "c"}, {"code": "c"}, {"state": "s"}, {"state": "s", "code": "é"}]
)
async def test_a_form_that_is_no_callback_is_refused(parrot_server: Server, fields: dict[str, str]) -> None:
    """The server refuses it without a redirect."""
    assert (await parrot_server.ask("POST", "/auth/parrot/callback", data=fields)).code == "invalid_request"


async def test_only_a_provider_that_posts_is_listened_to(parrot_server: Server) -> None:
    """The other providers come back by GET, so a form for them is not a callback."""
    answer = await parrot_server.ask("POST", "/auth/google/callback", data={"state": "s", "code": "c"})
    assert (answer.status, answer.code) == (405, "method_not_allowed")


async def test_a_login_that_is_bound_to_a_browser_needs_its_cookie(parrot_server: Server) -> None:
    """The redirect leads the browser to the GET. Without the login's cookie there, no one is signed in."""
    async with open_browser(parrot_server.url) as browser:
        begun = await browser.get("/auth/parrot/start?mode=redirect")
        form = await form_of(browser, begun.headers["Location"])
        async with open_browser(parrot_server.url) as other:
            assert (await come_back(other, form)).code == "invalid_state"
        assert (await come_back(browser, form)).status == 200


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.BUSY, Fault.CODE_USED, Fault.BAD_SIGNATURE, Fault.CLOCK_SKEW])
async def test_the_faults_of_the_provider_go_through_every_flow(
    parrot_server: Server, fault: Fault, subtests: pytest.Subtests
) -> None:
    """The matrix of faults and flows covers a new provider without a change."""
    await check_in_every_flow(parrot_server, NAME, fault, subtests)


async def test_the_faults_of_its_sdk_end_as_stated(parrot_server: Server, subtests: pytest.Subtests) -> None:
    """The same for native sign-in."""
    await check_sdk(parrot_server, NAME, "person=ada&nonce=$NONCE", subtests)
