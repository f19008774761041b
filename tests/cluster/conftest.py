"""One database for all nodes of a test: PostgreSQL, as for nodes on several machines, or one SQLite file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.nodes import Service, service


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The DATABASE_URL of an empty database. A test chooses the kind by parametrizing this fixture."""
    kind = getattr(request, "param", "postgres")
    return str(request.getfixturevalue("postgres_url")) if kind == "postgres" else f"sqlite:///{tmp_path}/shared.db"


@pytest.fixture
async def nodes(url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service whose nodes share one database. No node is started yet."""
    async with service(tmp_path, DATABASE_URL=url) as nodes:
        yield nodes
