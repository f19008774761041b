"""PostgreSQL: reads and writes run on a pool of threads, and every thread has its own connection.

Requests work through PgBouncer in transaction mode: no prepared statements, and no state in the session. Only
migrations need PostgreSQL's own address, because their lock belongs to a session.
"""

import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import copy_context
from functools import partial
from time import perf_counter
from typing import Any, Literal

import peewee as pw
import psycopg

from nextarget.errors import DatabaseUnavailable, SchemaError
from nextarget.storage.engines.batching import Batcher
from nextarget.storage.engines.conninfo import parameters_of
from nextarget.storage.engines.database import Batchable, Database, K, P, R, Work
from nextarget.storage.engines.pool import Pool
from nextarget.storage.engines.postgres_errors import UNDONE, UNUSABLE, is_broken_rule, sqlstate, unavailable
from nextarget.storage.engines.trouble import Trouble
from nextarget.telemetry import metrics

CONNECT_SECONDS = 4
STATEMENT_SECONDS = 5
"""How long one statement of a request may take. The terminal and migrations have no limit."""
LOCK_SECONDS = 2
"""How long a request's write may wait for a locked row. PostgreSQL needs one second of it (`deadlock_timeout`) to
detect a deadlock."""
IDLE_SECONDS = 10
"""How long the server keeps a transaction, and its locks, that sends no statement."""
ATTEMPTS = 3
"""How often a transaction is tried that PostgreSQL rolls back because of a conflict with another one."""
MIGRATION_LOCK = 0x6E657874617267  # "nextarg"

_CONNECTION = {
    "connect_timeout": CONNECT_SECONDS,  # for one address of the host
    "application_name": "nextarget",
    "client_encoding": "UTF8",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms without an acknowledgement from the server's machine
}


