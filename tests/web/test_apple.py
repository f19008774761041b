"""Signing in with Apple: emails that come once or forward, the form, cancelling, a wrong secret."""

import json
from pathlib import Path

import pytest

from nextarget.sandbox.people import PEOPLE
from tests.running import Form, Server, query_of, running
from tests.web.conftest import Log


async def test_an_email_that_comes_only_once_is_kept(server: Server) -> None:
    """Apple may send the email at the first sign-in alone. Later id_tokens without one change nothing."""
    first, second = [(await server.sign_in("apple", person="mary")).json for _ in range(2)]
    assert first["user_id"] == second["user_id"]
    assert first["email"] == second["email"] == PEOPLE["mary"].email
    assert first["email_verified"] is second["email_verified"] is True


async def test_a_person_without_an_email_at_the_first_sign_in_gets_in(server: Server) -> None:
    """The account was deleted here but not at Apple, which therefore sends no email again. The person gets a new
    account, whose email is the one that stands for none."""
    first = (await server.sign_in("apple", person="mary")).json
    bearer = {"Authorization": f"Bearer {first['access_token']}"}
    assert (await server.ask("DELETE", "/users/me", headers=bearer)).status == 204
    again = (await server.sign_in("apple", person="mary")).json
    assert again["user_id"] != first["user_id"]
    assert again["email"].endswith("@users.noreply.invalid")
    assert again["email_verified"] is False


async def test_an_address_that_forwards_is_an_email_like_any_other(server: Server) -> None:
    """`is_private_email` is not looked at; the person is verified and is the same user next time."""
    first, second = [(await server.sign_in("apple", person="hedy")).json for _ in range(2)]
    assert first["email"] == PEOPLE["hedy"].email
    assert first["email_verified"] is True
    assert first["user_id"] == second["user_id"]


async def test_the_name_in_the_form_is_never_read(server: Server, log: Log) -> None:
    """Of the field `user` nothing gets into a URL, an answer, a log line or the database."""
    auth_url = (await server.begin("apple"))["auth_url"]
    form = Form((await server.get(f"{auth_url}&person=mary")).text)
    assert json.loads(form.fields["user"]) == {"email": PEOPLE["mary"].email}
    form.fields["user"] = json.dumps({"name": {"firstName": "Quetzalcoatl", "lastName": "Unread"}})
    posted = await server.ask("POST", form.action, data=form.fields)
    assert query_of(posted.headers["Location"]).keys() == {"state", "code"}
    answer = await server.get(posted.headers["Location"])
    assert answer.status == 200
    assert "Quetzalcoatl" not in posted.headers["Location"] + answer.text + log.text


async def test_who_cancels_at_apple_is_told_so(server: Server, log: Log) -> None:
    """`user_cancelled_authorize` is Apple's word for access_denied, and the log shows it."""
    back = await server.approve((await server.begin("apple"))["auth_url"], person="cancel")
    assert query_of(back)["error"] == "user_cancelled_authorize"
    assert (await server.get(back)).code == "access_denied"
    [failed] = log.events("login_failed")
    assert "user_cancelled_authorize" in failed["reason"]


@pytest.mark.parametrize("wrong", ["APPLE_KEY_ID", "APPLE_TEAM_ID"])
async def test_a_secret_that_apple_does_not_know_is_no_fault_of_the_person(
    tmp_path: Path, log: Log, wrong: str
) -> None:
    """The person reads that the provider failed, and the log says which error it was."""
    async with running(tmp_path, **{wrong: "ZZZZZZZZZZ"}) as server:
        assert (await server.sign_in("apple")).code == "provider_failed"
    [failed] = log.events("login_failed")
    assert "invalid_client" in failed["reason"]
