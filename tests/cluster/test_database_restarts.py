"""The database stops while requests are served, and starts again. Clients get a 503 meanwhile, and nothing is lost."""

import asyncio
from contextlib import ExitStack, suppress

import psycopg
import pytest

from tests.apps import refresh
from tests.cluster.rows import rows
from tests.nodes import Service
from tests.postgres import Cluster
from tests.traffic import Attempts, Device, is_served, work

pytestmark = pytest.mark.slow

DEVICES = 8
OURS = "FROM pg_stat_activity WHERE application_name = 'nextarget'"
HONEST_EVENTS = {"login_succeeded", "login_failed", "refresh_recovered", "session_revoked"}
"""A sign-in may fail: the provider accepts a code once, and the database stopped after the provider was asked."""


@pytest.fixture
def url(cluster: Cluster) -> str:
    """A database on a server that a test may stop."""
    return cluster.create_database()


async def test_a_database_that_restarts_loses_nothing_and_needs_no_help(
    cluster: Cluster, nodes: Service, url: str
) -> None:
    """Eight devices get 200 or a proper 503 for every request. Afterwards, all acknowledged changes are still there."""
    # With this setting, servers acknowledge a commit before it is on disk. Our connections must override it.
    cluster.execute("ALTER SYSTEM SET synchronous_commit = off")
    cluster.execute("SELECT pg_reload_conf()")
    node, attempts = await nodes.start(), Attempts()
    devices = [Device([node], seed) for seed in range(DEVICES)]

    async def restarts() -> None:
        for end in (cluster.stop, lambda: cluster.stop("immediate"), cluster.kill):
            await attempts.more(20 * DEVICES, "done")
            await asyncio.to_thread(end)
            await attempts.more(2 * DEVICES, "unavailable")
            await asyncio.to_thread(cluster.start)
        await attempts.more(20 * DEVICES, "done")

    await work(devices, attempts, restarts())
    for device in devices:
        await device.check()
    assert node.complaints() == []
    assert {event for (event,) in rows(url, "SELECT DISTINCT event FROM audit_event")} <= HONEST_EVENTS


async def test_connections_that_the_database_dropped_are_not_used_again(
    cluster: Cluster, nodes: Service, url: str
) -> None:
    """An administrator ends all connections while there are no requests. The next requests succeed all the same."""
    node = await nodes.start()
    tokens = (await node.sign_in()).json
    refresh_token = tokens["refresh_token"]
    for ask in (lambda: node.me(tokens["access_token"]), lambda: refresh(node, refresh_token)):  # reads, then writes
        for _ in range(2):
            answers = await asyncio.gather(*(ask() for _ in range(20)))
            assert {answer.status for answer in answers} == {200}
            assert cluster.execute(f"SELECT pg_terminate_backend(pid, 10000) {OURS}")


async def test_a_server_that_takes_no_more_connections_is_waited_for(
    cluster: Cluster, nodes: Service, url: str
) -> None:
    """While other clients hold all connections of the server, the answer is 503. Afterwards requests succeed again."""
    node = await nodes.start()
    tokens = (await node.sign_in()).json
    with ExitStack() as stack:

        def take_all() -> list[psycopg.Connection]:
            taken = []
            with suppress(psycopg.OperationalError):
                while True:
                    taken.append(stack.enter_context(psycopg.connect(cluster.url("postgres"), autocommit=True)))
            return taken

        first, *_ = take_all()
        first.execute(f"SELECT pg_terminate_backend(pid, 10000) {OURS}")
        take_all()
        assert not is_served(await node.me(tokens["access_token"]))
    assert (await node.me(tokens["access_token"])).status == 200
    assert node.complaints() == []
