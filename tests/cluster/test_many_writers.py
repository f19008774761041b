"""Several servers share one database, and forty clients write at the same time. No client is refused, and a kill loses
nothing."""

import asyncio
import random

import pytest

from tests.cluster.rows import is_sound, rows
from tests.nodes import Service
from tests.traffic import Attempts, Device, work

NODES, CLIENTS, CRASHES = 3, 40, 3

pytestmark = [pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True), pytest.mark.slow]


async def test_forty_clients_that_write_at_once_are_all_served(nodes: Service, url: str) -> None:
    """No write fails with `database is locked` or a 503: every client waits for its turn."""
    started = await asyncio.gather(*(nodes.start() for _ in range(NODES)))
    attempts = Attempts()
    devices = [Device(started, seed, reads=0, leaves=0.5) for seed in range(CLIENTS)]
    await work(devices, attempts, attempts.more(25 * CLIENTS))
    await asyncio.gather(*(device.check() for device in devices))
    assert attempts.outcomes.keys() == {"done"}
    for node in started:
        assert not any("locked" in line for line in node.lines)
        assert {line["status"] for line in node.events("request")} <= {200, 400, 401}  # 4xx after a sign-out
    assert is_sound(url)


async def test_nodes_killed_while_forty_clients_write_lose_nothing(nodes: Service, url: str) -> None:
    """Servers are killed one after another. The file stays intact, acknowledged changes remain, and the other servers
    are not affected."""
    started = await asyncio.gather(*(nodes.start() for _ in range(NODES)))
    attempts, chance = Attempts(), random.Random(1)
    devices = [Device(started, seed, reads=0.1, leaves=0.3) for seed in range(CLIENTS)]

    async def crashes() -> None:
        for number in range(CRASHES):
            await attempts.more(chance.randint(CLIENTS, 6 * CLIENTS))
            victim = started[number % NODES]
            await victim.kill()
            assert is_sound(url)
            await attempts.more(CLIENTS)
            await victim.start()
        await attempts.more(2 * CLIENTS)

    await work(devices, attempts, crashes())
    await asyncio.gather(*(device.check() for device in devices))
    assert attempts.outcomes.keys() == {"done", "no answer"}
    assert [line for node in started for line in node.complaints()] == []
    assert is_sound(url)
    assert rows(url, "SELECT count(*) FROM audit_event WHERE event = 'refresh_reused'") == [(0,)]
