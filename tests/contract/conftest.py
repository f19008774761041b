"""One database for each test, on every kind that there is. Another kind is one more parameter here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nextarget.storage.engines.database import Database
from nextarget.storage.upkeep.schema import migrate
from tests.contract.databases import Place


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place for a database."""
    if request.param == "postgresql":
        return Place(request.getfixturevalue("postgres_url"))
    return Place(f"sqlite:///{tmp_path / 'nextarget.db'}")


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """A migrated, open database."""
    database = place.connect()
    migrate(database)
    database.open()
    yield database
    database.close()


@pytest.fixture
def elsewhere(database: Database, place: Place) -> Iterator[Database]:
    """The same database, opened a second time, as another process would."""
    other = place.connect()
    other.open()
    yield other
    other.close()
