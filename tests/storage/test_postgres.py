"""PostgreSQL: restarts of the server, a connection pooler in between, and simultaneous writes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar

import psycopg
import pytest

from nextarget.errors import DatabaseUnavailable, SchemaError
from nextarget.model import AuditEvent, Generations, Millis, User
from nextarget.services import accounts
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.engines.postgres import connection, pool
from nextarget.storage.rows import audit, sessions, users
from nextarget.storage.rows.sessions import Move
from nextarget.storage.upkeep import purge
from nextarget.storage.upkeep.schema import migrate, pending
from tests.conftest import need_pgbouncer
from tests.contract import crowds
from tests.contract.rows import NEVER, NOW, active, add_session, admit, identity, later
from tests.postgres import Cluster, PgBouncer


@asynccontextmanager
async def opened(url: str, *, pool_size: int = 4) -> AsyncIterator[Database]:
    """A migrated, open database."""
    database = database_at(url, pool_size=pool_size)
    try:
        migrate(database)
        database.open()
        yield database
    finally:
        database.close()


class Gate:
    """Jobs wait at it, in PostgreSQL, until it is opened. It is closed at first."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("SELECT pg_advisory_lock(1)")
        self._comers: asyncio.Queue[None] = asyncio.Queue()

    def wait(self, db: Connection) -> None:
        self._comers.put_nowait(None)
        db.execute_sql("SELECT pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1)")

    async def has(self, jobs: int) -> None:
        """Return when this many more jobs have come."""
        async with asyncio.timeout(30):
            for _ in range(jobs):
                await self._comers.get()

    def open(self) -> None:
        self._connection.close()


async def busy(url: str, database: Database, connections: int = 4) -> None:
    """Occupy this many connections at the same time."""
    gate = Gate(url)
    waiting = [asyncio.create_task(database.read(gate.wait)) for _ in range(connections)]
    await gate.has(connections)
    gate.open()
    await asyncio.gather(*waiting)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_after_a_restart_nobody_notices(cluster: Cluster, mode: str) -> None:
    """Connections that died while idle are replaced. No read or write fails because of them."""
    url = cluster.create_database()
    async with opened(url) as database:
        await busy(url, database)
        cluster.restart(mode)
        assert await asyncio.gather(*(database.read(users.page) for _ in range(8))) == [[]] * 8
        cluster.restart(mode)
        assert len({user.id for user in await asyncio.gather(*(database.write(admit) for _ in range(8)))}) == 8


@pytest.mark.slow
async def test_a_server_that_is_away_is_unavailable_until_it_is_back(cluster: Cluster) -> None:
    """Reads and writes raise DatabaseUnavailable while the server is down, and work again without reopening."""
    async with opened(cluster.create_database()) as database:
        user = await database.write(admit)
        cluster.stop()
        for door, work in ((database.read, users.page), (database.write, admit)):
            with pytest.raises(DatabaseUnavailable) as caught:
                await door(work)
            assert "127.0.0.1" not in caught.value.detail
            assert caught.value.note
        cluster.start()
        assert await database.read(users.page) == [user]
        assert await database.write(users.delete, user.id)


