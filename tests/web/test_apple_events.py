"""What Apple sends when a person changes something at Apple (server-to-server notifications).

What all events of providers have in common is in `test_google_events.py`.
"""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from nextarget.model import Provider
from nextarget.sandbox.people import CAST
from nextarget.sandbox.standins.id_tokens import SigningKey
from nextarget.storage.rows import users
from nextarget.web.app_keys import SANDBOX
from tests.apps import refresh, stands
from tests.running import Answer, Server, running
from tests.tokens.forging import rs256, unsigned
from tests.web.conftest import Log
from tests.web.session_rows import DAY_MS, change, recorded
from tests.web.test_google_events import age, assert_refused, given

APPLE = Provider("apple")
ADA = next(person for person in CAST if person.key == "ada").subject(APPLE)


def event(server: Server, kind: str = "consent-revoked", **members: Any) -> dict[str, Any]:
    """An event about Ada, which happened now."""
    return given({"type": kind, "sub": ADA, "event_time": server.runtime.clock()} | members)


def claims(server: Server, told: Any, **members: Any) -> dict[str, Any]:
    settings, now = server.runtime.settings.providers[APPLE], server.runtime.clock() // 1000
    about = {"iss": settings.issuer, "aud": settings.client_ids[0], "iat": now, "exp": now + 86_400}
    events = json.dumps(told) if isinstance(told, dict) else told
    return given(about | {"jti": secrets.token_urlsafe(16), "events": events} | members)


def signed(server: Server, told: Any, *, key: Any = None, **members: Any) -> str:
    client: Any = server.app[SANDBOX].clients[APPLE]
    header = {"alg": "RS256", "kid": SigningKey.of(client.id_token_key).kid}
    return rs256(header, claims(server, told, **members), key or client.id_token_key)


async def send(server: Server, payload: object) -> Answer:
    return await server.ask("POST", "/auth/apple/events", json={"payload": payload})


async def has_account(server: Server, tokens: dict[str, Any]) -> bool:
    return await server.runtime.database.read(users.get, tokens["user_id"]) is not None


async def sign_in(server: Server, person: str = "ada") -> dict[str, Any]:
    """Apple's answer is a form, which the browser posts to the callback."""
    nonce = (await server.ask("POST", "/auth/nonce")).json["nonce"]
    given_to_app = (await server.get(f"/sandbox/apple/sdk?person={person}&nonce={nonce}")).json
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": given_to_app["id_token"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_issuer": "apple",
        "client_id": "nextarget-app",
    }
    answer = await server.ask("POST", "/auth/token", data=form)
    assert answer.status == 200, answer.text
    tokens: dict[str, Any] = answer.json
    return tokens


async def test_revoked_consent_ends_the_sessions_of_that_person_alone(server: Server, log: Log) -> None:
    """The person no longer uses Apple with the app. The account stays, and the person can sign in again."""
    first, second, other = await sign_in(server), await sign_in(server), await sign_in(server, "alan")
    answer = await send(server, signed(server, event(server)))
    assert (answer.status, answer.text) == (202, "")
    for ended in (first, second):
        assert (await server.me(ended["access_token"])).code == "invalid_token"
        assert (await refresh(server, ended["refresh_token"])).json["error"] == "invalid_grant"
    assert await stands(server, other)
    assert await has_account(server, first)
    newest = (await recorded(server, first["user_id"]))[0]
    assert (newest.event, newest.detail) == ("sessions_revoked", "2 ended, consent-revoked at apple")
    (line,) = log.events("security_event")
    assert (line["kind"], line["outcome"]) == ("consent-revoked", "sessions_ended")
    assert not log.holds(str(ADA))
    assert (await sign_in(server))["user_id"] == first["user_id"]


@pytest.mark.parametrize("kind", ["account-delete", "account-deleted"])
async def test_a_deleted_apple_account_deletes_the_account(server: Server, kind: str) -> None:
    """Nobody can sign in with it again. Other people keep theirs, and a copy spares a new account."""
    tokens, other = await sign_in(server), await sign_in(server, "alan")
    token = signed(server, event(server, kind))
    assert (await send(server, token)).status == 202
    assert not await has_account(server, tokens)
    deleted = (await recorded(server, tokens["user_id"]))[0]
    assert (deleted.event, deleted.detail) == ("user_deleted", f"{kind} at apple")
    assert await stands(server, other)
    again = await sign_in(server)
    assert (await send(server, token)).status == 202
    assert await has_account(server, again)


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("email-disabled", "email-disabled at apple"),
        ("email-enabled", "email-enabled at apple"),
        ("of-tomorrow", "unknown at apple, of-tomorrow"),
        ("of tomorrow\n", "unknown at apple"),
        ("ada@example.org", "unknown at apple"),
        (7, "unknown at apple"),
    ],
)
async def test_other_notifications_are_recorded(server: Server, kind: Any, detail: str, log: Log) -> None:
    """The email in them is not read, and not logged."""
    tokens = await sign_in(server)
    told = event(server, kind, email="hush4tk9@privaterelay.appleid.com", is_private_email="true")
    assert (await send(server, signed(server, told))).status == 202
    assert await stands(server, tokens)
    newest = (await recorded(server, tokens["user_id"]))[0]
    assert (newest.event, newest.detail) == ("security_event", detail)
    assert not log.holds("hush4tk9")


