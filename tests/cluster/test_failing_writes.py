"""Nodes whose database accepts no writes: what operators read in the log, and what load balancers get."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest
from psycopg import sql

from tests.conftest import need_postgres
from tests.disks import SmallDisk, small_disk
from tests.nodes import PATIENCE_SECONDS, Node, Service, service
from tests.postgres import Cluster, name_of
from tests.running import Answer

pytestmark = pytest.mark.slow

MOST_LINES = 3
"""The most lines for one cause and process in a test: at the start, at the end, and after a minute on a slow
machine."""


async def readiness(node: Node) -> Answer:
    """The answer to a load balancer, on a new connection, so that any worker may take it."""
    async with aiohttp.ClientSession() as session, session.get(f"{node.url}/health/ready") as answer:
        return Answer(answer.status, answer.headers, await answer.text())


async def until_ready(node: Node) -> None:
    """Request the readiness, and nothing else, until the node is ready."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await readiness(node)).status != 200:
            pass


async def until_it_fails(node: Node) -> None:
    for _ in range(1000):
        if (await node.sign_in()).status != 200:
            return
    pytest.fail("the disk never was full")


def assert_that_its_end_is_the_last_word(node: Node) -> None:
    """The log's last line about the database says that it is available."""
    told = [event for line in node.lines if (event := json.loads(line)["event"]).startswith("database_")]
    assert told[-1] == "database_available"


async def test_a_database_that_became_read_only_is_told_and_takes_no_requests(
    nodes: Service, postgres: Cluster, url: str
) -> None:
    """The database becomes read-only, like a demoted primary. Hundreds of sign-ins fail with one line in the log. The
    node is not ready until its own write probe succeeds."""
    node = await nodes.start(RATE_LIMIT_ENABLED="false")
    assert (await node.sign_in()).status == 200
    assert (await readiness(node)).status == 200
    database = sql.Identifier(name_of(url))
    postgres.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(database))
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name_of(url))
    answers = await asyncio.gather(*(node.sign_in() for _ in range(200)))
    assert {(answer.status, answer.code) for answer in answers} == {(503, "database_unavailable")}
    assert {(await readiness(node)).status for _ in range(5)} == {503}
    postgres.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(database))
    await until_ready(node)
    assert await node.stop() == 0
    told = [line for line in node.events("database_unavailable") if line["cause"] == "read_only"]
    assert (told[0]["level"], told[0]["failures"]) == ("error", 1)
    assert sum(line["failures"] for line in node.events("database_available")) >= 200
    assert len(told) <= MOST_LINES
    assert "in a read-only transaction" in told[0]["reason"]
    assert_that_its_end_is_the_last_word(node)
    assert not node.events("login_failed")


async def test_a_database_that_is_away_is_told_at_a_level_that_is_seen(
    nodes: Service, cluster: Cluster, tmp_path: Path
) -> None:
    """An unreachable database is logged as a warning, because it may be restarting: one line for a hundred failures,
    and one for the end."""
    node = await nodes.start(DATABASE_URL=cluster.create_database(), RATE_LIMIT_ENABLED="false")
    tokens = (await node.sign_in()).json
    cluster.stop()
    answers = await asyncio.gather(*(node.me(tokens["access_token"]) for _ in range(100)))
    assert {answer.status for answer in answers} == {503}
    assert (await readiness(node)).status == 503
    cluster.start()
    await until_ready(node)
    assert await node.stop() == 0
    told = node.events("database_unavailable")
    assert {(line["level"], line["cause"]) for line in told} == {("warning", "unreachable")}
    assert len(told) <= MOST_LINES
    assert sum(line["failures"] for line in node.events("database_available")) >= 100
    assert_that_its_end_is_the_last_word(node)
    assert {line["code"] for line in node.events("problem")} == {"not_ready"}
    assert node.complaints() == []


@pytest.fixture
async def on_a_small_disk(tmp_path: Path) -> AsyncIterator[tuple[Service, SmallDisk]]:
    """Nodes with a SQLite file on a disk that can be filled."""
    with small_disk(tmp_path / "disk") as disk:
        url = f"sqlite:///{disk.folder}/shared.db"
        async with service(tmp_path, DATABASE_URL=url, RATE_LIMIT_ENABLED="false") as nodes:
            yield nodes, disk


async def test_all_workers_know_that_a_disk_is_full(on_a_small_disk: tuple[Service, SmallDisk]) -> None:
    """After a write of one worker has failed, no worker is ready, and every worker logs it once. When there is room
    again, all workers become ready without another request."""
    nodes, disk = on_a_small_disk
    node = await nodes.start(WORKERS="3")
    assert {(await readiness(node)).status for _ in range(30)} == {200}
    disk.fill()
    await until_it_fails(node)
    assert {(await readiness(node)).status for _ in range(30)} == {503}
    disk.empty()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while {(await readiness(node)).status for _ in range(30)} != {200}:
            pass
    assert (await node.sign_in()).status == 200
    assert await node.stop() == 0
    told = node.events("database_unavailable")
    assert 1 <= len(told) <= 3 * MOST_LINES
    assert {(line["level"], line["cause"]) for line in told} == {("error", "disk_full")}
    assert_that_its_end_is_the_last_word(node)


@pytest.fixture
def postgres_on_a_small_disk() -> Iterator[tuple[Cluster, SmallDisk]]:
    """PostgreSQL on a small disk. Its folder is one that PostgreSQL's own user may enter, unlike pytest's folders."""
    need_postgres()
    with TemporaryDirectory(prefix="nextarget-") as folder:
        Path(folder).chmod(0o755)
        with small_disk(Path(folder) / "disk", "160m") as disk:
            (disk.folder / "server").mkdir()
            with Cluster(disk.folder / "server") as cluster:
                yield cluster, disk


async def test_the_disk_of_postgresql_is_told_by_its_name(
    postgres_on_a_small_disk: tuple[Cluster, SmallDisk], tmp_path: Path
) -> None:
    """When PostgreSQL's disk is full, the node logs the cause and the remedy once, and becomes ready again
    afterwards."""
    cluster, disk = postgres_on_a_small_disk
    async with service(tmp_path, DATABASE_URL=cluster.create_database(), RATE_LIMIT_ENABLED="false") as nodes:
        node = await nodes.start()
        assert (await node.sign_in()).status == 200
        disk.fill()
        await until_it_fails(node)
        assert (await readiness(node)).status == 503
        disk.empty()
        await until_ready(node)
        assert (await node.sign_in()).status == 200
        assert await node.stop() == 0
    told = node.events("database_unavailable")
    assert len(told) <= MOST_LINES
    assert {(line["level"], line["cause"]) for line in told} == {("error", "disk_full")}
    assert "No space left on device" in told[0]["reason"]
    assert "the disk of PostgreSQL's server" in told[0]["remedy"]
