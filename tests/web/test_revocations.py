"""Deleting an account with `POST /users/me/delete`, and revoking the grant at the provider."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from nextarget.model import Provider
from nextarget.sandbox.people import PEOPLE
from nextarget.services.platforms import revocations
from nextarget.storage.rows import audit, users
from nextarget.web.app_keys import ONLINE
from tests.running import Answer, Server, running
from tests.web.conftest import Log
from tests.web.test_native import Phone


@pytest.fixture
def phone(server: Server) -> Phone:
    return Phone(server)


async def code_of(server: Server, person: str = "mary") -> str:
    """A new authorization code that the system gave to the app."""
    return (await server.get(f"/sandbox/apple/sdk?person={person}&nonce=n")).json["authorization_code"]


async def delete(server: Server, token: str, **form: str) -> Answer:
    return await server.ask("POST", "/users/me/delete", headers={"Authorization": f"Bearer {token}"}, data=form)


HANG_SECONDS = 60


async def settled(server: Server) -> None:
    """Wait until no revocation is pending."""
    async with asyncio.timeout(HANG_SECONDS):
        while tasks := server.app[ONLINE].deletion._tasks:
            await asyncio.gather(*tasks)


async def counted(server: Server, outcome: str) -> float:
    """How many revocations have ended like this."""
    text = (await server.get("/metrics")).text
    name = f'nextarget_revocations_total{{outcome="{outcome}",provider="apple"}} '
    return next((float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0.0)


@pytest.fixture
async def token(server: Server) -> str:
    """The access token of a person of Apple's whose email comes at the first sign-in only."""
    return (await server.sign_in("apple", person="mary")).json["access_token"]


async def is_deleted(server: Server) -> bool:
    return not await server.runtime.database.read(users.page)


async def test_the_grant_is_revoked_so_that_the_next_sign_in_is_a_first_one(
    server: Server, token: str, log: Log
) -> None:
    """Apple then sends the email again. The log and the audit record say so, and neither has the code."""
    before, code = await counted(server, "revoked"), await code_of(server)
    user_id = (await server.me(token)).json["id"]
    answer = await delete(server, token, apple_authorization_code=code)
    assert (answer.status, answer.text) == (204, "")
    assert await is_deleted(server)
    await settled(server)
    assert await counted(server, "revoked") == before + 1
    assert (await server.sign_in("apple", person="mary")).json["email"] == PEOPLE["mary"].email
    events = await server.runtime.database.read(audit.latest_of_user, user_id)
    assert [(event.event, event.detail) for event in events] == [("grant_revoked", "at apple"), ("user_deleted", None)]
    assert events[0].request_id == answer.headers["X-Request-ID"]
    assert log.events("grant_revoked")[0]["user_id"] == user_id
    assert code not in log.text
    assert "sandbox." not in log.text


async def test_an_app_natively_signed_in_revokes_under_its_bundle_id(server: Server, phone: Phone) -> None:
    """Of several bundle ids, the one is found to which the code was issued."""
    token = (await phone.sign_in("apple", person="mary"))["access_token"]
    assert (await delete(server, token, apple_authorization_code=await code_of(server))).status == 204
    await settled(server)
    assert (await phone.sign_in("apple", person="mary"))["email"] == PEOPLE["mary"].email


async def test_several_bundle_ids_are_tried_in_turn(tmp_path: Path) -> None:
    """The code does not say which app got it."""
    async with running(tmp_path, APPLE_CLIENT_IDS="org.example.other,org.example.sandbox") as server:
        token = (await server.sign_in("apple", person="mary")).json["access_token"]
        before = await counted(server, "revoked")
        await delete(server, token, apple_authorization_code=await code_of(server))
        await settled(server)
        assert await counted(server, "revoked") == before + 1


@pytest.mark.parametrize("code", ["made-up", "another person's"])
async def test_a_wrong_code_stops_no_deletion_and_revokes_nothing(
    server: Server, token: str, log: Log, code: str
) -> None:
    """Neither a made-up code nor the code of somebody else, whose grant stays."""
    await server.get("/sandbox/apple/sdk?person=ada&nonce=n")
    code = await code_of(server, "ada") if code != "made-up" else code
    before = await counted(server, "refused")
    assert (await delete(server, token, apple_authorization_code=code)).status == 204
    assert await is_deleted(server)
    await settled(server)
    assert await counted(server, "refused") == before + 1
    assert log.events("grant_not_revoked")[0]["outcome"] == "refused"
    assert "/sandbox/apple/auth/revoke" not in log.text


@pytest.mark.parametrize("options", [{}, {"data": ""}, {"data": {"apple_authorization_code": ""}}])
async def test_without_a_code_it_does_what_delete_does(server: Server, token: str, options: dict[str, object]) -> None:
    """The body may be left out."""
    headers = {"Authorization": f"Bearer {token}"}
    if options.get("data") == "":
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    answer = await server.ask("POST", "/users/me/delete", headers=headers, **options)
    assert answer.status == 204
    assert await is_deleted(server)
    assert (await server.me(token)).status == 401
    assert not server.app[ONLINE].deletion._tasks


