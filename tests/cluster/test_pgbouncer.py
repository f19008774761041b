"""PgBouncer in transaction mode, as hosted databases have it: no statement may count on the connection before it."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.apps import App, refresh, stands
from tests.cluster.rows import rows
from tests.conftest import need_pgbouncer
from tests.nodes import DidNotStart, Node, Service
from tests.postgres import Cluster, PgBouncer
from tests.traffic import Attempts, Device, work

pytestmark = pytest.mark.slow

DEVICES = 8


@pytest.fixture
def url(cluster: Cluster) -> str:
    """The direct address, of a server that a test may stop."""
    return cluster.create_database()


@pytest.fixture
def bouncer(cluster: Cluster) -> Iterator[PgBouncer]:
    """Two connections for everybody, which is fewer than a node has threads. It gives up and retries soon."""
    need_pgbouncer()
    with PgBouncer(cluster, pool_size=2, query_wait_timeout="2", server_login_retry="1") as bouncer:
        yield bouncer


async def test_migrations_ask_for_the_direct_address(nodes: Service, bouncer: PgBouncer, url: str) -> None:
    """Their lock belongs to a session, which PgBouncer lends to others: the server says so, and changes nothing."""
    with pytest.raises(DidNotStart, match="Run `nextarget init-db` once"):
        await nodes.start(DATABASE_URL=bouncer.in_front_of(url))
    assert rows(url, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []


async def migrated(nodes: Service, bouncer: PgBouncer, url: str) -> Node:
    """A node that works through PgBouncer, with the tables made at the direct address."""
    node = await nodes.start()
    await node.stop()
    await node.start(DATABASE_URL=bouncer.in_front_of(url))
    return node


async def test_everything_works_through_pgbouncer(nodes: Service, bouncer: PgBouncer, url: str) -> None:
    """Whole sign-ins of every kind, parallel refreshes, sign-outs."""
    node = await migrated(nodes, bouncer, url)
    token = (await node.sign_in("facebook")).json["refresh_token"]
    answers = await asyncio.gather(*(refresh(node, token) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["refresh_token"] for answer in answers}) == 1
    assert await stands(node, await App(node).sign_in())

    attempts = Attempts()
    devices = [Device([node], seed) for seed in range(DEVICES)]
    await work(devices, attempts, attempts.more(60 * DEVICES))
    for device in devices:
        await device.check()
    assert attempts.outcomes.keys() == {"done"}
    assert node.complaints() == []


async def test_pgbouncer_may_restart_and_so_may_the_database_behind_it(
    cluster: Cluster, nodes: Service, bouncer: PgBouncer, url: str
) -> None:
    """Its own errors are no others than the database's: 503, and then all is well without a restart of ours."""
    node, attempts = await migrated(nodes, bouncer, url), Attempts()
    devices = [Device([node], seed) for seed in range(DEVICES)]

    async def restarts() -> None:
        for server in (bouncer, cluster):
            await attempts.more(20 * DEVICES, "done")
            await asyncio.to_thread(server.stop)
            await attempts.more(DEVICES, "unavailable")
            await asyncio.to_thread(server.start)
        await attempts.more(20 * DEVICES, "done")

    await work(devices, attempts, restarts())
    for device in devices:
        await device.check()
    assert node.complaints() == []
