"""One database for the nodes of a test: on PostgreSQL as on several machines, in one SQLite file as on one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.nodes import Service, service


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """DATABASE_URL of an empty database. `kind` is what a test asks for by parametrising this fixture."""
    kind = getattr(request, "param", "postgres")
    return str(request.getfixturevalue("postgres_url")) if kind == "postgres" else f"sqlite:///{tmp_path}/shared.db"


@pytest.fixture
async def nodes(url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """Nodes of one service, on one database; none is started yet."""
    async with service(tmp_path, DATABASE_URL=url) as nodes:
        yield nodes