@pytest.mark.slow
async def test_a_server_that_answers_nothing_is_given_up_in_time(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen server neither enforces its timeouts nor closes sockets. Its connections are given up here."""
    url = cluster.create_database()
    async with opened(url, pool_size=2) as database:
        await busy(url, database, 2)
        monkeypatch.setattr(pool, "ANSWER_SECONDS", 0.2)
        monkeypatch.setattr(pool, "WAITING_SECONDS", 0.1)
        cluster.freeze()
        outcomes = await asyncio.gather(*(database.read(users.page) for _ in range(6)), return_exceptions=True)
        assert all(isinstance(outcome, DatabaseUnavailable) for outcome in outcomes)
        monkeypatch.setattr(pool, "ANSWER_SECONDS", 30)
        monkeypatch.setattr(pool, "WAITING_SECONDS", 30)
        # Both connections are free for other jobs, although the server does not respond.
        assert await asyncio.gather(*(database.read(lambda _: "free") for _ in range(4))) == ["free"] * 4
        cluster.thaw()
        await busy(url, database, 2)


class Counted:
    """A job that loses its own connection, and counts its attempts."""

    def __init__(self) -> None:
        self.begun = 0

    def __call__(self, db: Connection) -> list[User]:
        self.begun += 1
        if self.begun == 1:
            with pytest.raises(Exception, match="terminating connection"):
                db.execute_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return users.page(db)


async def test_a_read_that_loses_its_connection_is_done_again(postgres_url: str) -> None:
    """A read that lost its connection is repeated once, because reading has no side effects."""
    async with opened(postgres_url) as database:
        job = Counted()
        assert await database.read(job) == []
        assert job.begun == 2


async def test_a_write_that_loses_its_connection_is_not_done_again(postgres_url: str) -> None:
    """A write that lost its connection is not repeated, because it may have been committed. The caller gets an
    error."""
    async with opened(postgres_url, pool_size=1) as database:
        job = Counted()
        with pytest.raises(DatabaseUnavailable):
            await database.write(job)
        assert job.begun == 1
        assert await database.write(admit)


@pytest.mark.slow
async def test_two_that_wait_for_each_other_both_get_through(postgres_url: str) -> None:
    """In a deadlock PostgreSQL rolls one or both transactions back. They are repeated, and both succeed."""
    async with opened(postgres_url) as database:
        one, other = [(await database.write(admit)).id for _ in range(2)]
        both, tries = Gate(postgres_url), []

        def lock(db: Connection, first: str, second: str) -> None:
            users.set_active(db, first, active=False)
            tries.append(first)
            if len(tries) <= 2:
                both.wait(db)
            users.set_active(db, second, active=False)

        writing = [asyncio.create_task(database.write(lock, *pair)) for pair in ((one, other), (other, one))]
        await both.has(2)
        both.open()
        await asyncio.gather(*writing)
        assert len(tries) in {3, 4}
        assert set(tries[:2]) == {one, other}


@pytest.mark.slow
async def test_a_statement_that_takes_too_long_is_ended(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends a statement that takes too long, so that it does not continue without a caller. Commands have no
    such limit."""
    monkeypatch.setattr(connection, "STATEMENT_SECONDS", 1)
    async with opened(postgres_url) as database:
        with pytest.raises(DatabaseUnavailable) as caught:
            await database.read(lambda db: db.execute_sql("SELECT pg_sleep(60)"))
        assert "statement timeout" in str(caught.value.note)
        assert database.read_now(lambda db: db.execute_sql("SHOW statement_timeout").fetchone()[0]) == "0"


async def shown(database: Database, name: str, *, writes: bool) -> str:
    """A setting of PostgreSQL in a read or a write."""
    door = database.write if writes else database.read
    return await door(lambda db: db.execute_sql(f"SHOW {name}").fetchone()[0])


async def test_what_the_rules_rest_on_does_not_depend_on_the_servers_settings(postgres: Cluster) -> None:
    """Commits wait for the disk, and a compare-and-swap sees the newest row, whatever the defaults of the database
    are."""
    url = postgres.create_database()
    name = url.rpartition("/")[2]
    postgres.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    postgres.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'")
    async with opened(url) as database:
        assert await shown(database, "synchronous_commit", writes=True) == "on"
        assert await shown(database, "transaction_isolation", writes=True) == "read committed"
    postgres.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = remote_apply')
    async with opened(url) as database:
        assert await shown(database, "synchronous_commit", writes=True) == "remote_apply"
    postgres.drop_database(url)


LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout")


def limit_role(cluster: Cluster, url: str, limit: str) -> None:
    """Give the role its own timeouts in this database."""
    for name in LIMITS:
        cluster.execute(f"ALTER ROLE postgres IN DATABASE \"{url.rpartition('/')[2]}\" SET {name} = '{limit}'")


def limits(db: Connection) -> set[str]:
    return {db.execute_sql(f"SHOW {name}").fetchone()[0] for name in LIMITS}


def test_the_terminal_takes_its_time_whatever_the_roles_limits_are(postgres: Cluster, postgres_url: str) -> None:
    """The timeouts of a role, which limit requests behind a pooler, do not apply to migrations, listings and copies."""
    limit_role(postgres, postgres_url, "1s")
    database = database_at(postgres_url)
    assert migrate(database)
    assert database.read_now(limits) == {"0"}
    assert database.write_now(limits) == {"0"}
    for opening in (database.probe, database.schema_changes, database.snapshot):
        with opening() as db:
            assert limits(db) == {"0"}
    database.close()


async def test_a_job_runs_in_its_callers_context(postgres_url: str) -> None:
    """A job sees the context variables of its caller, such as the request id, whichever connection it uses."""
    request: ContextVar[str] = ContextVar("request")

    async def ask(number: int) -> tuple[str, str]:
        request.set(str(number))
        return await database.read(lambda _: request.get()), await database.write(lambda _: request.get())

    async with opened(postgres_url) as database:
        assert await asyncio.gather(*(ask(number) for number in range(20))) == [(str(n), str(n)) for n in range(20)]


async def test_text_with_a_nul_is_kept_without_it(postgres_url: str) -> None:
    """PostgreSQL's text cannot contain a NUL. Text of a provider with a NUL causes no error."""
    async with opened(postgres_url) as database:
        user = await database.write(admit, identity("1", "a\0da@x.example"))
        assert user.email == "a\ufffdda@x.example"
        await database.write(audit.record, AuditEvent(NOW, "login_failed", user_id=user.id, detail="\0"))
        assert [event.detail for event in await database.read(audit.latest_of_user, user.id)] == ["\ufffd"]
        assert await database.read(users.find, "\0") == []


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long limits for locks and statements, so that a slow machine does not fail the test."""
    monkeypatch.setattr(connection, "LOCK_SECONDS", 30)
    monkeypatch.setattr(connection, "STATEMENT_SECONDS", 30)


@pytest.mark.usefixtures("patient")
async def test_nobody_is_deactivated_while_a_session_of_theirs_is_opened(postgres_url: str) -> None:
    """A deactivation waits for a sign-in of the same user in progress, and then ends the new session too."""
    async with opened(postgres_url) as database:
        user = await database.write(admit)
        gate = Gate(postgres_url)

        def redeem(db: Connection) -> str:
            found = users.lock_row(db, user.id)
            assert found is not None
            assert found.is_active
            gate.wait(db)
            return add_session(db, user).id

        redeeming = asyncio.create_task(database.write(redeem))
        await gate.has(1)
        ending = asyncio.create_task(database.write(accounts.set_active, user, active=False, now=NOW))
        await until_one_waits(database, ending)
        gate.open()
        session_id = await redeeming
        await ending
        await database.write(accounts.set_active, user, active=True, now=NOW)
        assert await database.read(active, session_id, NOW) is None


async def until_one_waits(database: Database, waiting: "asyncio.Task[object]") -> None:
    """Return once a transaction waits for a lock. `waiting` must not be done before."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    asked += "AND wait_event <> 'advisory'"
    async with asyncio.timeout(30):
        while not await database.read(lambda db: db.execute_sql(asked).fetchone()[0]):
            assert not waiting.done()


@pytest.mark.usefixtures("patient")
async def test_who_begins_a_session_waits_for_whoever_begins_another(postgres_url: str) -> None:
    """A sign-in waits for another one of the same user in progress, and then counts its session."""
    async with opened(postgres_url) as database:
        user = await database.write(admit)
        await database.write(crowds.fill, user, sessions.MAX_ACTIVE_SESSIONS - 1)
        gate = Gate(postgres_url)

        def begin_slowly(db: Connection) -> None:
            crowds.begin(db, user.id)
            gate.wait(db)

        slow = asyncio.create_task(database.write(begin_slowly))
        await gate.has(1)
        other = asyncio.create_task(database.write(crowds.begin, user.id))
        await until_one_waits(database, other)
        gate.open()
        await asyncio.gather(slow, other)
        assert len(await database.read(crowds.active, user.id)) == sessions.MAX_ACTIVE_SESSIONS


@pytest.mark.usefixtures("patient")
async def test_a_session_that_is_being_refreshed_is_not_displaced(postgres_url: str) -> None:
    """A session that was idle for longest is not displaced if its refresh commits first. Another session is
    displaced."""
    async with opened(postgres_url) as database:
        user = await database.write(admit)
        oldest, second, *_ = await database.write(crowds.fill, user, sessions.MAX_ACTIVE_SESSIONS)
        gate = Gate(postgres_url)

        def refresh(db: Connection) -> None:
            generations = Generations(1, 2, 2, 0, later(2000), NEVER)
            assert sessions.swap(db, Move(oldest, generations, oldest.expires_at))
            gate.wait(db)

        refreshing = asyncio.create_task(database.write(refresh))
        await gate.has(1)
        beginning = asyncio.create_task(database.write(crowds.begin, user.id, crowds.session_at(user.id, 1000)))
        await until_one_waits(database, beginning)
        gate.open()
        await asyncio.gather(refreshing, beginning)
        assert crowds.displaced(database, user) == [second.id]
        assert await database.read(active, oldest.id, NOW) is not None


OVER = purge.Limits(used=NOW, expired=later(2), events=NOW, strangers=NOW)


def test_purging_from_many_nodes_deletes_every_row_once(postgres_url: str) -> None:
    """Several nodes purge at the same time without waiting for one another, and without errors."""
    database = database_at(postgres_url)
    migrate(database)
    user = database.write_now(admit)
    for _ in range(40):
        database.write_now(add_session, user, lifetime=1)
    kept = database.write_now(add_session, user)

    def node(_: int) -> int:
        mine, total = database_at(postgres_url), 0
        while deleted := mine.write_now(purge.one_batch, OVER):
            total += deleted
        mine.close()
        return total

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(node, range(4))) == 40
    assert database.read_now(sessions.of_user, user.id) == [kept]
    database.close()


