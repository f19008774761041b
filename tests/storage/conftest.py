"""A migrated SQLite file for tests of features that only SQLite has: one writer, one file, and a lock file beside
it."""

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
    migrate(database)  # needed if `path` is a file of an earlier version
    database.open()
    yield database
    database.close()
