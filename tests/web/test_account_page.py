"""The account page: a person without an app signs in, sees what is kept, ends sessions, and deletes the account."""

from typing import Any

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS, display_name
from nextarget.storage.rows import users
from nextarget.web.pages import texts
from tests.apps import events, stands
from tests.running import Browser, Server
from tests.web.account_pages import Visitor, form_token_of, session_ids_of, shown, visit_cookie_of
from tests.web.conftest import Log
from tests.web.session_rows import everything, recorded


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
    assert (back.status, back.headers["Location"]) == (303, "/account")
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
    [event] = await recorded(server, tokens["user_id"])
    assert (event.event, event.detail) == ("user_deleted", "on the account page")
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
