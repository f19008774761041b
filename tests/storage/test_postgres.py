"""PostgreSQL's own: a server that comes and goes, a pooler in between, and several who write at once."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from nextarget.errors import SchemaError
from nextarget.model import Millis
from nextarget.storage import users
from nextarget.storage.addresses import database_at
from nextarget.storage.schema import migrate, pending
from tests.conftest import need_pgbouncer
from tests.contract.rows import admit
from tests.postgres import Cluster, PgBouncer


@pytest.fixture(params=["refuses options", "ignores options"])
def pgbouncer(request: pytest.FixtureRequest, postgres: Cluster) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode, with fewer connections than its clients have."""
    need_pgbouncer()
    settings = {"ignore_startup_parameters": "options"} if request.param == "ignores options" else {}
    with PgBouncer(postgres, pool_size=2, **settings) as bouncer:
        yield bouncer


async def test_everything_but_migrating_works_through_pgbouncer(pgbouncer: PgBouncer, postgres_url: str) -> None:
    """Reads and writes of many connections on two, and the limits that it would not take at the start."""
    migrate(database_at(postgres_url))
    async with opened(pgbouncer.in_front_of(postgres_url), pool_size=8) as database:
        await busy(database, 8)
        made = await asyncio.gather(*(database.write(admit, now=Millis(number)) for number in range(50)))
        assert len(await database.read(users.page)) == len(made)
        outcomes = await asyncio.gather(*(database.read(users.get, user.id) for user in made))
        assert list(outcomes) == list(made)
        assert await shown(database, "statement_timeout", writes=True) == "5s"
        assert await shown(database, "idle_in_transaction_session_timeout", writes=True) == "10s"


def test_migrating_through_pgbouncer_is_refused_with_what_to_do(pgbouncer: PgBouncer, postgres_url: str) -> None:
    """A lock of our session would be anybody's. What is pending can still be asked, and changes nothing."""
    database = database_at(pgbouncer.in_front_of(postgres_url))
    names = pending(database)
    assert names
    with pytest.raises(SchemaError, match=r"Run `nextarget init-db` .* own address"):
        migrate(database)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    assert migrate(database_at(postgres_url)) == names
    assert pending(database) == []
    assert migrate(database) == []
