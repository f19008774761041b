"""Nodes that start together on an empty database: one node makes the tables, and the others wait for it."""

import asyncio

import psycopg
import pytest

from tests.cluster.rows import rows
from tests.nodes import DidNotStart, Service
from tests.postgres import Cluster, name_of

pytestmark = pytest.mark.slow

NODES = 10


async def test_ten_nodes_that_start_at_once_migrate_once(postgres: Cluster, nodes: Service, url: str) -> None:
    """Ten nodes start together and are held by a lock until all wait. All of them serve, and every migration is
    recorded once."""
    with psycopg.connect(url) as gate:
        gate.execute("CREATE TABLE schema_migration (gate int)")  # uncommitted, so that a node that creates it waits
        starting = [asyncio.create_task(nodes.start()) for _ in range(NODES)]
        held = f"FROM pg_stat_activity WHERE datname = '{name_of(url)}' AND wait_event_type = 'Lock'"
        await asyncio.to_thread(postgres.wait_until, f"(SELECT count(*) {held}) = {NODES}")
        gate.rollback()
    started = await asyncio.gather(*starting)
    answers = await asyncio.gather(*(node.sign_in() for node in started))
    assert {answer.status for answer in answers} == {200}
    assert [line for node in started for line in node.complaints()] == []
    applied = [name for (name,) in rows(url, "SELECT name FROM schema_migration")]
    assert len(applied) == len(set(applied)) > 0


async def test_a_node_without_its_database_says_so_and_ends(cluster: Cluster, nodes: Service) -> None:
    """A node without its database exits with an error. After the next start it serves, once the database is there."""
    node = nodes.node(DATABASE_URL=cluster.create_database())
    cluster.stop()
    with pytest.raises(DidNotStart, match="Start PostgreSQL, or check host and port in DATABASE_URL"):
        await node.start()
    cluster.start()
    await node.start()
    assert (await node.sign_in()).status == 200
