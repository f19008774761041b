"""One database for every test, of every kind of engine. A new engine is one more parameter here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nextarget.storage.engines.database import Database
from tests.contract.databases import Place
from tests.templates import put_migrated


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The address of a database: empty, or migrated if the test also uses the fixture `database`."""
    migrated = "database" in request.fixturenames
    if request.param == "postgresql":
        return Place(request.getfixturevalue("migrated_url" if migrated else "postgres_url"))
    path = tmp_path / "nextarget.db"
    if migrated:
        put_migrated(path)
    return Place(f"sqlite:///{path}")


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """A migrated, open database."""
    database = place.connect()
    database.open()
    yield database
    database.close()


@pytest.fixture
def elsewhere(database: Database, place: Place) -> Iterator[Database]:
    """The same database, opened a second time, as by another process."""
    other = place.connect()
    other.open()
    yield other
    other.close()
