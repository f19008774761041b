"""GET /users/me: who may read it, and which errors everyone else gets."""

import base64
import json
import uuid
from pathlib import Path

import jwt
import pytest

from nextarget.errors import InvalidToken, MissingToken
from nextarget.model import Millis, User
from nextarget.services import accounts
from nextarget.storage.rows import sessions, users
from tests.running import Answer, Server, running
from tests.web.described import DOCUMENT, METHODS, example_of
from tests.web.wire import exchange

REALM = 'Bearer realm="nextarget"'


def assert_unauthorized(answer: Answer, *, sent: bool) -> None:
    """The answer is 401 with a challenge. RFC 6750, 3.1: there is an error code only if a token was sent."""
    kind = InvalidToken if sent else MissingToken
    assert (answer.status, answer.code) == (401, kind.code)
    assert answer.json["detail"] == kind.sentence
    assert answer.headers["WWW-Authenticate"] == (f'{REALM}, error="invalid_token"' if sent else REALM)


def claims_of(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


async def user_of(server: Server, token: dict[str, str]) -> User:
    user = await server.runtime.database.read(users.get, token["user_id"])
    assert user is not None
    return user


async def test_without_a_token_one_is_asked_for(server: Server) -> None:
    """Without a header, or with another scheme, the challenge has no error code."""
    assert_unauthorized(await server.get("/users/me"), sent=False)
    for header in ("Basic YWRhOnNlY3JldA==", "Digest x", "token", "bearertoken", "", "Bearer-Token x"):
        assert_unauthorized(await server.get("/users/me", headers={"Authorization": header}), sent=False)


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Bearer x",
        "Bearer ..",
        "Bearer a.b.c",
        "Bearer " + "x" * 5000,
        "bearer {token} {token}",
    ],
)
async def test_what_is_no_token_is_refused(server: Server, header: str) -> None:
    """An empty, malformed, too long or doubled token is invalid_token. The answer does not say why."""
    token = (await server.sign_in()).json["access_token"]
    answer = await server.get("/users/me", headers={"Authorization": header.replace("{token}", token)})
    assert_unauthorized(answer, sent=True)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
async def test_the_scheme_is_read_as_the_rfc_has_it(server: Server, scheme: str) -> None:
    """RFC 9110, 11.1 and 11.4: the scheme ignores case, and several spaces may follow."""
    token = (await server.sign_in()).json["access_token"]
    assert (await server.get("/users/me", headers={"Authorization": f"{scheme} {token}"})).status == 200


async def test_a_token_elsewhere_than_in_the_header_counts_for_nothing(server: Server) -> None:
    """RFC 6750, 2.2 and 2.3, are not supported, because tokens in a query would appear in logs."""
    token = (await server.sign_in()).json["access_token"]
    assert_unauthorized(await server.get(f"/users/me?access_token={token}"), sent=False)


async def test_a_repeated_header_is_refused(server: Server) -> None:
    """With two headers, a proxy and this server could read different tokens."""
    token = (await server.sign_in()).json["access_token"]
    headers = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    assert_unauthorized(await server.get("/users/me", headers=headers), sent=True)


@pytest.mark.parametrize("octets", [b"\xff\xfe", "tökén".encode(), b"a\x80.b.c", "\u202e".encode()])
async def test_a_token_of_odd_bytes_is_refused(server: Server, octets: bytes) -> None:
    """A token is ASCII. Other bytes make it invalid, and cause no internal error."""
    request = b"GET /users/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + octets + b"\r\n\r\n"
    answer = await exchange(server, request)
    assert answer is not None
    assert (answer.status, answer.code) == (401, "invalid_token")
    assert octets not in answer.octets


async def test_a_token_beyond_the_header_limit_is_refused_unread(server: Server) -> None:
    """RFC 6585, 5: header fields have at most 8 KiB. A longer field is refused before it is read."""
    answer = await server.get("/users/me", headers={"Authorization": "Bearer " + "x" * 9000})
    assert (answer.status, answer.code) == (431, "header_fields_too_large")


@pytest.mark.parametrize(("age", "lifetime", "status"), [(3599, 3660, 200), (3600, 3600, 401), (-60, 3600, 401)])
async def test_a_token_holds_for_its_time_alone(server: Server, age: int, lifetime: int, status: int) -> None:
    """A token ends at `exp`. A token that was issued in the future is not valid yet. All times are in seconds."""
    token = (await server.sign_in()).json["access_token"]
    claims = claims_of(token)
    minted = server.runtime.access_tokens.mint(
        user_id=str(claims["sub"]),
        session_id=str(claims["sid"]),
        client_id=str(claims["client_id"]),
        now=Millis(server.runtime.clock() - age * 1000),
        lifetime=lifetime,
    )
    answer = await server.me(minted.token)
    assert answer.status == status
    if status == 401:
        assert_unauthorized(answer, sent=True)


