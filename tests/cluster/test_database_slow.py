"""A database that does not answer: who needs it is told so in the end, and nobody else waits."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest

from tests.nodes import Service
from tests.postgres import Cluster
from tests.traffic import is_served

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
