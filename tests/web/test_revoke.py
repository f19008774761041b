"""Revocation takes effect with the next request, on every server, whichever token was sent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nextarget
from nextarget.storage.engines.addresses import database_at
from nextarget.tokens.refresh import RefreshToken, mint
from tests.apps import refresh, stands
from tests.running import Answer, Server, running
from tests.web.conftest import Log
from tests.web.session_rows import change, everything, leave_the_window, recorded, row, session_of

HOUR_MS = 3_600_000


async def revoke(server: Server, token: str, **form: str) -> Answer:
    return await server.ask("POST", "/auth/revoke", data={"token": token} | form)


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
@pytest.mark.parametrize("hint", [None, "access_token", "refresh_token", "id_token"])
async def test_either_token_ends_its_session_everywhere(
    server: Server, second: Server, kind: str, hint: str | None
) -> None:
    """Either token ends the session with the next request, on the other server too. A wrong or unknown hint changes
    nothing."""
    tokens, other = (await server.sign_in()).json, (await server.sign_in()).json
    for one in (server, second):  # both servers have cached the access token's signature
        assert (await one.me(tokens["access_token"])).status == 200
    answer = await revoke(server, tokens[kind], **({"token_type_hint": hint} if hint else {}))
    assert (answer.status, answer.text) == (200, "")
    for one in (second, server):
        assert (await one.me(tokens["access_token"])).code == "invalid_token"
        assert (await refresh(one, tokens["refresh_token"])).json["error"] == "invalid_grant"
        assert await stands(one, other)
    newest = (await recorded(server, tokens["user_id"]))[0]
    assert (newest.event, newest.session_id) == ("session_revoked", session_of(tokens["refresh_token"]))
    assert newest.request_id == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("generation", range(5))
async def test_a_refresh_token_of_any_generation_ends_the_session(server: Server, generation: int) -> None:
    """A refresh token of any generation with a valid MAC ends its session, even if it is too old for a refresh or newer
    than the row."""
    tokens = (await server.sign_in()).json
    for _ in range(2):
        tokens = (await refresh(server, tokens["refresh_token"])).json
        await leave_the_window(server, tokens["refresh_token"])
    token = mint(server.runtime.keyring, RefreshToken(session_of(tokens["refresh_token"]), generation))
    assert (await revoke(server, token)).status == 200
    assert not await stands(server, tokens)


async def test_an_expired_access_token_ends_its_session(server: Server) -> None:
    """A person who opens the app after a week and signs out has no newer token."""
    tokens = (await server.sign_in()).json
    session_id = session_of(tokens["refresh_token"])
    long_ago = server.runtime.clock() - 168 * HOUR_MS
    expired = server.runtime.access_tokens.mint(
        user_id=tokens["user_id"], session_id=session_id, client_id="nextarget-app", now=long_ago, lifetime=3600
    ).token
    assert (await server.me(expired)).code == "invalid_token"
    assert (await revoke(server, expired)).status == 200
    assert not await stands(server, tokens)


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_tokens_under_a_previous_secret_end_their_session(tmp_path: Path, kind: str) -> None:
    """Tokens of a previous secret can still be used to sign out."""
    old, new = "first-Xq83hLr_Yc5PmBd0sJgUaE4oRtZi6NlH", "later-Lk29vNw_Tz7QdCe1uKhVbF5pSyAj8MmG"
    async with running(tmp_path, JWT_SECRET_KEY=old) as before:
        tokens = (await before.sign_in()).json
    settings = {"JWT_SECRET_KEY": new, "JWT_PREVIOUS_SECRET_KEYS": old, "PUBLIC_URL": before.url}
    async with running(tmp_path, **settings) as after:
        assert await stands(after, tokens)
        assert (await revoke(after, tokens[kind])).status == 200
        assert not await stands(after, tokens)


@pytest.mark.parametrize(
    "token", ["x", "a.b.c", "..", "é\x00", "x" * 60_000, "00000000-0000-4000-8000-000000000000.1." + "A" * 43]
)
async def test_what_is_no_token_of_ours_ends_nothing_and_is_no_error(server: Server, token: str) -> None:
    """RFC 7009, 2.2: revoking an invalid token is not an error, because the app could not act on one."""
    tokens = (await server.sign_in()).json
    before = await everything(server)
    assert (await revoke(server, token)).status == 200
    assert await everything(server) == before
    assert await stands(server, tokens)


async def test_forged_tokens_end_nothing(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Knowing a session's id is not enough to end it."""
    tokens = (await server.sign_in()).json
    session_id = session_of(tokens["refresh_token"])
    async with running(tmp_path_factory.mktemp("other"), PUBLIC_URL=server.url) as other:
        facts = {
            "user_id": tokens["user_id"],
            "session_id": session_id,
            "client_id": "nextarget-app",
            "now": server.runtime.clock(),
        }
        theirs = other.runtime.access_tokens.mint(**facts, lifetime=3600).token
        assert (await revoke(server, theirs)).status == 200
        assert (await revoke(server, mint(other.runtime.keyring, RefreshToken(session_id, 1)))).status == 200
    assert await stands(server, tokens)


