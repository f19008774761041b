"""A text that is not a refresh token of an active session gets `invalid_grant`, and changes nothing."""

import base64
import json
import uuid
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nextarget.errors import InvalidGrant
from nextarget.model import Provider, User
from nextarget.services import accounts
from nextarget.storage.rows import users
from nextarget.tokens.refresh import RefreshToken, mint
from tests.apps import refresh
from tests.running import Server, running
from tests.web.session_rows import change, everything, generations, session_of

# one server for all examples, because none of them changes anything
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def refused(server: Server, token: str) -> None:
    """RFC 6749, 5.2: the token is refused. No row changes, and the answer, which is always the same, quotes nothing."""
    before = await everything(server)
    answer = await refresh(server, token)
    assert answer.status == 400
    assert answer.json == {"error": "invalid_grant", "error_description": InvalidGrant.sentence}
    assert answer.headers["Cache-Control"] == "no-store"
    assert await everything(server) == before


def changed(text: str, position: int) -> str:
    """The text with another base64url character at this position."""
    return text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]


async def test_any_change_to_a_refresh_token_makes_it_nobodys(server: Server) -> None:
    """A token with a changed, shortened or extended session id, generation or MAC is refused."""
    token, other = [(await server.sign_in()).json["refresh_token"] for _ in range(2)]
    session_id, generation, mac = token.split(".")
    forged = [
        f"{session_of(other)}.{generation}.{mac}",
        f"{uuid.uuid4()}.{generation}.{mac}",
        *(f"{session_id}.{number}.{mac}" for number in ("0", "2", "01", "-1", "+1", "1.0", " 1", "\u0661", "9" * 16)),
        *(f"{session_id}.{generation}.{changed(mac, position)}" for position in (0, 20, 42)),
        f"{session_id}.{generation}.{mac[:-1]}",
        f"{session_id}.{generation}.{mac}A",
        f"{session_id}.{generation}.{mac}=",
        f"{session_id}.{generation}.",
        f"{session_id}.{generation}",
        f"{session_id.upper()}.{generation}.{mac}",
        f"{session_id.replace('-', '')}.{generation}.{mac}",
        f" {token}",
        f"{token} ",
        f"{token}\n",
        f"{token}\x00",
        f"{token}.{mac}",
    ]
    for text in forged:
        await refused(server, text)
    assert (await refresh(server, token)).status == 200


