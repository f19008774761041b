"""PostgreSQL: reads and writes of requests run on connections of the event loop's, everything else on one of a thread.

Requests work through PgBouncer in transaction mode: no prepared statements, and no state in the session. Only
migrations need PostgreSQL's own address, because their lock belongs to a session.
"""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from time import perf_counter
from typing import Any, Literal

import peewee as pw

from nextarget.errors import DatabaseUnavailable, SchemaError
from nextarget.storage.engines.database import Batchable, Connection, Database, K, P, R, Work
from nextarget.storage.engines.postgres.batching import Batcher
from nextarget.storage.engines.postgres.connection import DEFAULTS, PeeweePostgres, PostgresConnection, disconnect
from nextarget.storage.engines.postgres.conninfo import parameters_of
from nextarget.storage.engines.postgres.errors import UNUSABLE, is_broken_rule, unavailable
from nextarget.storage.engines.postgres.pool import Line, Pool
from nextarget.storage.engines.postgres.session import Session
from nextarget.storage.engines.trouble import Trouble
from nextarget.telemetry import metrics

MIGRATION_LOCK = 0x6E657874617267  # "nextarg"


class PostgresDatabase(Database):
    """One database of a PostgreSQL server."""

    shared = True

    def __init__(self, url: str, *, pool_size: int) -> None:
        self._parameters = DEFAULTS | parameters_of(url) | {"client_encoding": "UTF8"}  # as `asking` sends text
        self._pool_size = pool_size
        self._pool: Pool | None = None
        self.prefers_one_statement = False
        self._now = Session(PeeweePostgres(self._parameters), str(self))  # one connection for every thread that uses it
        self.trouble = Trouble(str(self))
        self._reads = Batcher("read", self._submit, self.trouble.note)
        self._writes = Batcher("write", self._submit, self.trouble.note)

    def __str__(self) -> str:
        host = str(self._parameters.get("host") or "localhost")
        port = self._parameters.get("port")
        place = f"[{host}]" if ":" in host else host
        return f"postgresql://{place}{f':{port}' if port else ''}/{self._parameters.get('dbname', '')}"

    def open(self) -> None:
        """Prepare the connections if the database answers. Raises DatabaseUnavailable."""
        if self._pool is None:
            with self.probe() as db:
                # Behind a pooler every write is a transaction, for its limits of time.
                self.prefers_one_statement = not db.connection().pooled  # type: ignore[no-untyped-call]
                self._pool = Pool(self._session, self._pool_size)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        self._now.close()
        self.trouble.close()

    def _session(self, line: Line) -> Session:
        return Session(PeeweePostgres(self._parameters, limited=True, thread_safe=False, dial=line.dial), str(self))

    async def read(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._timed("read", fn, *args, **kwargs)

    async def write(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._timed("write", fn, *args, **kwargs)

    def read_batched(self, fn: Batchable[K, R], key: K) -> Awaitable[R]:
        return self._reads.submit(fn, key)

    def write_batched(self, fn: Batchable[K, R], key: K) -> Awaitable[R]:
        return self._writes.submit(fn, key)

    async def _timed(self, kind: Literal["read", "write"], fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        # Run in the caller's context: events that are recorded then carry the id of the caller's request.
        context = copy_context()
        began = perf_counter()
        try:
            result: R = await self._submit(lambda db: context.run(fn, db, *args, **kwargs), writes=kind == "write")
        except DatabaseUnavailable as error:
            self.trouble.note(error)
            raise
        finally:
            metrics.observe_database(kind, perf_counter() - began)
        return result

    def _submit(self, work: Work[[], Any], *, writes: bool, single: bool = False) -> "asyncio.Future[Any]":
        if self._pool is not None:
            return self._pool.submit(work, writes=writes, single=single)
        refused = asyncio.get_running_loop().create_future()
        refused.set_exception(DatabaseUnavailable(note="the database is not open", cause="closed"))
        return refused

    def unavailable(self, error: Exception) -> DatabaseUnavailable:
        return unavailable(error, self._parameters, str(self))

    def read_now(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._now.perform(lambda db: fn(db, *args, **kwargs), writes=False)

    def write_now(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._now.perform(lambda db: fn(db, *args, **kwargs), writes=True)

    def write_unsynced(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """With `synchronous_commit` off (postgresql.org/docs/current/wal-async-commit.html)."""

        def unsynced(db: Connection) -> R:
            db.execute_sql("SET LOCAL synchronous_commit TO off")  # type: ignore[no-untyped-call]
            return fn(db, *args, **kwargs)

        return self._now.perform(unsynced, writes=True)

    def exists(self) -> bool:
        """Always True: a connection to a missing database fails with an error that says how to create it."""
        return True

    def probe(self) -> AbstractContextManager[pw.Database]:
        return self._connected()

    def schema_changes(self) -> AbstractContextManager[pw.Database]:
        return self._connected()

    @contextmanager
    def _connected(self) -> Iterator[pw.Database]:
        """A connection that is closed afterwards."""
        db = PeeweePostgres(self._parameters, thread_safe=False)
        try:
            db.connect()
            yield db
        except UNUSABLE as error:
            if is_broken_rule(error):
                raise
            raise self.unavailable(error) from error
        finally:
            disconnect(db)

    @contextmanager
    def snapshot(self) -> Iterator[pw.Database]:
        """A transaction that sees what was committed when its first statement ran (PostgreSQL's manual, 13.2.2)."""
        with self._connected() as reading:
            connection: PostgresConnection = reading.connection()  # type: ignore[no-untyped-call]
            connection.execute(f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY{connection.limits}".encode())
            yield reading
            reading.execute_sql("COMMIT")  # type: ignore[no-untyped-call]

    @contextmanager
    def migration_lock(self) -> Iterator[None]:
        """An advisory lock on a connection of its own. PostgreSQL releases it when the connection ends.

        Raises SchemaError behind a connection pooler, which may give our session, and the lock, to another client.
        """
        with self._connected() as db:
            if db.connection().pooled:  # type: ignore[no-untyped-call]
                raise SchemaError(
                    f"{self} is behind a connection pooler such as PgBouncer, through which migrations cannot be "
                    "locked. Run `nextarget init-db` once with DATABASE_URL naming PostgreSQL's own address; "
                    "then the server can use this one."
                )
            db.execute_sql("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))  # type: ignore[no-untyped-call]
            yield

    def sole_purger(self) -> AbstractContextManager[bool]:
        """Always True: every batch of a purge takes a lock of its own (`purge.take_turn`), for one transaction."""
        return nullcontext(True)
