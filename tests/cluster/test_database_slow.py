"""A database that does not respond: requests that need it get a 503 in the end, and other requests do not wait."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest

from tests.nodes import Service
from tests.postgres import Cluster
from tests.running import Answer
from tests.traffic import is_served

pytestmark = pytest.mark.slow

WAITING = 24
"""Three times as many requests as there are connections."""


@pytest.fixture
def url(cluster: Cluster) -> str:
    """A database on a server that a test may freeze."""
    return cluster.create_database()


@contextmanager
def locked(_cluster: Cluster, url: str) -> Iterator[None]:
    """A lock as during a change of the table: every query on it waits."""
    with psycopg.connect(url) as connection:
        connection.execute('LOCK TABLE "session" IN ACCESS EXCLUSIVE MODE')
        yield


@contextmanager
def frozen(cluster: Cluster, _url: str) -> Iterator[None]:
    """The server seems to hang: its connections stay open, but nothing comes back."""
    cluster.freeze()
    try:
        yield
    finally:
        cluster.thaw()


@pytest.mark.parametrize("hindered", [locked, frozen])
async def test_a_database_that_does_not_answer_holds_up_nobody_else(
    cluster: Cluster, nodes: Service, url: str, hindered: Callable[[Cluster, str], AbstractContextManager[None]]
) -> None:
    """Meanwhile /health responds and waiting requests get a 503. Afterwards everything works without a restart."""
    node = await nodes.start()
    tokens = (await node.sign_in()).json
    with hindered(cluster, url):
        waiting = [asyncio.create_task(node.me(tokens["access_token"])) for _ in range(WAITING)]
        healthy = [(await node.get("/health")).status for _ in range(20)]
        assert not any(task.done() for task in waiting)
        assert set(healthy) == {200}
        answers = await asyncio.gather(*waiting)
        assert not any(is_served(answer) for answer in answers)
        assert (await node.get("/health")).status == 200
    while not is_served(await node.me(tokens["access_token"])):
        pass  # abandoned connections are replaced one by one
    answers = await asyncio.gather(*(node.me(tokens["access_token"]) for _ in range(WAITING)))
    assert {answer.status for answer in answers} == {200}
    assert (await node.sign_in()).status == 200
    assert node.complaints() == []


async def test_a_statement_that_only_takes_long_is_waited_for(cluster: Cluster, nodes: Service, url: str) -> None:
    """A short delay of the database fails no request."""
    node = await nodes.start()
    tokens = (await node.sign_in()).json
    with locked(cluster, url):
        waiting = [asyncio.create_task(node.me(tokens["access_token"])) for _ in range(WAITING)]
        await asyncio.to_thread(cluster.wait_until, "EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
    answers = await asyncio.gather(*waiting)
    assert {answer.status for answer in answers} == {200}


async def test_a_server_stops_in_order_though_its_database_is_silent(
    cluster: Cluster, nodes: Service, url: str
) -> None:
    """The server stops normally although its database does not respond. Waiting requests get an answer."""
    node = await nodes.start()
    tokens = (await node.sign_in()).json
    await asyncio.gather(*(node.me(tokens["access_token"]) for _ in range(WAITING)))
    with frozen(cluster, url):
        waiting = [asyncio.create_task(node.me(tokens["access_token"])) for _ in range(WAITING)]
        for _ in range(2):  # afterwards the waiting requests have arrived, because their connections are older
            assert (await node.get("/health")).status == 200
        assert await node.stop() == 0
        answers = await asyncio.gather(*waiting)
    assert not any(is_served(answer) for answer in answers)
    assert node.complaints() == []


async def test_who_hung_up_meanwhile_stands_in_nobodys_way(cluster: Cluster, nodes: Service, url: str) -> None:
    """Requests whose clients hung up are dropped when the database returns, so that a new request is served at once."""
    node = await nodes.start(DATABASE_POOL_SIZE="2")
    tokens = (await node.sign_in()).json
    crowd: list[asyncio.Task[Answer]] = []
    with locked(cluster, url):
        for busy in (1, 2):  # connections; requests that come at the same time may share one
            crowd += [asyncio.create_task(node.me(tokens["access_token"])) for _ in range(WAITING // 2)]
            waiting = f"(SELECT count(*) FROM pg_locks WHERE NOT granted) >= {busy}"
            await asyncio.to_thread(cluster.wait_until, waiting)
        for request in crowd:
            request.cancel()
        await asyncio.wait(crowd)
    assert (await node.me(tokens["access_token"])).status == 200
    assert node.complaints() == []