@pytest.mark.parametrize("provider", ["google", "facebook"])
async def test_a_provider_that_revokes_nothing_ignores_the_code(server: Server, provider: str) -> None:
    """Neither the field of another provider nor one of its own means anything."""
    token = (await server.sign_in(provider)).json["access_token"]
    form = {"apple_authorization_code": "x", f"{provider}_authorization_code": "y"}
    assert (await delete(server, token, **form)).status == 204
    assert await is_deleted(server)
    assert not server.app[ONLINE].deletion._tasks


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("apple_authorization_code=a&apple_authorization_code=b", "application/x-www-form-urlencoded"),
        (f"apple_authorization_code={'x' * 2049}", "application/x-www-form-urlencoded"),
        ("apple_authorization_code=%C3%A9", "application/x-www-form-urlencoded"),
        ("{}", "application/json"),
    ],
)
async def test_a_malformed_form_is_refused_and_deletes_nothing(
    server: Server, token: str, body: str, content_type: str
) -> None:
    """The app can mend its request, and nothing is lost."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
    answer = await server.ask("POST", "/users/me/delete", headers=headers, data=body)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert (await server.me(token)).status == 200


async def test_nobody_is_deleted_without_a_token(server: Server) -> None:
    """As with DELETE."""
    assert (await server.ask("POST", "/users/me/delete")).status == 401
    assert (await delete(server, "x.y.z", apple_authorization_code="c")).status == 401


async def test_a_provider_that_does_not_answer_is_asked_again(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is deleted at once. After all tries, the log says that the grant was not revoked."""
    monkeypatch.setattr(revocations, "RETRY_SECONDS", (0, 0))
    async with running(tmp_path, APPLE_REVOCATION_ENDPOINT="http://127.0.0.1:1/revoke") as server:
        token = (await server.sign_in("apple", person="mary")).json["access_token"]
        before = await counted(server, "unavailable")
        assert (await delete(server, token, apple_authorization_code=await code_of(server))).status == 204
        assert await is_deleted(server)
        await settled(server)
        assert await counted(server, "unavailable") == before + 1
        assert (await server.sign_in("apple", person="mary")).status == 200, "the breaker does not count revocations"
    assert len(log.events("revocation_postponed")) == 2
    assert len(log.requests("/sandbox/apple/auth/token")) == 3, "the code is redeemed once, beside two sign-ins"
    [given_up] = log.events("grant_not_revoked")
    assert (given_up["outcome"], given_up["provider"]) == ("unavailable", "apple")


async def test_a_provider_that_answers_later_revokes_then(
    server: Server, token: str, later: Callable[[], None]
) -> None:
    """The token that the code gave is kept in memory until the provider answers."""
    before = await counted(server, "revoked")
    await delete(server, token, apple_authorization_code=await code_of(server))
    later()
    await settled(server)
    assert await counted(server, "revoked") == before + 1


@pytest.fixture
def later(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The revocation endpoint does not answer until this function is called."""
    apple = server.app[ONLINE].deletion._providers[Provider("apple")]
    settings, real = apple._settings, apple._settings.revocation_endpoint
    monkeypatch.setattr(revocations, "RETRY_SECONDS", (0,) * 200)
    object.__setattr__(settings, "revocation_endpoint", "http://127.0.0.1:1/revoke")
    return lambda: object.__setattr__(settings, "revocation_endpoint", real)


async def test_a_server_that_stops_ends_what_waits(tmp_path: Path, log: Log) -> None:
    """It does not wait for the next try, and the log says what was given up."""
    async with running(tmp_path, APPLE_REVOCATION_ENDPOINT="http://127.0.0.1:1/revoke") as server:
        token = (await server.sign_in("apple", person="mary")).json["access_token"]
        await delete(server, token, apple_authorization_code=await code_of(server))
        while not log.events("revocation_postponed"):
            await asyncio.sleep(0)
    [given_up] = log.events("grant_not_revoked")
    assert (given_up["outcome"], given_up["reason"]) == ("dropped", "the server stops")


async def test_more_revocations_than_there_is_room_for_are_dropped(
    server: Server, token: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is deleted all the same."""
    monkeypatch.setattr(revocations, "MAX_PENDING", 0)
    assert (await delete(server, token, apple_authorization_code=await code_of(server))).status == 204
    assert await is_deleted(server)
    assert log.events("grant_not_revoked")[0]["outcome"] == "dropped"


async def test_a_key_that_apple_does_not_know_is_our_configuration(tmp_path: Path, log: Log) -> None:
    """It is not tried again."""
    async with running(tmp_path, APPLE_KEY_ID="ZZZZZZZZZZ") as server:
        nonce = (await server.ask("POST", "/auth/nonce")).json["nonce"]
        sdk = (await server.get(f"/sandbox/apple/sdk?person=mary&nonce={nonce}")).json
        tokens = (await Phone(server).exchange("apple", sdk["id_token"])).json
        before = await counted(server, "failed")
        await delete(server, tokens["access_token"], apple_authorization_code=sdk["authorization_code"])
        await settled(server)
        assert await counted(server, "failed") == before + 1
    assert "invalid_client" in log.events("grant_not_revoked")[0]["reason"]