async def test_revoking_twice_is_no_error_and_keeps_the_first_moment(server: Server) -> None:
    """A second revocation changes and records nothing."""
    tokens = (await server.sign_in()).json
    assert (await revoke(server, tokens["refresh_token"])).status == 200
    before = await everything(server)
    for kind in ("refresh_token", "access_token"):
        assert (await revoke(server, tokens[kind])).status == 200
    assert await everything(server) == before


@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token_type_hint": "access_token"}])
async def test_a_missing_token_is_an_invalid_request(server: Server, form: dict[str, str]) -> None:
    """RFC 7009, 2.1: the token is required."""
    answer = await server.ask("POST", "/auth/revoke", data=form)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("changes", [{"client_id": "another-app"}, {"client_secret": "x"}])
async def test_another_client_revokes_nothing(server: Server, changes: dict[str, str]) -> None:
    """RFC 7009, 2.1: the client is checked before the token."""
    tokens = (await server.sign_in()).json
    answer = await revoke(server, tokens["refresh_token"], **changes)
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert await stands(server, tokens)


async def test_signing_out_logs_no_token(server: Server, log: Log) -> None:
    """Neither valid tokens nor other texts are logged."""
    tokens = (await server.sign_in()).json
    for token in (tokens["access_token"], tokens["refresh_token"], "garbage-of-somebody-else"):
        await revoke(server, token)
        assert not log.holds(token)


async def test_a_sign_out_is_on_the_disk_when_it_is_answered(server: Server) -> None:
    """When a sign-out is answered, another connection to the database sees it."""
    tokens = (await server.sign_in()).json
    await revoke(server, tokens["refresh_token"])
    database = database_at(server.runtime.settings.database_url)
    (revoked_at,) = database.read_now(lambda db: db.execute_sql('SELECT "revoked_at" FROM "session"').fetchone())
    database.close()
    assert revoked_at is not None
    assert revoked_at == (await row(server, tokens["refresh_token"]))["revoked_at"]


async def test_an_expired_session_can_still_be_revoked(server: Server) -> None:
    """An expired session can be revoked without an error, and is marked as revoked."""
    tokens = (await server.sign_in()).json
    await change(server, tokens["refresh_token"], expires_at=server.runtime.clock() - 1)
    assert (await revoke(server, tokens["refresh_token"])).status == 200
    assert (await row(server, tokens["refresh_token"]))["revoked_at"] is not None


def nextarget_command(directory: Path, server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with the settings of the running server."""
    settings = server.runtime.settings
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(nextarget.__file__).parents[1]),
        "PUBLIC_URL": settings.public_url,
        "DATABASE_URL": settings.database_url,
        "JWT_SECRET_KEY": settings.jwt_secret_key.reveal(),
    }
    return subprocess.run(
        [sys.executable, "-m", "nextarget", *arguments],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.slow
async def test_the_terminal_ends_sessions_of_a_running_server(server: Server, tmp_path: Path) -> None:
    """`nextarget revoke-sessions` takes effect with the next request, for all devices of this user and no others."""
    devices = [(await server.sign_in()).json for _ in range(3)]
    somebody = (await server.sign_in(provider="facebook")).json
    done = nextarget_command(tmp_path, server, "revoke-sessions", devices[0]["user_id"])
    assert (done.returncode, done.stdout) == (0, "")
    assert "3 sessions ended" in done.stderr
    assert [await stands(server, tokens) for tokens in devices] == [False] * 3
    assert await stands(server, somebody)
    again = nextarget_command(tmp_path, server, "revoke-sessions", devices[0]["user_id"])
    assert (again.returncode, "0 sessions ended" in again.stderr) == (0, True)


@pytest.mark.slow
async def test_tokens_of_the_terminal_refresh_and_end_like_any_other(server: Server, tmp_path: Path) -> None:
    """`issue-token --json` returns a complete session of the running server."""
    done = nextarget_command(
        tmp_path, server, "issue-token", "--email", "ada@x.example", "--provider", "google", "--create", "--json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    tokens = json.loads(done.stdout)
    assert await stands(server, tokens)
    assert (await revoke(server, tokens["access_token"])).status == 200
    assert not await stands(server, tokens)
