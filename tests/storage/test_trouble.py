"""The log lines of a failing database: one a minute for every cause, with the number of failures, until a write
succeeds."""

import asyncio
import resource
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from nextarget.errors import DatabaseUnavailable
from nextarget.model import AuditEvent, Millis
from nextarget.services import purging
from nextarget.storage.engines import trouble
from nextarget.storage.engines.database import Connection
from nextarget.storage.engines.sqlite import SqliteDatabase, connection
from nextarget.storage.rows import audit
from tests.contract.rows import admit
from tests.web.conftest import Log, log

__all__ = ["log"]

Failing = Callable[[SqliteDatabase], "asynccontextmanager[None]"]


def pragma(text: str) -> Callable[[Connection], None]:
    def work(db: Connection) -> None:
        db.execute_sql(f"PRAGMA {text}").fetchall()

    return work


@asynccontextmanager
async def disk_full(database: SqliteDatabase) -> AsyncIterator[None]:
    """A limit on pages: the file cannot grow."""
    ((pages,),) = database.read_now(lambda db: db.execute_sql("PRAGMA page_count").fetchall())
    await database.write(pragma(f"max_page_count = {pages}"))
    yield
    await database.write(pragma("max_page_count = 1000000"))


@asynccontextmanager
async def read_only(database: SqliteDatabase) -> AsyncIterator[None]:
    """SQLite's switch for read-only connections, which gives the same error code as a read-only file. It ends with the
    connection."""
    await database.write(pragma("query_only = 1"))
    yield
    database.close()
    database.open()


@asynccontextmanager
async def io_error(database: SqliteDatabase) -> AsyncIterator[None]:
    """A limit on the size of this process's files (setrlimit(2)), smaller than the write of the probe. SQLite reports
    an input/output error, not a full disk. The log file can still grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = database.path.with_name(f"{database.path.name}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 64 * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@asynccontextmanager
async def locked(database: SqliteDatabase) -> AsyncIterator[None]:
    """Another program holds a transaction."""
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()


@asynccontextmanager
async def schema(database: SqliteDatabase) -> AsyncIterator[None]:
    """A table was renamed."""
    await database.write(lambda db: db.execute_sql('ALTER TABLE "audit_event" RENAME TO "moved"'))
    yield
    await database.write(lambda db: db.execute_sql('ALTER TABLE "moved" RENAME TO "audit_event"'))


@pytest.fixture(params=[disk_full, read_only, io_error, locked, schema], ids=lambda failing: failing.__name__)
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Failing:
    """A way to fail, with the name of the cause that must be logged."""
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 20)
    return request.param


async def test_a_failing_write_is_told_by_its_cause(database: SqliteDatabase, failing: Failing, log: Log) -> None:
    """A failure that does not pass by itself is logged as an error, and one that may pass as a warning. The line has
    SQLite's own message and a remedy. After a successful write, a line says that the database is available."""
    async with failing(database):
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable) as caught:
                await database.write(trouble.fill_probe)
            assert caught.value.cause == failing.__name__
        (line,) = log.events("database_unavailable")
        assert line["cause"] == failing.__name__
        assert line["level"] == ("warning" if failing in (locked, schema) else "error")
        assert "rollback" not in line["reason"]
        assert line["reason"].endswith(")"), "SQLite's name for the error must be in the reason"
        assert line["remedy"]
        assert line["database"] == str(database.path)
        with pytest.raises(DatabaseUnavailable):
            await database.try_writing()
        assert database.trouble.suspected
    await database.try_writing()
    assert not database.trouble.suspected
    (over,) = log.events("database_available")
    assert (over["level"], over["failures"]) == ("warning", 4)


async def test_in_a_batch_too_the_first_error_is_told(database: SqliteDatabase, log: Log) -> None:
    """In a batch, every write gets the cause of the first failure, not the error of the rollback that follows."""
    async with disk_full(database):
        writes = (database.write(trouble.fill_probe) for _ in range(200))
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert {(type(each), each.cause) for each in outcomes} == {(DatabaseUnavailable, "disk_full")}
    assert len(log.events("database_unavailable")) == 1