class PostgresDatabase(Database):
    """One database of a PostgreSQL server."""

    shared = True

    def __init__(self, url: str, *, pool_size: int) -> None:
        self._parameters = _CONNECTION | parameters_of(url)
        self._pool_size = pool_size
        self._pool: Pool | None = None
        self._now = _Session(_Peewee(self._parameters), str(self))  # one connection for every thread that uses it
        self.trouble = Trouble(str(self))
        self._reads = Batcher("read", partial(self._perform, False), self.trouble.note)
        self._writes = Batcher("write", partial(self._perform, True), self.trouble.note)

    def __str__(self) -> str:
        host = str(self._parameters.get("host") or "localhost")
        port = self._parameters.get("port")
        place = f"[{host}]" if ":" in host else host
        return f"postgresql://{place}{f':{port}' if port else ''}/{self._parameters.get('dbname', '')}"

    def open(self) -> None:
        """Start the pool if the database answers. Raises DatabaseUnavailable."""
        if self._pool is not None:
            return
        with self.probe():
            self._pool = Pool(self._worker, self._pool_size)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        self._now.close()
        self.trouble.close()

    def _worker(self) -> "_Session":
        return _Session(_Peewee(self._parameters, statement_seconds=STATEMENT_SECONDS, thread_safe=False), str(self))

    async def read(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._timed("read", self._perform(False, fn, *args, **kwargs))

    async def write(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._timed("write", self._perform(True, fn, *args, **kwargs))

    def read_batched(self, fn: Batchable[K, R], key: K) -> Awaitable[R]:
        return self._reads.submit(fn, key)

    def write_batched(self, fn: Batchable[K, R], key: K) -> Awaitable[R]:
        return self._writes.submit(fn, key)

    async def _timed(self, kind: Literal["read", "write"], work: Awaitable[R]) -> R:
        began = perf_counter()
        try:
            return await work
        except DatabaseUnavailable as error:
            self.trouble.note(error)
            raise
        finally:
            metrics.observe_database(kind, perf_counter() - began)

    async def _perform(self, writes: bool, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._pool is None:
            raise DatabaseUnavailable(note="the database is not open", cause="closed")
        # Run in the caller's context: events that are recorded then carry the id of the caller's request.
        context = copy_context()
        result: R = await self._pool.perform(lambda db: context.run(fn, db, *args, **kwargs), writes=writes)
        return result

    def unavailable(self, error: Exception) -> DatabaseUnavailable:
        return unavailable(error, self._parameters, str(self))

    def read_now(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._now.perform(lambda db: fn(db, *args, **kwargs), writes=False)

    def write_now(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._now.perform(lambda db: fn(db, *args, **kwargs), writes=True)

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
        db = _Peewee(self._parameters, thread_safe=False)
        try:
            db.connect()
            yield db
        except UNUSABLE as error:
            if is_broken_rule(error):
                raise
            raise self.unavailable(error) from error
        finally:
            _disconnect(db)

    @contextmanager
    def snapshot(self) -> Iterator[pw.Database]:
        """A transaction that sees what was committed when its first statement ran (PostgreSQL's manual, 13.2.2)."""
        with self._connected() as reading:
            connection: _Connection = reading.connection()  # type: ignore[no-untyped-call]
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


class _Session:
    """The Worker of a thread: one connection, which is opened when it is needed, and again after it was lost."""

    def __init__(self, db: "_Peewee", place: str) -> None:
        self._db = db
        self._place = place

    def perform(self, work: Callable[[pw.Database], R], *, writes: bool) -> R:
        return self._write(work) if writes else self._read(work)

    def _read(self, work: Callable[[pw.Database], R]) -> R:
        """Tried a second time if the connection was lost: a restarted server closes it, and so may an idle timeout."""
        attempt = 1
        while True:
            try:
                return work(self._db)
            except UNUSABLE as error:
                lost = _is_lost(self._db)
                failure = self._failed(error)
                if attempt == 2 or not lost:
                    raise failure from error
                attempt += 1

    def _write(self, work: Callable[[pw.Database], R]) -> R:
        """Not tried again after the connection was lost, because the commit may have happened.

        The caller gets an error, and may repeat the request. If a refresh was committed, its answer was lost, and
        `tokens.refresh` has a rule for that. If a login or a code was used up, the person signs in again. Revoking,
        deactivating and deleting may be repeated without harm.
        """
        attempt = 1
        while True:
            try:
                with self._db.atomic():
                    return work(self._db)
            except UNUSABLE as error:
                failure = self._failed(error)
                if attempt == ATTEMPTS or sqlstate(error) not in UNDONE:
                    raise failure from error
                attempt += 1

    def _failed(self, error: Exception) -> DatabaseUnavailable:
        """Close the connection, and translate the error. An error that means a broken rule is raised as it is."""
        if is_broken_rule(error):
            raise error
        _disconnect(self._db)
        return unavailable(error, self._db.parameters, self._place)

    def cut(self) -> None:
        if self._db.latest is not None:
            self._db.latest.cut()

    def close(self) -> None:
        _disconnect(self._db)


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that other threads can cut. `begin` is the SQL that its transactions begin with."""

    pooled = False
    limits = ""
    begin = b""
    given_up = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._closing = threading.Lock()
        # A duplicate descriptor: libpq may close its own at any time, and the system would reuse its number at once.
        self._line = socket.socket(fileno=os.dup(self.fileno()))

    def cut(self) -> None:
        """Shut the socket down: the thread that waits on it gets an error at once."""
        self.given_up = True
        with self._closing, suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._closing:
            self._line.close()
        super().close()


class _Cursor(psycopg.Cursor[tuple[Any, ...]]):
    """PostgreSQL's text cannot hold NUL. Values with NUL are stored, and searched for, with U+FFFD instead."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        try:
            return super().execute(query, params, **options)
        except psycopg.DataError:
            if not any(isinstance(value, str) and "\0" in value for value in params or ()):
                raise
        # The driver refused the value, and sent nothing to the server.
        clean = [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in params]
        return super().execute(query, clean, **options)


class _Peewee(pw.PostgresqlDatabase):
    """Peewee's PostgreSQL with psycopg 3. `statement_seconds` limits every statement; 0 lifts all limits."""

    def __init__(self, parameters: dict[str, Any], *, statement_seconds: int = 0, thread_safe: bool = True) -> None:
        self.latest: _Connection | None = None
        """The connection, for `cut`. Peewee's `connection()` would open a new one for the thread that calls it."""
        self.parameters = parameters
        # Migrations and copies take long: 0 lifts the limits, also those that the role has.
        idle, lock = (IDLE_SECONDS, LOCK_SECONDS) if statement_seconds else (0, 0)
        limits = {
            "statement_timeout": statement_seconds,
            "idle_in_transaction_session_timeout": idle,
            "lock_timeout": 0,
        }
        # Only in transactions. A read waits for no row; it may wait for a table until its statement times out.
        self._lock_limit = f"; SET LOCAL lock_timeout = '{lock}s'"
        self._options = " ".join(f"-c {name}={seconds}s" for name, seconds in limits.items())
        self._set_local = "".join(f"; SET LOCAL {name} = '{seconds}s'" for name, seconds in limits.items())
        super().__init__(str(parameters.get("dbname") or "postgres"), prefer_psycopg3=True, thread_safe=thread_safe)

    def _connect(self) -> _Connection:
        self.latest = connection = self._dial()
        try:
            ((pid, durability),) = connection.execute(
                "SELECT pg_backend_pid(), current_setting('synchronous_commit')"
            ).fetchall()
            # A pooler tells its clients a process id that is not the backend's.
            connection.pooled = pid != connection.info.backend_pid
            if connection.pooled:
                connection.limits = self._set_local  # a pooler may accept our options and ignore them
            begin = f"BEGIN ISOLATION LEVEL READ COMMITTED{connection.limits}{self._lock_limit}"
            if durability == "off":
                begin += "; SET LOCAL synchronous_commit = on"  # a sign-out survives a power cut
            connection.begin = begin.encode()
        except BaseException:
            connection.close()
            raise
        return connection

    def _dial(self) -> _Connection:
        fixed: dict[str, Any] = {"autocommit": True, "prepare_threshold": None, "cursor_factory": _Cursor}
        if self._options:
            options = f"{self._options} {self.parameters.get('options', '')}".rstrip()
            try:
                return _Connection.connect(**self.parameters | {"options": options}, **fixed)
            except psycopg.OperationalError as error:
                if "unsupported startup parameter" not in str(error):
                    raise
                self._options = ""  # PgBouncer's error: the limits at the begin of transactions must suffice
        return _Connection.connect(**self.parameters, **fixed)

    def begin(self, isolation_level: object = None) -> None:
        """Begin a transaction. If the connection is dead, begin on a new one: nothing was lost with the old one."""
        connection: _Connection = self.connection()  # type: ignore[no-untyped-call]
        try:
            connection.execute(connection.begin)
        except psycopg.OperationalError:
            if not connection.closed:
                raise
            _disconnect(self)
            connection = self.connection()  # type: ignore[no-untyped-call]
            connection.execute(connection.begin)

    def rollback(self) -> None:
        """A rollback on a lost connection fails; the error is ignored, because it would hide the first one."""
        with suppress(pw.DatabaseError, pw.InterfaceError, psycopg.Error):
            super().rollback()


def _is_lost(db: pw.Database) -> bool:
    """Whether the connection was lost, and not cut by the pool."""
    if db.is_closed():
        return False
    connection: _Connection = db.connection()  # type: ignore[no-untyped-call]
    return connection.closed and not connection.given_up


def _disconnect(db: pw.Database) -> None:
    """Close the connection and forget it, in any state."""
    with suppress(pw.DatabaseError, pw.InterfaceError, psycopg.Error):
        db.close()
    db.dispose()
