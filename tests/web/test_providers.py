"""The list of providers, and the effects of a provider that keeps failing."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import TCPConnector

from nextarget.model import Provider
from nextarget.providers.http import breaker, client
from nextarget.providers.http.breaker import FAILURES
from nextarget.providers.http.client import POOL_SIZE
from nextarget.registry import PROVIDERS
from nextarget.settings import credentials_of
from nextarget.web.app_keys import ONLINE
from tests.running import Server, running
from tests.web.test_native import Phone


async def listed(server: Server) -> dict[str, tuple[bool, bool]]:
    """Whether every provider is configured and whether it is answering."""
    answer = await server.get("/auth/providers")
    assert answer.status == 200
    return {one["name"]: (one["configured"], one["answering"]) for one in answer.json["providers"]}


async def test_every_provider_is_listed_and_those_that_are_configured_answer(tmp_path) -> None:
    """Before the first request to a provider, it counts as answering."""
    unset = dict.fromkeys(credentials_of(Provider("facebook")), "")
    async with running(tmp_path, **unset) as server:
        assert await listed(server) == {"google": (True, True), "facebook": (False, False), "apple": (True, True)}


@pytest.mark.parametrize(("failing", "other"), [("google", "facebook"), ("facebook", "google"), ("apple", "google")])
async def test_a_provider_that_keeps_failing_is_not_asked_until_it_has_rested(
    server: Server, monkeypatch: pytest.MonkeyPatch, failing: str, other: str
) -> None:
    """Sign-ins with the failing provider are refused at once. The other provider and existing sessions work. After one
    success all sign-ins work again."""
    token = (await server.sign_in(failing)).json["access_token"]
    for _ in range(FAILURES):
        assert (await server.sign_in(failing, fault="error_500")).code == "provider_unavailable"
    assert await listed(server) == {name: (True, name != failing) for name in PROVIDERS}

    refused = await server.sign_in(failing)
    assert (refused.status, refused.code) == (503, "provider_unavailable")
    assert refused.headers["Retry-After"] == "30"
    assert (await server.sign_in(other)).status == 200
    assert (await server.me(token)).status == 200

    monkeypatch.setattr(breaker, "COOL_DOWN_SECONDS", 0)
    assert (await listed(server))[failing] == (True, True)
    assert (await server.sign_in(failing)).status == 200
    monkeypatch.undo()
    assert (await listed(server))[failing] == (True, True)


@pytest.mark.slow
async def test_made_up_codes_close_no_provider(server: Server) -> None:
    """Callbacks with made-up codes do not open the breaker, so that an attacker cannot block sign-ins."""
    for _ in range(FAILURES + 1):
        state = (await server.begin())["state"]
        refused = await server.get("/auth/google/callback", params={"state": state, "code": "made-up"})
        assert refused.code == "provider_refused"
    assert (await listed(server))["google"] == (True, True)
    assert (await server.sign_in()).status == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "setting", "other"),
    [
        ("google", "GOOGLE_TOKEN_ENDPOINT", "facebook"),
        ("facebook", "FACEBOOK_GRAPH_URL", "google"),
        ("apple", "APPLE_TOKEN_ENDPOINT", "google"),
    ],
)
async def test_a_provider_that_hangs_does_not_delay_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, setting: str, other: str
) -> None:
    """All connections to one provider are waiting. Sign-ins with the other provider, in a browser and by SDK, still
    work."""
    monkeypatch.setattr(client, "TOTAL_SECONDS", 60)  # long enough that no request times out on a slow machine
    connections, enough = 0, asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == POOL_SIZE:
            enough.set()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0, backlog=1000)
    settings = {setting: f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/x", "RATE_LIMIT_ENABLED": "false"}
    async with running(tmp_path, **settings) as server, aiohttp.ClientSession(connector=TCPConnector(limit=0)) as many:
        states = [(await server.begin(failing))["state"] for _ in range(POOL_SIZE + 20)]
        callback = f"{server.url}/auth/{failing}/callback?code=made-up&state="
        waiting = [asyncio.create_task(many.get(callback + state)) for state in states]
        await enough.wait()
        assert (await server.sign_in(other)).status == 200
        assert (await Phone(server).sign_in(other))["provider"] == other
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    silent.close()


async def test_each_provider_is_asked_over_connections_of_its_own(server: Server) -> None:
    """Every provider has its own pool of connections, so that one that hangs does not block another."""
    sign_in, native = server.app[ONLINE].sign_in, server.app[ONLINE].native
    sessions = [provider.http._session for provider in sign_in._providers.values()]
    assert len({id(session) for session in sessions}) == len(PROVIDERS)
    assert len({id(session.connector) for session in sessions}) == len(PROVIDERS)
    assert [provider.http._session for provider in native._providers.values()] == sessions
