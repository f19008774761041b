"""A database that does not answer: who needs it is told so in the end, and nobody else waits."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest

from tests.nodes import Service
from tests.postgres import Cluster
from tests.traffic import is_served

pytestmark = pytest.mark.slow

WAITING = 24
"""Three times as many as there are connections."""


@pytest.fixture
def url(cluster: Cluster) -> str:
    """Of a server that a test may freeze."""
    return cluster.create_database()


@contextmanager
def locked(_cluster: Cluster, url: str) -> Iterator[None]:
    """As while somebody changes a table: every query on it waits."""
    with psycopg.connect(url) as connection:
        connection.execute('LOCK TABLE "session" IN ACCESS EXCLUSIVE MODE')
        yield


@contextmanager
def frozen(cluster: Cluster, _url: str) -> Iterator[None]:
    """As when the machine hangs: connections stay open, and not even an error comes back."""
    cluster.freeze()
    try:
        yield
    finally:
        cluster.thaw()


@pytest.mark.parametrize("hindered", [locked, frozen])
async def test_a_database_that_does_not_answer_holds_up_nobody_else(
    cluster: Cluster, nodes: Service, url: str, hindered: Callable[[Cluster, str], AbstractContextManager[None]]
) -> None:
    """Meanwhile /health answers, whoever waits gets a 503, and afterwards everything works by itself."""
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
        pass  # connections that were given up are replaced one by one
    answers = await asyncio.gather(*(node.me(tokens["access_token"]) for _ in range(WAITING)))
    assert {answer.status for answer in answers} == {200}
    assert (await node.sign_in()).status == 200
    assert node.complaints() == []


async def test_a_statement_that_only_takes_long_is_waited_for(cluster: Cluster, nodes: Service, url: str) -> None:
    """A short hindrance costs time, and no request."""
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
    """Whoever restarts it at three in the morning need not kill it, and who waited gets an answer."""
    node = await nodes.start()
    tokens = (await node.sign_in()).json
    await asyncio.gather(*(node.me(tokens["access_token"]) for _ in range(WAITING)))
    with frozen(cluster, url):
        waiting = [asyncio.create_task(node.me(tokens["access_token"])) for _ in range(WAITING)]
        for _ in range(2):  # after that they have arrived, by the connections of before
            assert (await node.get("/health")).status == 200
        assert await node.stop() == 0
        answers = await asyncio.gather(*waiting)
    assert not any(is_served(answer) for answer in answers)
    assert node.complaints() == []


async def test_who_hung_up_meanwhile_stands_in_nobodys_way(cluster: Cluster, nodes: Service, url: str) -> None:
    """A crowd that gave up waiting is not served after the database has come back, but whoever asks then."""
    node = await nodes.start(DATABASE_POOL_SIZE="2")
    tokens = (await node.sign_in()).json
    with locked(cluster, url):
        crowd = [asyncio.create_task(node.me(tokens["access_token"])) for _ in range(WAITING)]
        await asyncio.to_thread(cluster.wait_until, "(SELECT count(*) FROM pg_locks WHERE NOT granted) = 2")
        for each in crowd:
            each.cancel()
        await asyncio.wait(crowd)
    assert (await node.me(tokens["access_token"])).status == 200
    assert node.complaints() == []
