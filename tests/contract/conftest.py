"""One database for each test, on every kind that there is. Another kind is one more parameter here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nextarget.storage.engines.database import Database
from tests.contract.databases import Place
from tests.templates import put_migrated


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place for a database: empty, or migrated if the test asks for `database` as well."""
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
    """The same database, opened a second time, as another process would."""
    other = place.connect()
    other.open()
    yield other
    other.close()
