"""The account page: a person without an app signs in, sees what is kept, ends sessions, and deletes the account."""

import re
from html import unescape
from pathlib import Path
from typing import Any, get_args

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS, display_name
from nextarget.storage.rows import users
from nextarget.telemetry import metrics
from nextarget.web.pages import texts
from tests.apps import App, events, stands
from tests.running import Browser, Server, open_browser, query_of, running
from tests.web.account_pages import Visitor, form_token_of, session_ids_of, shown, visit_cookie_of
from tests.web.conftest import Log
from tests.web.session_rows import everything, recorded
from tests.web.test_metrics import Growth, scrape
from tests.web.test_revocations import settled


@pytest.fixture
def visitor(browser: Browser) -> Visitor:
    return Visitor(browser)


async def account_of(server: Server, provider: str = "google", person: str = "ada") -> dict[str, Any]:
    """The tokens of an app in which a person has signed in."""
    return (await server.sign_in(provider, person=person)).json


async def has_account(server: Server, user_id: str) -> bool:
    return await server.runtime.database.read(users.get, user_id) is not None


@pytest.mark.parametrize("path", ["/account", "/account/delete"])
async def test_who_is_not_signed_in_learns_what_the_page_is_for(visitor: Visitor, path: str) -> None:
    """The page says what it is for, what is deleted and what stays, and offers every provider."""
    answer = await visitor.get(path)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    text = shown(answer)
    for name in ("account_what_goes", "account_elsewhere", "account_step_delete"):
        assert texts.text(name, "en") in text
    assert "365 days" in text
    for provider in PROVIDERS:
        assert f"Continue with {display_name(provider)}" in text
    assert "<script" not in answer.text


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_person_sees_what_is_kept(server: Server, visitor: Visitor, provider: Provider) -> None:
    """After the sign-in at any provider the page shows email, provider, since when, and the sessions."""
    await account_of(server, provider)
    back = await visitor.sign_in(provider)
    assert (back.status, back.headers["Location"]) == (303, "/account#")
    answer = await visitor.get()
    text = shown(answer)
    assert "ada@lovelace.example" in text
    assert f"You sign in with {display_name(provider)}" in text
    assert len(session_ids_of(answer)) == 1
    assert "<script" not in answer.text


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_person_deletes_the_account(server: Server, visitor: Visitor, provider: Provider, log: Log) -> None:
    """Nothing of the account is left, and a page that can be loaded again says what was deleted. It is recorded."""
    tokens, other = await account_of(server, provider), await account_of(server, provider, "zoe")
    await visitor.sign_in(provider)
    asked = await visitor.get("/account/delete")
    assert "ada@lovelace.example" in shown(asked)
    assert await has_account(server, tokens["user_id"])
    answer = await visitor.send({"token": form_token_of(asked)}, "/account/delete")
    assert answer.status == 303
    assert visit_cookie_of(answer) == '""'
    assert not await has_account(server, tokens["user_id"])
    assert not await stands(server, tokens)
    assert await stands(server, other)
    for _ in range(2):
        assert "was deleted on" in shown(await visitor.get(answer.headers["Location"]))
    await settled(server)
    [event, *revoked] = sorted(await recorded(server, tokens["user_id"]), key=lambda event: event.event, reverse=True)
    assert (event.event, event.detail) == ("user_deleted", "on the account page")
    assert [event.event for event in revoked] == ["grant_revoked"] * (provider == "apple")
    [line] = log.events("account_deleted")
    assert (line["user_id"], line["provider"]) == (tokens["user_id"], provider)
    assert "Continue with" in shown(await visitor.get()), "the visit has ended with the account"
    for secret in ("lovelace", form_token_of(asked), answer.headers["Location"].rpartition("/")[2]):
        assert not log.holds(secret)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_stranger_gets_no_account_and_leaves_no_row(
    server: Server, visitor: Visitor, provider: Provider
) -> None:
    """Who signs in here without an account is told so. No row is written, and there is no visit."""
    before = await everything(server)
    answer = await visitor.sign_in(provider)
    assert answer.status == 200
    text = shown(answer)
    assert texts.text("account_none_title", "en") in text
    assert display_name(provider) in text
    assert "Set-Cookie" not in answer.headers
    assert await everything(server) == before
    assert "Continue with" in shown(await visitor.get())


async def test_one_session_can_be_ended(server: Server, visitor: Visitor) -> None:
    """That session ends, and the others stay. To end it again changes nothing."""
    tokens = [await account_of(server) for _ in range(2)]
    await visitor.sign_in()
    first, _ = session_ids_of(await visitor.get())
    for _ in range(2):
        answer = await visitor.send({"action": "end", "session_id": first})
        assert (answer.status, answer.headers["Location"]) == (303, "/account")
    assert [await stands(server, each) for each in tokens] == [False, True]
    assert len(session_ids_of(await visitor.get())) == 1
    assert len(await events(server, "session_revoked")) == 1


