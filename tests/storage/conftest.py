"""A migrated SQLite file for each test of what only SQLite has: one writer, one file, a lock beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nextarget.storage.database import Database
from nextarget.storage.schema import migrate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nextarget.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path)
    migrate(database)
    database.open()
    yield database
    database.close()
