"""Limits that are set by an operator, because hundreds of people may share one address."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.apps import App, refresh
from tests.running import Server, open_browser, running

Ask = Callable[[Server], Awaitable[int]]


async def _start(server: Server) -> int:
    return (await server.get("/auth/google/start")).status


async def _authorize(server: Server) -> int:
    return (await server.get("/auth/authorize")).status


async def _nonce(server: Server) -> int:
    return (await server.ask("POST", "/auth/nonce")).status


async def _callback(server: Server) -> int:
    return (await server.get("/auth/google/callback")).status


async def _token(server: Server) -> int:
    return (await server.ask("POST", "/auth/token", data={"grant_type": "authorization_code"})).status


async def _revoke(server: Server) -> int:
    return (await server.ask("POST", "/auth/revoke", data={"token": "made up"})).status


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("RATE_LIMIT_BEGIN", _start),
        ("RATE_LIMIT_BEGIN", _authorize),
        ("RATE_LIMIT_BEGIN", _nonce),
        ("RATE_LIMIT_FINISH", _callback),
        ("RATE_LIMIT_FINISH", _token),
        ("RATE_LIMIT_FINISH", _revoke),
    ],
)
@pytest.mark.parametrize("quota", [3, 150])
async def test_a_client_may_ask_as_often_a_minute_as_the_setting_says(
    tmp_path: Path, name: str, ask: Ask, quota: int
) -> None:
    """The setting may be higher than the default, for a school behind one address, or lower. One request more is
    refused."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", **{name: str(quota)}) as server:
        statuses = [await ask(server) for _ in range(quota + 1)]
    assert 429 not in statuses[:quota]
    assert statuses[quota] == 429


@pytest.mark.parametrize("quota", [3, 250])
async def test_a_session_may_refresh_as_often_a_minute_as_the_setting_says(tmp_path: Path, quota: int) -> None:
    """The limit is random between the setting and twice the setting. By default it is between 120 and 239."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_REFRESH=str(quota)) as server:
        async with open_browser(server.url) as browser:
            token = (await App(browser).sign_in())["refresh_token"]
        statuses = [(await refresh(server, token)).status for _ in range(2 * quota)]
    assert set(statuses[:quota]) == {200}
    assert statuses[-1] == 429