@pytest.mark.parametrize("in_seconds", [False, True])
async def test_a_late_notification_concerns_what_there_was(server: Server, in_seconds: bool) -> None:
    """What counts is when the person did it, and not when Apple told it: sessions, and an account, that are newer
    stay. Apple writes the time in milliseconds, and in its example in seconds."""
    old, new = await sign_in(server), await sign_in(server)
    await change(server, old["refresh_token"], created_at=server.runtime.clock() - 2 * DAY_MS)
    await age(server, old["user_id"])
    at = server.runtime.clock() - DAY_MS
    told = event(server, event_time=at // 1000 if in_seconds else at)
    assert (await send(server, signed(server, told))).status == 202
    assert await stands(server, new)
    assert not await stands(server, old)
    before = server.runtime.clock() - 30 * DAY_MS
    told = event(server, "account-delete", event_time=before // 1000 if in_seconds else before)
    assert (await send(server, signed(server, told))).status == 202
    assert await has_account(server, new)


async def test_the_services_id_is_an_audience_too(server: Server) -> None:
    """People sign in in the browser with the Services ID, and in the app with its bundle id."""
    tokens = await sign_in(server)
    audience = server.runtime.settings.providers[APPLE].client_id
    assert (await send(server, signed(server, event(server), aud=audience))).status == 202
    assert not await stands(server, tokens)


@pytest.mark.parametrize(
    ("members", "err"),
    [
        ({"iss": "https://accounts.google.com"}, "invalid_issuer"),
        ({"aud": "org.example.somebodyelse"}, "invalid_audience"),
        ({"jti": None}, "invalid_request"),
        ({"iat": None}, "invalid_request"),
        ({"events": None}, "invalid_request"),
        ({"events": "{"}, "invalid_request"),
        ({"events": "[]"}, "invalid_request"),
        ({"events": "[" * 5000}, "invalid_request"),
        ({"events": '"consent-revoked"'}, "invalid_request"),
        ({"events": 7}, "invalid_request"),
    ],
)
async def test_claims_that_do_not_fit_are_refused(server: Server, members: dict[str, Any], err: str) -> None:
    """Even with Apple's signature: a notification for another team, or a token of another kind, does nothing."""
    tokens = await sign_in(server)
    assert_refused(await send(server, signed(server, event(server), **members)), err)
    assert await stands(server, tokens)


@pytest.mark.parametrize(
    "members",
    [{"sub": None}, {"sub": 7}, {"sub": ""}, {"event_time": None}, {"event_time": "now"}, {"event_time": True}],
)
async def test_an_event_without_person_or_time_is_refused(server: Server, members: dict[str, Any]) -> None:
    """It could not be told what it concerns."""
    tokens = await sign_in(server)
    for kind in ("consent-revoked", "account-delete"):
        assert_refused(await send(server, signed(server, event(server, kind, **members))), "invalid_request")
    assert await stands(server, tokens)


async def test_a_forged_notification_does_nothing(server: Server) -> None:
    """Another key, no signature, and an id_token of Apple's, which an app could present."""
    tokens = await sign_in(server)
    told = event(server, "account-delete")
    forged = signed(server, told, key=generate_private_key(65537, 2048))
    assert_refused(await send(server, forged), "authentication_failed")
    assert_refused(await send(server, unsigned({"alg": "none", "kid": "x"}, claims(server, told))), "invalid_key")
    id_token = signed(server, told, events=None, sub=ADA)
    assert_refused(await send(server, id_token), "invalid_request")
    assert await stands(server, tokens)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"a.b.c", b'{"payload": 7}', b'{"payload": null}', b"[" * 9000])
async def test_a_body_without_payload_is_refused(server: Server, body: bytes) -> None:
    """Apple sends JSON with the token in it."""
    answer = await server.ask("POST", "/auth/apple/events", data=body, headers={"Content-Type": "application/json"})
    assert_refused(answer, "invalid_request")


async def test_a_notification_is_asked_for_again_without_keys(tmp_path: Path) -> None:
    """While Apple's keys cannot be fetched, nobody can tell whether it is genuine."""
    async with running(tmp_path, APPLE_JWKS_URI="http://127.0.0.1:1/keys") as server:
        answer = await send(server, signed(server, event(server)))
        assert (answer.status, answer.code) == (503, "provider_unavailable")


async def test_a_server_without_apple_has_no_such_route(tmp_path: Path) -> None:
    """Nothing shows that Apple exists."""
    off = {f"APPLE_{name}": "" for name in ("CLIENT_ID", "TEAM_ID", "KEY_ID", "PRIVATE_KEY", "REDIRECT_URI")}
    async with running(tmp_path, **off) as server:
        answer = await server.ask("POST", "/auth/apple/events", json={"payload": "a.b.c"})
        assert (answer.status, answer.code) == (404, "not_found")
