"""A migrated SQLite file for each test of what only SQLite has: one writer, one file, a lock beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.upkeep.schema import migrate
from tests.templates import put_migrated


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nextarget.db"


@pytest.fixture
def database(path: Path) -> Iterator[SqliteDatabase]:
    put_migrated(path)
    database = SqliteDatabase(path)
    migrate(database)  # where `path` is a file of an earlier version
    database.open()
    yield database
    database.close()
