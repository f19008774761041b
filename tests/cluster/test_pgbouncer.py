"""PgBouncer in transaction mode, as hosted databases use it: a statement cannot rely on the connection of the one
before."""

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
    """The direct address of a database, on a server that a test may stop."""
    return cluster.create_database()


@pytest.fixture
def bouncer(cluster: Cluster) -> Iterator[PgBouncer]:
    """A PgBouncer with two connections, fewer than a node has threads. Its timeouts are short."""
    need_pgbouncer()
    with PgBouncer(cluster, pool_size=2, query_wait_timeout="2", server_login_retry="1") as bouncer:
        yield bouncer


async def test_migrations_ask_for_the_direct_address(nodes: Service, bouncer: PgBouncer, url: str) -> None:
    """The lock for migrations belongs to a session, and PgBouncer shares sessions. So the server refuses to migrate
    here."""
    with pytest.raises(DidNotStart, match="Run `nextarget init-db` once"):
        await nodes.start(DATABASE_URL=bouncer.in_front_of(url))
    assert rows(url, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []


async def migrated(nodes: Service, bouncer: PgBouncer, url: str) -> Node:
    """A node that uses PgBouncer, after the tables were made at the direct address."""
    node = await nodes.start()
    await node.stop()
    await node.start(DATABASE_URL=bouncer.in_front_of(url))
    return node


async def test_everything_works_through_pgbouncer(nodes: Service, bouncer: PgBouncer, url: str) -> None:
    """Sign-ins of every kind, parallel refreshes and sign-outs work through PgBouncer."""
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
    """Errors of PgBouncer are treated like errors of the database: 503, and recovery without a restart of the
    server."""
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