async def test_nobody_ends_the_session_of_another_person(server: Server, visitor: Visitor) -> None:
    """The id of another person's session changes nothing."""
    await account_of(server)
    other = await account_of(server, person="grace")
    await visitor.sign_in()
    await visitor.send({"action": "end", "session_id": other["refresh_token"].partition(".")[0]})
    assert await stands(server, other)


async def test_all_sessions_can_be_ended_and_the_visit_goes_on(server: Server, visitor: Visitor) -> None:
    """Ending all sessions ends other visits too, but not the one of the person who ends them."""
    tokens = [await account_of(server) for _ in range(2)]
    await visitor.sign_in()
    answer = await visitor.send({"action": "end_all"})
    assert answer.status == 303
    assert [await stands(server, each) for each in tokens] == [False, False]
    assert texts.text("account_no_sessions", "en") in shown(await visitor.get())
    assert (await visitor.send({}, "/account/delete")).headers["Location"].startswith("/deletion/")


async def test_who_signs_out_is_signed_out(server: Server, visitor: Visitor) -> None:
    """On a shared computer, nobody who comes later sees the page."""
    await account_of(server)
    await visitor.sign_in()
    assert visit_cookie_of(await visitor.send({"action": "sign_out"})) == '""'
    assert "Continue with" in shown(await visitor.get())


async def test_the_page_speaks_the_language_that_was_chosen(server: Server, visitor: Visitor) -> None:
    """`ui_locales` holds from the first page over the provider's page to the end, also where the browser prefers
    another language. Times are as people write them."""
    await account_of(server)
    answer = await visitor.sign_in(path="/account/delete?ui_locales=fr-CA%20fr")
    assert answer.headers["Location"] == "/account?ui_locales=fr#"
    page = await visitor.get("/account?ui_locales=fr")
    text = shown(page)
    assert "Vos sessions" in text
    assert re.search(r"depuis le (1er|[1-9][0-9]?) [a-zéû]+ 20[0-9]{2} à [0-9]{1,2}\sh\s[0-9]{2} UTC", text)
    assert 'action="/account?ui_locales=fr"' in page.text
    assert 'href="/account/delete?ui_locales=fr"' in page.text
    form = {"token": form_token_of(page)}
    ended = await visitor.send(form | {"action": "end_all"}, "/account?ui_locales=fr")
    assert ended.headers["Location"] == "/account?ui_locales=fr"
    deleted = await visitor.send({}, "/account/delete?ui_locales=fr")
    assert "ont été supprimés le" in shown(await visitor.get(deleted.headers["Location"]))
    again = await visitor.sign_in(path="/account?ui_locales=fr")
    assert texts.text("account_none_title", "fr") in shown(again)


async def test_english_times_are_as_people_write_them(server: Server, visitor: Visitor) -> None:
    """A day, a month by its name, and UTC."""
    await account_of(server)
    await visitor.sign_in()
    text = shown(await visitor.get("/account", **{"Accept-Language": "en"}))
    assert re.search(r"since [1-9][0-9]? [A-Z][a-z]+ 20[0-9]{2} at [0-9]{2}:[0-9]{2} UTC", text)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_who_cancels_finds_the_way_back_to_the_page(server: Server, visitor: Visitor, provider: Provider) -> None:
    """The error page of a login that began here leads back here, and a program gets a problem document."""
    await account_of(server, provider)
    callback = await visitor.approve(provider, "cancel", "/account?ui_locales=fr")
    answer = await visitor.get(callback)
    assert answer.status == 403
    assert "access_denied" in shown(answer)
    assert 'href="/account?ui_locales=fr"' in answer.text
    assert texts.text("account_place", "fr") in shown(answer)
    callback = await visitor.approve(provider, "cancel")
    assert (await visitor.browser.get(callback)).code == "access_denied"


async def test_a_deactivated_person_is_told_whom_to_ask(server: Server, visitor: Visitor) -> None:
    """Only the operator can activate an account, so the page opens no visit."""
    tokens = await account_of(server)
    await server.runtime.database.write(users.set_active, tokens["user_id"], active=False)
    answer = await visitor.sign_in()
    assert answer.status == 403
    assert "user_deactivated" in shown(answer)
    assert "Continue with" in shown(await visitor.get())


async def test_every_provider_is_asked_to_show_its_page(visitor: Visitor) -> None:
    """On a shared computer another person may be signed in at the provider. Google shows the choice of accounts, and
    Facebook asks for the password again."""
    assert query_of(await visitor.begin("google"))["prompt"] == "select_account"
    assert query_of(await visitor.begin("facebook"))["auth_type"] == "reauthenticate"


async def test_a_person_without_an_email_is_shown_none(server: Server, visitor: Visitor) -> None:
    """The address that was made up for the person is not shown. The page for deleting names the provider alone."""
    await account_of(server, "facebook", "katherine")
    await visitor.sign_in("facebook", "katherine")
    text = shown(await visitor.get())
    assert "Email address none" in text
    assert "noreply.invalid" not in text + shown(await visitor.get("/account/delete"))