async def test_a_mac_of_another_server_is_refused(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two installations have different secrets, so that neither accepts a token signed by the other."""
    token = (await server.sign_in()).json["refresh_token"]
    async with running(tmp_path_factory.mktemp("other")) as other:
        await refused(server, mint(other.runtime.keyring, RefreshToken(session_of(token), 1)))


@MANY
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
@example(text=".")
@example(text="..")
@example(text="\x00")
@example(text="é" * 120)
@example(text="1" * 100_000 + ".1.1")
async def test_text_of_any_kind_is_refused(server: Server, text: str) -> None:
    """Any text that a broken app may have stored gets an answer that tells the app to sign in again."""
    await refused(server, text[:60_000])


@pytest.mark.parametrize("length", [121, 4_097, 60_000])
async def test_a_huge_token_is_refused(server: Server, length: int) -> None:
    """A token of any length, up to the limit of a body, is refused."""
    token = (await server.sign_in()).json["refresh_token"]
    await refused(server, token + "A" * (length - len(token)))


async def test_more_than_a_body_may_hold_is_refused_as_such(server: Server) -> None:
    """A body over 64 KiB is not read. The answer is still an OAuth error."""
    answer = await refresh(server, "A" * 70_000)
    assert (answer.status, answer.json["error"]) == (413, "invalid_request")


@pytest.mark.parametrize("form", [{}, {"refresh_token": ""}])
async def test_a_missing_token_is_an_invalid_request(server: Server, form: dict[str, str]) -> None:
    """RFC 6749, 5.2 and 3.2: a missing token is an error, and an empty one counts as missing."""
    answer = await server.ask("POST", "/auth/token", data={"grant_type": "refresh_token"} | form)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


async def test_two_tokens_at_once_are_an_invalid_request(server: Server) -> None:
    """RFC 6749, 3.2: a parameter must not be repeated."""
    token = (await server.sign_in()).json["refresh_token"]
    pairs = [("grant_type", "refresh_token"), ("refresh_token", token), ("refresh_token", token)]
    answer = await server.ask("POST", "/auth/token", data=pairs)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert await generations(server, token) == (0, 1, 1)


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_id": "another-app"}, 401, "invalid_client"),
        ({"client_secret": "x"}, 401, "invalid_client"),
        ({"grant_type": "refresh"}, 400, "unsupported_grant_type"),
    ],
)
async def test_another_client_cannot_refresh(server: Server, changes: dict[str, str], status: int, error: str) -> None:
    """A request with another client or with a secret is refused, and the session does not change."""
    token = (await server.sign_in()).json["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "nextarget-app"} | changes
    answer = await server.ask("POST", "/auth/token", data=form)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert await generations(server, token) == (0, 1, 1)


async def test_a_session_that_never_was_is_refused(server: Server) -> None:
    """A token with a valid MAC is refused if its session does not exist, for example after a restore of an old
    backup."""
    await server.sign_in()
    await refused(server, mint(server.runtime.keyring, RefreshToken(str(uuid.uuid4()), 1)))


@pytest.mark.parametrize("generation", [0, 1])
async def test_an_expired_session_is_refused(server: Server, generation: int) -> None:
    """A token is refused from the millisecond of its session's expiry. An old token does not even end the session."""
    tokens = (await server.sign_in()).json
    session_id = session_of(tokens["refresh_token"])
    await change(server, tokens["refresh_token"], expires_at=server.runtime.clock())
    await refused(server, mint(server.runtime.keyring, RefreshToken(session_id, generation)))
    assert (await server.me(tokens["access_token"])).code == "invalid_token"


async def _revoke(server: Server, tokens: dict[str, str], _user: User) -> None:
    await server.ask("POST", "/auth/revoke", data={"token": tokens["access_token"]})


async def _delete(server: Server, _tokens: dict[str, str], user: User) -> None:
    await server.runtime.database.write(accounts.delete, user, now=server.runtime.clock())


async def _deactivate(server: Server, _tokens: dict[str, str], user: User) -> None:
    await server.runtime.database.write(accounts.set_active, user, active=False, now=server.runtime.clock())


async def _switch_off(server: Server, _tokens: dict[str, str], user: User) -> None:
    """Deactivates only the user's row, and no session."""
    await server.runtime.database.write(users.set_active, user.id, active=False)


@pytest.mark.parametrize("end", [_revoke, _delete, _deactivate, _switch_off])
async def test_no_generation_refreshes_what_has_ended(
    server: Server, end: Callable[[Server, dict[str, str], User], Awaitable[None]]
) -> None:
    """After a sign-out, a deletion or a deactivation, no token of any generation can refresh."""
    tokens = (await server.sign_in()).json
    newest = (await refresh(server, tokens["refresh_token"])).json
    user = await server.runtime.database.read(users.get, tokens["user_id"])
    assert user is not None
    await end(server, tokens, user)
    for generation in range(5):
        await refused(
            server, mint(server.runtime.keyring, RefreshToken(session_of(newest["refresh_token"]), generation))
        )
    assert (await server.me(newest["access_token"])).code == "invalid_token"


async def test_activating_again_revives_no_session(server: Server) -> None:
    """A user who was deactivated has to sign in again."""
    tokens = (await server.sign_in()).json
    user = await server.runtime.database.read(users.get, tokens["user_id"])
    assert user is not None
    for active in (False, True):
        await server.runtime.database.write(accounts.set_active, user, active=active, now=server.runtime.clock())
    await refused(server, tokens["refresh_token"])
    assert (await server.sign_in()).json["user_id"] == user.id


async def test_neither_kind_of_token_passes_for_the_other(server: Server) -> None:
    """An access token cannot refresh, and a refresh token cannot read the profile."""
    tokens = (await server.sign_in()).json
    await refused(server, tokens["access_token"])
    assert (await server.me(tokens["refresh_token"])).code == "invalid_token"
    head, claims, signature = tokens["access_token"].split(".")
    session_id = json.loads(base64.urlsafe_b64decode(claims + "=="))["sid"]
    await refused(server, f"{session_id}.1.{signature}")
    assert (await server.me(f"{head}.{claims}.{tokens['refresh_token'].split('.')[2]}")).code == "invalid_token"


async def test_providers_tokens_and_our_codes_are_no_refresh_tokens(server: Server) -> None:
    """The state of a login and a nonce are not refresh tokens either."""
    begun = await server.begin()
    nonce = (await server.ask("POST", "/auth/nonce")).json["nonce"]
    for text in (begun["state"], nonce, Provider("google")):
        await refused(server, text)
