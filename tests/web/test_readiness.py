"""`GET /health/ready`: whom load balancers may send requests to."""

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
    """Whether a question has failed since the last look."""

    suspected: bool = False


class SlowDatabase:
    """A database as far as readiness knows it: it answers when it is let, and counts how often it was asked."""

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
        """It works."""
        self.trouble.suspected = False


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Readiness, SlowDatabase]]:
    """Readiness of a database that does not answer yet."""
    database = SlowDatabase()
    ready = Readiness(database)  # type: ignore[arg-type]
    yield ready, database
    ready.close()


def forget_a_migration(db: Connection) -> str:
    """As a backup from before the upgrade would; the migration's name."""
    ((name,),) = db.execute_sql('SELECT max("name") FROM "schema_migration"').fetchall()
    db.execute_sql(f'DELETE FROM "schema_migration" WHERE "name" = {db.param}', (name,))
    return str(name)


def record_a_migration(db: Connection, name: str) -> None:
    values = ", ".join([db.param] * 2)
    db.execute_sql(f'INSERT INTO "schema_migration" ("name", "applied") VALUES ({values})', (name, "2026-01-01"))


async def test_a_server_that_can_work_is_ready(server: Server) -> None:
    """And nobody is counted for asking."""
    for _ in range(100):
        answer = await server.get("/health/ready")
        assert (answer.status, answer.json) == (200, {"status": "ready"})
    assert "RateLimit" not in answer.headers


async def test_a_database_that_lacks_a_migration_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an old backup is put in place under a running server; `/health` answers all the same."""
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
    """While nodes are upgraded one after another, those that are not yet go on serving."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0)
    async with running(tmp_path) as server:
        await server.runtime.database.write(record_a_migration, "9999_x")
        assert (await server.get("/health/ready")).status == 200


async def test_a_draining_server_is_not_ready_and_serves(server: Server) -> None:
    """Whatever still comes is answered."""
    server.app[READINESS].draining = True
    answer = await server.get("/health/ready")
    assert (answer.status, answer.json["check"]) == (503, "draining")
    assert (await server.sign_in()).status == 200


async def test_an_empty_database_is_not_ready(tmp_path: Path) -> None:
    """Neither is one that cannot be read; no error escapes."""
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
    """Everybody who asks meanwhile shares one look, and for a second whoever comes after."""
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
    """The answer is no after a moment; not one more question goes to a database that still owes an answer."""
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.01)
    ready, database = slow
    assert [await ready.failing() for _ in range(3)] == ["database"] * 3
    assert database.asked == 1
    database.lets.set()
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 60)
    assert await ready.failing() is None


async def test_a_look_is_repeated_when_it_is_no_longer_fresh(
    slow: tuple[Readiness, SlowDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that comes and goes is seen to."""
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


async def test_a_failure_voids_the_look_that_is_remembered(slow: tuple[Readiness, SlowDatabase]) -> None:
    """From the first failure on nobody is told that it is ready for what was seen before."""
    ready, database = slow
    database.lets.set()
    assert await ready.failing() is None
    database.trouble.suspected = True

    async def fail() -> None:
        raise DatabaseUnavailable

    database.try_writing = fail  # type: ignore[method-assign]
    assert [await ready.failing() for _ in range(3)] == ["database"] * 3
    assert database.asked == 2, "a look that failed is remembered"


async def test_a_failure_during_a_look_has_it_repeated(slow: tuple[Readiness, SlowDatabase]) -> None:
    """What the look saw before that failure is no answer; one that fails all the time is not looked at for ever."""
    ready, database = slow
    database.lets.set()

    async def try_writing() -> None:
        database.trouble.suspected = True  # as if a request of somebody's had failed just after

    database.try_writing = try_writing  # type: ignore[method-assign]
    assert await ready.failing() == "database"
    assert database.asked == 2