async def test_a_prefetch_begins_no_login(visitor: Visitor) -> None:
    """A browser that asks ahead of the person gets nothing, and asks again."""
    for path in ("/account", "/account/delete"):
        answer = await visitor.get(path, **{"Sec-Purpose": "prefetch"})
        assert answer.status == 403
        assert "prefetch_refused" in shown(answer)
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "form",
    [{}, {"action": "x"}, {"action": "end"}, {"action": "end", "session_id": "\x00"}, {"action": "end_all" * 100}],
    ids=str,
)
async def test_a_malformed_form_is_refused(server: Server, visitor: Visitor, form: dict[str, str]) -> None:
    """It is a 400 on a page with a way back, and nothing has ended."""
    tokens = await account_of(server)
    await visitor.sign_in()
    answer = await visitor.send(form)
    assert answer.status == 400
    assert "invalid_request" in shown(answer)
    assert 'href="/account"' in answer.text
    assert await stands(server, tokens)


async def test_a_body_that_is_no_form_is_refused(server: Server, visitor: Visitor) -> None:
    """Another type, a coding, or too much: a 4xx each."""
    await account_of(server)
    await visitor.sign_in()
    for body, headers, status in (
        ("{}", {"Content-Type": "application/json"}, 400),
        ("a=b", {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}, 415),
        ("a" * 70_000, {"Content-Type": "application/x-www-form-urlencoded"}, 413),
        ("token=a&token=b", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
    ):
        for path in ("/account", "/account/delete"):
            answer = await visitor.browser.ask("POST", path, data=body.encode(), headers=headers)
            assert answer.status == status, body[:20]
            assert answer.headers["Content-Type"] == "application/problem+json"


async def test_without_any_provider_the_page_says_so(tmp_path: Path) -> None:
    """The server is not configured yet."""
    names = ("CLIENT_ID", "CLIENT_SECRET", "REDIRECT_URI", "TEAM_ID", "KEY_ID", "PRIVATE_KEY")
    off = {f"{provider.upper()}_{name}": "" for provider in PROVIDERS for name in names}
    async with running(tmp_path, **off) as server, open_browser(server.url) as browser:
        answer = await Visitor(browser).get()
        assert texts.text("none_configured", "en") in shown(answer)
        assert "Set-Cookie" not in answer.headers


async def test_the_only_app_gives_the_page_its_name_and_links(tmp_path: Path) -> None:
    """Its name, and its privacy policy."""
    own = {"APP_NAME": "Chirp & Co", "APP_PRIVACY_URL": "https://chirp.example/privacy"}
    async with running(tmp_path, **own) as server, open_browser(server.url) as browser:
        answer = await Visitor(browser).get("/account/delete")
        assert "what Chirp & Co keeps about you" in shown(answer)
        assert 'href="https://chirp.example/privacy"' in answer.text


async def test_of_several_apps_none_is_preferred(tmp_path: Path) -> None:
    """The service has the name of its host, and lists the apps. A session says which app it is of."""
    apps = tmp_path / "apps.toml"
    apps.write_text('[[app]]\nclient_id = "other"\nredirect_uris = ["other:/callback"]\nname = "Other"\n')
    async with running(tmp_path, APP_NAME="First", APPS_FILE=str(apps)) as server, open_browser(server.url) as browser:
        await account_of(server)
        await App(browser, "other:/callback", "other").sign_in()
        visitor = Visitor(browser)
        text = shown(await visitor.get())
        assert "what 127.0.0.1 keeps about you" in text
        assert "these apps: First, Other." in text
        await visitor.sign_in()
        text = shown(await visitor.get())
        assert "(First)" in text
        assert "(Other)" in text


async def test_what_happens_is_counted(server: Server, visitor: Visitor) -> None:
    """By action. Sign-ins are counted with all others."""
    before = await scrape(server)
    await account_of(server)
    async with open_browser(server.url) as other:
        await Visitor(other).sign_in(person="bobby")
    await visitor.sign_in()
    await visitor.send({"action": "end", "session_id": session_ids_of(await visitor.get())[0]})
    await visitor.send({"action": "end_all"})
    await visitor.send({}, "/account/delete")
    grown = Growth(before, await scrape(server))
    for action in get_args(metrics.OnAccountPage):
        assert grown.of("nextarget_account_page_total", action=action) == 1, action
    assert grown.of("nextarget_logins_total", provider="google", outcome="succeeded") == 2


async def test_the_sign_in_is_recorded_with_its_place(server: Server, visitor: Visitor, log: Log) -> None:
    """The record and the log tell it from the sign-in to an app."""
    tokens = await account_of(server)
    await visitor.sign_in()
    newest = (await recorded(server, tokens["user_id"]))[0]
    assert (newest.event, newest.session_id, newest.detail) == ("login_succeeded", None, "account page")
    assert [line.get("at") for line in log.events("login_succeeded")] == [None, "account page"]


async def test_a_label_is_shown_as_text(server: Server, browser: Browser, visitor: Visitor) -> None:
    """The name of a device comes from an app."""
    await App(browser).sign_in(device_name="<b>\"Ada's phone</b>")
    await visitor.sign_in()
    page = await visitor.get()
    assert "<b>" not in page.text
    assert "<b>\"Ada's phone</b>" in unescape(page.text)