async def test_on_the_terminal_too_the_first_error_is_told(database: SqliteDatabase) -> None:
    """A write of a command gets the first cause too."""
    database._writing.execute_sql("PRAGMA query_only = 1").fetchall()
    with pytest.raises(DatabaseUnavailable) as caught:
        database.write_now(admit)
    assert caught.value.cause == "read_only"
    assert caught.value.for_operator.startswith(f"{database.path} cannot be written to: it is read-only. Let the user")


async def turns(count: int = 10) -> None:
    """Let the event loop run its due callbacks."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_repeated_failures_are_told_once_a_minute_with_their_number(
    database: SqliteDatabase, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first failure is logged at once. Further ones are logged together after a minute, even if no more occur."""
    monkeypatch.setattr(trouble, "MINUTE_SECONDS", 0)
    for note in ("first", "second", "third"):
        database.trouble.note(DatabaseUnavailable(note=note, cause="disk_full"))
    assert [line["failures"] for line in log.events("database_unavailable")] == [1]
    await turns()
    reasons = [(line["failures"], line["reason"]) for line in log.events("database_unavailable")]
    assert reasons == [(1, "first"), (2, "third")]
    database.trouble.note(DatabaseUnavailable(note="fourth", cause="disk_full"))
    assert len(log.events("database_unavailable")) == 3


async def test_another_cause_has_a_line_of_its_own(database: SqliteDatabase, log: Log) -> None:
    """Every cause has its own line, so that a full disk does not hide a failing one."""
    for cause in ("disk_full", "io_error", "disk_full", "io_error"):
        database.trouble.note(DatabaseUnavailable(note="", cause=cause))
    assert [line["cause"] for line in log.events("database_unavailable")] == ["disk_full", "io_error"]


async def test_what_was_only_counted_is_told_at_the_end(database: SqliteDatabase, log: Log) -> None:
    """A server that stops within the minute logs the failures that were only counted so far."""
    for _ in range(5):
        database.trouble.note(DatabaseUnavailable(note="", cause="disk_full"))
    database.close()
    assert [line["failures"] for line in log.events("database_unavailable")] == [1, 4]


def told(log: Log) -> list[tuple[str, int]]:
    """The logged events in order, with their numbers of failures."""
    return [(line["event"].removeprefix("database_"), line["failures"]) for line in log.lines]


