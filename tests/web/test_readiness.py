"""`GET /health/ready`: whether a load balancer may send requests to this node."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import Connection
from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.upkeep.schema import lacking, migrate
from nextarget.web.server import readiness
from nextarget.web.server.readiness import READINESS, Readiness
from tests.running import Server, running


@dataclass
class Doubt:
    """Whether a request to the database has failed since the last check."""

    suspected: bool = False


class SlowDatabase:
    """A database for tests of readiness: it answers when the test allows it, and counts its requests."""

    def __init__(self) -> None:
        self.asked = 0
        self.lets = asyncio.Event()
        self.answer: Callable[[], list[str]] = list
        self.trouble = Doubt()

    async def read(self, fn: Any) -> list[str]:
        assert fn is lacking
        self.asked += 1
        await self.lets.wait()
        return self.answer()

    async def try_writing(self) -> None:
        """The write probe succeeds."""
        self.trouble.suspected = False


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Readiness, SlowDatabase]]:
    """The readiness of a database that does not answer yet."""
    database = SlowDatabase()
    ready = Readiness(database)  # type: ignore[arg-type]
    yield ready, database
    ready.close()


def forget_a_migration(db: Connection) -> str:
    """Delete the row of the newest migration, as in a backup from before an upgrade. Returns its name."""
    ((name,),) = db.execute_sql('SELECT max("name") FROM "schema_migration"').fetchall()
    db.execute_sql(f'DELETE FROM "schema_migration" WHERE "name" = {db.param}', (name,))
    return str(name)


def record_a_migration(db: Connection, name: str) -> None:
    values = ", ".join([db.param] * 2)
    db.execute_sql(f'INSERT INTO "schema_migration" ("name", "applied") VALUES ({values})', (name, "2026-01-01"))


async def test_a_server_that_can_work_is_ready(server: Server) -> None:
    """The check succeeds, and has no rate limit."""
    for _ in range(100):
        answer = await server.get("/health/ready")
        assert (answer.status, answer.json) == (200, {"status": "ready"})
    assert "RateLimit" not in answer.headers


async def test_a_database_that_lacks_a_migration_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database lacks a migration, for example after a restore of an old backup. `/health` still succeeds."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0)
    async with running(tmp_path) as server:
        name = await server.runtime.database.write(forget_a_migration)
        answer = await server.get("/health/ready")
        assert (answer.status, answer.code, answer.json["check"]) == (503, "not_ready", "migrations")
        assert answer.headers["Retry-After"]
        assert (await server.get("/health")).status == 200
        await server.runtime.database.write(record_a_migration, name)
        assert (await server.get("/health/ready")).status == 200


async def test_a_newer_migration_leaves_an_older_node_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """During an upgrade of one node after another, older nodes stay ready."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0)
    async with running(tmp_path) as server:
        await server.runtime.database.write(record_a_migration, "9999_x")
        assert (await server.get("/health/ready")).status == 200


async def test_a_draining_server_is_not_ready_and_serves(server: Server) -> None:
    """A draining server is not ready, and still answers all requests."""
    server.app[READINESS].draining = True
    answer = await server.get("/health/ready")
    assert (answer.status, answer.json["check"]) == (503, "draining")
    assert (await server.sign_in()).status == 200


async def test_an_empty_database_is_not_ready(tmp_path: Path) -> None:
    """An empty database and one that cannot be read are reported, and cause no error."""
    empty = SqliteDatabase(tmp_path / "empty.db")
    empty.open()
    assert await Readiness(empty).failing() == "migrations"
    empty.close()
    broken = SqliteDatabase(tmp_path / "broken.db")
    migrate(broken)
    broken.close()
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    assert await Readiness(broken).failing() == "database"
    broken.close()


async def test_however_many_ask_the_database_is_asked_once(slow: tuple[Readiness, SlowDatabase]) -> None:
    """Simultaneous requests share one check of the database, and so do requests within the next second."""
    ready, database = slow
    asking = [asyncio.create_task(ready.failing()) for _ in range(50)]
    await asyncio.sleep(0)
    database.lets.set()
    assert set(await asyncio.gather(*asking)) == {None}
    assert await ready.failing() is None
    assert database.asked == 1


async def test_a_database_that_hangs_is_not_waited_for(
    slow: tuple[Readiness, SlowDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the database does not answer in time, the node is not ready. No further check is sent before the first one is
    answered."""
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.01)
    ready, database = slow
    assert [await ready.failing() for _ in range(3)] == ["database"] * 3
    assert database.asked == 1
    database.lets.set()
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 60)
    assert await ready.failing() is None


async def test_a_check_is_repeated_when_its_answer_is_too_old(
    slow: tuple[Readiness, SlowDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is repeated after a while, so that changes are noticed."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0)
    ready, database = slow
    database.lets.set()
    assert await ready.failing() is None

    def fail() -> list[str]:
        raise DatabaseUnavailable

    database.answer = fail
    assert await ready.failing() == "database"
    database.answer = list
    assert await ready.failing() is None


async def test_a_failed_query_invalidates_the_cached_check(slow: tuple[Readiness, SlowDatabase]) -> None:
    """After a failed request, an earlier successful check is not used again."""
    ready, database = slow
    database.lets.set()
    assert await ready.failing() is None
    database.trouble.suspected = True

    async def fail() -> None:
        raise DatabaseUnavailable

    database.try_writing = fail  # type: ignore[method-assign]
    assert [await ready.failing() for _ in range(3)] == ["database"] * 3
    assert database.asked == 2, "the failed check must be remembered"


async def test_a_query_that_fails_during_a_check_causes_another_check(slow: tuple[Readiness, SlowDatabase]) -> None:
    """If a request fails during a check, the check is repeated once. It is not repeated for ever."""
    ready, database = slow
    database.lets.set()

    async def try_writing() -> None:
        database.trouble.suspected = True  # as if a request had failed just afterwards

    database.try_writing = try_writing  # type: ignore[method-assign]
    assert await ready.failing() == "database"
    assert database.asked == 2
