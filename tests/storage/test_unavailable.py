"""A database that cannot be used raises one error of ours, whatever SQLite's own error was."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from nextarget.errors import DatabaseUnavailable
from nextarget.model import User
from nextarget.storage.engines.database import Connection
from nextarget.storage.engines.sqlite import SqliteDatabase, connection
from nextarget.storage.rows import users
from nextarget.storage.upkeep.schema import migrate, pending
from tests.contract.rows import admit


def not_a_database(folder: Path) -> Path:
    path = folder / "notes.txt"
    path.write_text("This is a text file, and long enough to be looked at. " * 50)
    return path


def no_folder(folder: Path) -> Path:
    return folder / "missing" / "nextarget.db"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("a regular file")
    return folder / "file" / "nextarget.db"


def a_folder(folder: Path) -> Path:
    (folder / "nextarget.db").mkdir()
    return folder / "nextarget.db"


@pytest.fixture(params=[not_a_database, no_folder, below_a_file, a_folder], ids=lambda make: make.__name__)
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path at which there can be no database."""
    return request.param(tmp_path)


@pytest.fixture
def database(unusable: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(unusable)
    yield database
    database.close()


def test_opening_says_that_the_database_is_unavailable(database: SqliteDatabase) -> None:
    """Opening fails with the error for a 503. Its text for callers does not contain the path."""
    with pytest.raises(DatabaseUnavailable) as caught:
        database.open()
    assert str(database.path) not in caught.value.detail
    assert caught.value.note


def test_migrating_says_that_the_database_is_unavailable(database: SqliteDatabase, tmp_path: Path) -> None:
    """Migrating fails with the same error, and makes no file except the lock."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatabaseUnavailable):
        migrate(database)
    made = set(tmp_path.rglob("*")) - set(before)
    assert made <= {database.path.with_name(database.path.name + ".lock")}


def test_looking_for_migrations_creates_nothing(database: SqliteDatabase, tmp_path: Path) -> None:
    """The pending migrations of a missing file are known. A file that cannot be read raises the error. No file is
    made."""
    before = sorted(tmp_path.rglob("*"))
    if database.path.exists():
        with pytest.raises(DatabaseUnavailable):
            pending(database)
    else:
        assert pending(database)
    assert sorted(tmp_path.rglob("*")) == before


async def test_every_door_says_that_the_database_is_unavailable(database: SqliteDatabase) -> None:
    """Reads and writes raise the error, with and without an event loop."""
    with pytest.raises(DatabaseUnavailable):
        database.read_now(users.page)
    with pytest.raises(DatabaseUnavailable):
        database.write_now(admit)
    with pytest.raises(DatabaseUnavailable):
        await database.read(users.page)
    with pytest.raises(DatabaseUnavailable):
        await database.write(admit)


async def test_a_missing_table_is_our_mistake_or_unavailability_and_passes(tmp_path: Path) -> None:
    """Without our tables, reads and writes fail. They work after a migration, without reopening."""
    database = SqliteDatabase(tmp_path / "empty.db")
    database.open()
    with pytest.raises(DatabaseUnavailable):
        await database.read(users.page)
    with pytest.raises(DatabaseUnavailable):
        await database.write(admit)
    migrate(database)
    user = await database.write(admit)
    assert await database.read(users.page) == [user]
    database.close()


async def test_a_lock_that_is_held_too_long_is_unavailability_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another program locks the file, writes fail after the busy timeout and reads work. Afterwards writes work
    again."""
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 20)
    database = SqliteDatabase(tmp_path / "nextarget.db")
    migrate(database)
    database.open()
    before = await database.write(admit)
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable):
        await database.write(admit)
    with pytest.raises(DatabaseUnavailable):
        database.write_now(admit)
    assert await database.read(users.page) == [before]
    other.execute("ROLLBACK")
    other.close()
    assert await database.write(admit)
    assert database.write_now(admit)
    assert len(await database.read(users.page)) == 3
    database.close()


async def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """When the disk is full in the middle of a batch, exactly the acknowledged writes are kept."""
    database = SqliteDatabase(tmp_path / "nextarget.db")
    migrate(database)
    database.open()

    def fill_the_disk(db: Connection) -> None:
        pages = db.execute_sql("PRAGMA page_count").fetchall()[0][0]
        db.execute_sql(f"PRAGMA max_page_count = {pages}").fetchall()

    def find_room(db: Connection) -> None:
        db.execute_sql("PRAGMA max_page_count = 1000000").fetchall()

    def write_a_lot(db: Connection) -> None:
        db.execute_sql("INSERT INTO audit_event (at, event, detail) VALUES (1, 'large', ?)", ("x" * 1_000_000,))

    await database.write(fill_the_disk)
    works = [admit, write_a_lot, admit, write_a_lot, admit] * 4
    outcomes = await asyncio.gather(*(database.write(work) for work in works), return_exceptions=True)
    await database.write(find_room)
    last = await database.write(admit)
    kept = {user.id for user in await database.read(users.page)}
    assert {outcome.id for outcome in outcomes if isinstance(outcome, User)} | {last.id} == kept
    failures = [outcome for outcome in outcomes if not isinstance(outcome, User)]
    assert len(failures) >= 8
    assert all(isinstance(failure, DatabaseUnavailable) for failure in failures)
    database.close()