async def test_once_it_is_over_nothing_more_says_that_it_fails(
    database: SqliteDatabase, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the database works again, its last line counts the failures of all causes. No line about failures
    follows."""
    monkeypatch.setattr(trouble, "MINUTE_SECONDS", 0)
    for cause in ("disk_full", "io_error") * 3:
        database.trouble.note(DatabaseUnavailable(note="", cause=cause))
    began = time.monotonic()
    database.trouble.probe_succeeded(since=began)
    await turns()
    database.close()
    assert told(log) == [("unavailable", 1), ("unavailable", 1), ("available", 6)]


async def test_a_server_that_stops_once_it_is_over_says_nothing_more(database: SqliteDatabase, log: Log) -> None:
    """When a server stops, the last line about the database says that it is available."""
    for number in (3, 2):
        for _ in range(number):
            database.trouble.note(DatabaseUnavailable(note="", cause="disk_full"))
        await database.try_writing()
    database.close()
    assert told(log) == [("unavailable", 1), ("available", 3), ("available", 2)]


async def test_a_worker_that_has_not_tried_yet_knows_that_it_is_over(database: SqliteDatabase, log: Log) -> None:
    """If a write of another process has succeeded since, a stopping process logs that the database is available."""
    for _ in range(6):
        database.trouble.note(DatabaseUnavailable(note="", cause="disk_full"))
    trouble.Trouble("of another process").probe_succeeded(since=time.monotonic())
    assert database.trouble.suspected
    database.close()
    assert told(log) == [("unavailable", 1), ("available", 6)]


async def test_a_database_that_comes_and_goes_fills_no_log(database: SqliteDatabase, log: Log) -> None:
    """A database that fails and works by turns within a minute is logged once."""
    for _ in range(50):
        database.trouble.note(DatabaseUnavailable(note="", cause="disk_full"))
        await database.try_writing()
    assert [line["event"] for line in log.lines] == ["database_unavailable", "database_available"]


async def test_what_came_and_went_within_a_minute_is_told_as_over(
    database: SqliteDatabase, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures that started and ended within a minute are logged at its end, in one line with their number."""
    monkeypatch.setattr(trouble, "MINUTE_SECONDS", 0)
    for _ in range(3):
        database.trouble.note(DatabaseUnavailable(note="", cause="disk_full"))
        database.trouble.probe_succeeded(since=time.monotonic())
    await turns()
    assert told(log) == [("unavailable", 1), ("available", 1), ("available", 2)]


async def test_a_crowd_that_goes_on_is_told_and_its_end_too(
    database: SqliteDatabase, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals because of too many waiting writes end after a minute without a new one."""
    monkeypatch.setattr(trouble, "MINUTE_SECONDS", 0)
    await database.try_writing()
    for _ in range(4):
        database.trouble.note(DatabaseUnavailable(note="1000 writes wait", cause="crowded"))
    await turns()
    assert told(log) == [("unavailable", 1), ("unavailable", 3), ("available", 4)]


async def test_a_crowd_is_no_reason_to_doubt_the_database(database: SqliteDatabase, log: Log) -> None:
    """Too many waiting writes cause a warning, but the node stays ready for the requests that it can serve."""
    await database.try_writing()
    database.trouble.note(DatabaseUnavailable(note="1000 writes wait", cause="crowded"))
    assert not database.trouble.suspected
    assert [line["level"] for line in log.events("database_unavailable")] == ["warning"]


async def test_trying_to_write_leaves_nothing_behind(database: SqliteDatabase) -> None:
    """A write probe leaves no row, and removes the row of a probe that was killed."""
    await database.write(trouble.fill_probe)
    assert database.trouble.suspected
    await database.try_writing()
    assert database.read_now(lambda db: db.execute_sql("SELECT count(*) FROM audit_event").fetchall()) == [(0,)]


async def test_a_purge_that_fails_tells_the_cause(database: SqliteDatabase, log: Log) -> None:
    """The writes of a purge are logged like all others."""
    await database.write(audit.record, AuditEvent(Millis(1), "login_succeeded"))
    async with read_only(database):
        with pytest.raises(DatabaseUnavailable):
            await purging.purge_now(database, now=Millis(10**15), audit_days=1)
        assert [line["cause"] for line in log.events("database_unavailable")] == ["read_only"]


@contextmanager
def looked_at(path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(path)
    try:
        yield database
    finally:
        database.close()


async def test_a_file_that_is_no_database_is_told_by_its_name(database: SqliteDatabase, path: Path) -> None:
    """A file that is not a database is reported with its path, for every way to open it."""
    database.close()
    path.write_bytes(b"This is a letter to my aunt. " * 1000)
    for ask in (SqliteDatabase.open, SqliteDatabase.refuse_unusable):
        with looked_at(path) as letter, pytest.raises(DatabaseUnavailable) as caught:
            ask(letter)
        assert caught.value.cause == "not_a_database"
        assert caught.value.for_operator.startswith(f"{path} is not an SQLite database")
        assert str(path) not in caught.value.detail


async def test_a_damaged_file_is_told_by_its_name(database: SqliteDatabase, path: Path) -> None:
    """A file whose first page is intact and whose other pages are damaged is reported with its path."""
    database.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\x7f" * (len(whole) - 4096))
    with looked_at(path) as damaged, pytest.raises(DatabaseUnavailable) as caught:
        damaged.write_now(admit)
    assert caught.value.cause == "corrupt"
    assert "is damaged. Stop the servers and put the newest backup in its place" in caught.value.for_operator