async def test_a_token_that_somebody_else_signed_is_refused(server: Server) -> None:
    """A token that is unsigned, signed with another secret, changed, or of another type, audience or session is
    refused."""
    token = (await server.sign_in()).json["access_token"]
    header, payload, signature = token.split(".")
    claims, headers = claims_of(token), jwt.get_unverified_header(token)
    key = server.runtime.keyring.current.secret
    forged = [
        jwt.encode(claims, "", algorithm="none", headers=headers | {"alg": "none"}),
        jwt.encode(claims, "x" * 64, algorithm="HS256", headers=headers),
        jwt.encode(claims, key, algorithm="HS256", headers={"kid": headers["kid"], "typ": "JWT"}),
        jwt.encode(claims, key, algorithm="HS256", headers={"typ": headers["typ"]}),
        jwt.encode(claims | {"aud": "https://elsewhere.example"}, key, algorithm="HS256", headers=headers),
        jwt.encode(claims | {"iss": "https://elsewhere.example"}, key, algorithm="HS256", headers=headers),
        jwt.encode(claims | {"sub": str(uuid.uuid4())}, key, algorithm="HS256", headers=headers),
        jwt.encode(claims | {"sid": str(uuid.uuid4())}, key, algorithm="HS256", headers=headers),
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{payload}.{signature[:-4]}AAAA",
        f"{header}.{jwt.encode(claims | {'sub': 'x'}, 'x' * 64).split('.')[1]}.{signature}",
    ]
    honest = jwt.encode(claims, key, algorithm="HS256", headers=headers)
    assert (await server.me(honest)).status == 200, "the test's own tokens must be valid"
    for wrong in forged:
        assert_unauthorized(await server.me(wrong), sent=True)
    assert (await server.me(token)).status == 200


async def test_another_servers_token_is_refused(server: Server, tmp_path: Path) -> None:
    """Tokens are valid for one issuer, audience and secret."""
    (tmp_path / "elsewhere").mkdir()
    async with running(tmp_path / "elsewhere") as other:
        assert_unauthorized(await server.me((await other.sign_in()).json["access_token"]), sent=True)


async def test_a_deactivated_user_is_refused_with_the_very_next_request(server: Server) -> None:
    """Deactivation takes effect at once, although the token has not expired. Activation does not restore a session."""
    token = (await server.sign_in()).json
    other = (await server.sign_in(person="grace")).json
    user, database, now = await user_of(server, token), server.runtime.database, server.runtime.clock()
    assert (await server.me(token["access_token"])).status == 200
    await database.write(accounts.set_active, user, active=False, now=now)
    assert_unauthorized(await server.me(token["access_token"]), sent=True)
    await database.write(accounts.set_active, user, active=True, now=now)
    assert_unauthorized(await server.me(token["access_token"]), sent=True)
    assert (await server.me(other["access_token"])).status == 200


async def test_a_deleted_user_is_refused_with_the_very_next_request(server: Server) -> None:
    """The sessions are deleted with the user. A later sign-in makes a new user."""
    token = (await server.sign_in()).json
    user, now = await user_of(server, token), server.runtime.clock()
    assert (await server.me(token["access_token"])).status == 200
    await server.runtime.database.write(accounts.delete, user, now=now)
    assert_unauthorized(await server.me(token["access_token"]), sent=True)
    assert (await server.sign_in()).json["user_id"] != token["user_id"]


async def test_an_ended_session_is_refused_with_the_very_next_request(server: Server) -> None:
    """When a session is revoked, its tokens are refused."""
    token = (await server.sign_in()).json
    assert (await server.me(token["access_token"])).status == 200
    await server.runtime.database.write(sessions.revoke_all, token["user_id"], server.runtime.clock())
    assert_unauthorized(await server.me(token["access_token"]), sent=True)


@pytest.mark.parametrize("ending", ["deactivate", "delete"])
async def test_what_one_server_ends_is_ended_at_every_other(tmp_path: Path, ending: str) -> None:
    """Servers on one database keep no cache that could be outdated."""
    async with running(tmp_path) as one:
        same = {"PUBLIC_URL": one.url}
        async with running(tmp_path, **same) as two:
            token = (await one.sign_in()).json
            user, now = await user_of(one, token), one.runtime.clock()
            assert (await two.me(token["access_token"])).status == 200
            if ending == "delete":
                await one.runtime.database.write(accounts.delete, user, now=now)
            else:
                await one.runtime.database.write(accounts.set_active, user, active=False, now=now)
            assert_unauthorized(await two.me(token["access_token"]), sent=True)


SIGNED_IN = [
    (method.upper(), example_of(path))
    for path, item in DOCUMENT["paths"].items()
    for method in METHODS
    if {"accessToken": []} in item.get(method, {}).get("security", [])
]
"""The operations that need an access token, by the OpenAPI document."""


@pytest.mark.parametrize(("method", "path"), SIGNED_IN)
async def test_every_route_of_a_signed_in_person_asks_for_the_token(server: Server, method: str, path: str) -> None:
    """A route that is described so answers nobody without a token, and nobody with one that is not ours."""
    assert len(SIGNED_IN) >= 7
    assert_unauthorized(await server.ask(method, path), sent=False)
    refused = await server.ask(method, path, headers={"Authorization": "Bearer a.b.c"})
    assert_unauthorized(refused, sent=True)