async def test_a_session_that_is_being_moved_on_is_not_purged(postgres_url: str) -> None:
    """A purge skips a row that a refresh has locked."""
    async with opened(postgres_url) as database:
        session = await database.write(add_session, await database.write(admit), lifetime=1)
        gate = Gate(postgres_url)

        def move_on(db: Connection) -> None:
            assert sessions.swap(db, Move(session, session.generations, later(1000)))
            gate.wait(db)

        moving = asyncio.create_task(database.write(move_on))
        await gate.has(1)
        async with asyncio.timeout(30):
            assert await database.write(purge.one_batch, OVER) == 0
        gate.open()
        await moving
        assert [kept.id for kept in await database.read(sessions.of_user, session.user_id)] == [session.id]


@pytest.fixture
def pgbouncer(postgres: Cluster) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode, with fewer connections than there are clients."""
    need_pgbouncer()
    with PgBouncer(postgres, pool_size=2) as bouncer:
        yield bouncer


@pytest.mark.slow
async def test_everything_but_migrating_works_through_pgbouncer(pgbouncer: PgBouncer, postgres_url: str) -> None:
    """Reads and writes of many clients work on two connections. Every transaction has the timeouts."""
    migrate(database_at(postgres_url))
    async with opened(pgbouncer.in_front_of(postgres_url), pool_size=8) as database:
        assert not database.prefers_one_statement  # a write is a transaction there, for its limits of time
        await asyncio.gather(*(database.read(users.page) for _ in range(8)))
        made = await asyncio.gather(*(database.write(admit, now=Millis(number)) for number in range(50)))
        assert len(await database.read(users.page)) == len(made)
        outcomes = await asyncio.gather(*(database.read(users.get, user.id) for user in made))
        assert list(outcomes) == list(made)
        assert await shown(database, "statement_timeout", writes=True) == "5s"
        assert await shown(database, "idle_in_transaction_session_timeout", writes=True) == "10s"
        assert await shown(database, "lock_timeout", writes=True) == "2s"


@pytest.mark.slow
def test_migrating_through_pgbouncer_is_refused_with_what_to_do(pgbouncer: PgBouncer, postgres_url: str) -> None:
    """Migrating needs a session's lock, which does not work through PgBouncer. Reading the pending migrations does."""
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


@pytest.mark.slow
def test_through_pgbouncer_transactions_of_the_terminal_take_their_time(
    postgres: Cluster, pgbouncer: PgBouncer, postgres_url: str
) -> None:
    """Writes and copies of commands lift the limits that the role has for requests."""
    migrate(database_at(postgres_url))
    limit_role(postgres, postgres_url, "5s")
    database = database_at(pgbouncer.in_front_of(postgres_url))
    assert database.write_now(limits) == {"0"}
    with database.snapshot() as db:
        assert limits(db) == {"0"}
    database.close()
