"""PostgreSQL: each read and each write on a thread of a pool, which has a connection of its own.

Everything works through PgBouncer in transaction mode: no prepared statements, no state of a session on the path of a
request. Migrations alone need PostgreSQL's own address, for a lock that belongs to their session.
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
"""How long one statement of a request may take. On the terminal and in migrations there is no limit."""
LOCK_SECONDS = 2
"""How long a request's write may wait for a row that another transaction holds. PostgreSQL needs one of them
(`deadlock_timeout`) to see that two wait for each other."""
IDLE_SECONDS = 10
"""How long the server lets a transaction of ours hold its locks while it hears nothing from us."""
ATTEMPTS = 3
"""For a transaction that the database undid because it got in another's way."""
MIGRATION_LOCK = 0x6E657874617267  # "nextarg"

_CONNECTION = {
    "connect_timeout": CONNECT_SECONDS,  # for each address of the host
    "application_name": "nextarget",
    "client_encoding": "UTF8",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms without an acknowledgement from the other machine
}


class PostgresDatabase(Database):
    """The doors to one database of a PostgreSQL server."""

    shared = True

    def __init__(self, url: str, *, pool_size: int) -> None:
        self._parameters = _CONNECTION | parameters_of(url)
        self._pool_size = pool_size
        self._pool: Pool | None = None
        self._now = _Session(_Peewee(self._parameters), str(self))  # a connection for each thread that asks
        self.trouble = Trouble(str(self))
        self._reads = Batcher("read", partial(self._perform, False), self.trouble.note)
        self._writes = Batcher("write", partial(self._perform, True), self.trouble.note)

    def __str__(self) -> str:
        host = str(self._parameters.get("host") or "localhost")
        port = self._parameters.get("port")
        place = f"[{host}]" if ":" in host else host
        return f"postgresql://{place}{f':{port}' if port else ''}/{self._parameters.get('dbname', '')}"

    def open(self) -> None:
        """Start the pool, once the database has answered. Raises DatabaseUnavailable."""
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
        # In the caller's context, so that what is recorded there names the caller's request.
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
        """Always: one that does not is an error when it is asked, which says how to make it."""
        return True

    @contextmanager
    def probe(self) -> Iterator[pw.Database]:
        """A connection that is closed again."""
        looking = _Peewee(self._parameters, thread_safe=False)
        try:
            looking.connect()
            yield looking
        except UNUSABLE as error:
            if is_broken_rule(error):
                raise
            raise self.unavailable(error) from error
        finally:
            _disconnect(looking)

    schema_changes = probe

    @contextmanager
    def snapshot(self) -> Iterator[pw.Database]:
        """A transaction that sees what was committed when its first statement ran (PostgreSQL's manual, 13.2.2)."""
        with self.probe() as reading:
            connection: _Connection = reading.connection()  # type: ignore[no-untyped-call]
            connection.execute(f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY{connection.limits}".encode())
            yield reading
            reading.execute_sql("COMMIT")  # type: ignore[no-untyped-call]

    @contextmanager
    def migration_lock(self) -> Iterator[None]:
        """An advisory lock on a connection of its own, which gives it back when it ends, however it ends.

        Raises SchemaError behind a connection pooler: it may lend our session, and the lock, to somebody else.
        """
        with self.probe() as db:
            if db.connection().pooled:  # type: ignore[no-untyped-call]
                raise SchemaError(
                    f"{self} is behind a connection pooler such as PgBouncer, through which migrations cannot be "
                    "locked. Run `nextarget init-db` once with DATABASE_URL naming PostgreSQL's own address; "
                    "then the server can use this one."
                )
            db.execute_sql("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))  # type: ignore[no-untyped-call]
            yield

    def sole_purger(self) -> AbstractContextManager[bool]:
        """Each batch asks for its turn itself: a lock for longer than a transaction takes a session of its own."""
        return nullcontext(True)


class _Session:
    """One connection, made when it is needed and again when it was lost. What a thread of the pool works with."""

    def __init__(self, db: "_Peewee", place: str) -> None:
        self._db = db
        self._place = place

    def perform(self, work: Callable[[pw.Database], R], *, writes: bool) -> R:
        return self._write(work) if writes else self._read(work)

    def _read(self, work: Callable[[pw.Database], R]) -> R:
        """Done a second time when the connection was lost: the server was restarted, or cut an idle connection."""
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
        """Never done a second time after the connection was lost: the commit may have happened.

        The caller is told that it failed, and may repeat it all the same. A refresh that was committed unheard is a
        response that was lost, for which `tokens.refresh` has a rule. A login or a code that was consumed unheard
        ends nothing that existed: the person starts again. To revoke, to deactivate or to delete twice is to do it.
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
        """What to say about an error that means that the database cannot be used. The connection is given up, in
        whatever state it is. Raises the error itself when it means a broken rule."""
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
    """A connection that knows what its transactions must begin with, and can be cut from another thread."""

    pooled = False
    limits = ""
    begin = b""
    given_up = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._closing = threading.Lock()
        # A descriptor of our own: libpq closes its own when it likes, and the number may be another's at once.
        self._line = socket.socket(fileno=os.dup(self.fileno()))

    def cut(self) -> None:
        """Shut the socket: whoever waits on it learns at once that the connection is lost."""
        self.given_up = True
        with self._closing, suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._closing:
            self._line.close()
        super().close()


class _Cursor(psycopg.Cursor[tuple[Any, ...]]):
    """PostgreSQL has no NUL in its texts. What somebody sends with one is kept, and looked for, as U+FFFD."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        try:
            return super().execute(query, params, **options)
        except psycopg.DataError:
            if not any(isinstance(value, str) and "\0" in value for value in params or ()):
                raise
        # It was the driver that refused: the server has heard nothing of it.
        clean = [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in params]
        return super().execute(query, clean, **options)


class _Peewee(pw.PostgresqlDatabase):
    """Peewee's PostgreSQL with psycopg 3. `statement_seconds` limits each statement; 0 lifts every limit."""

    def __init__(self, parameters: dict[str, Any], *, statement_seconds: int = 0, thread_safe: bool = True) -> None:
        self.latest: _Connection | None = None
        """What another thread may cut. Peewee's own door to it would connect that thread, and make it wait, too."""
        self.parameters = parameters
        # A migration takes its time, and so does a copy, whatever limits the role itself has.
        idle, lock = (IDLE_SECONDS, LOCK_SECONDS) if statement_seconds else (0, 0)
        limits = {
            "statement_timeout": statement_seconds,
            "idle_in_transaction_session_timeout": idle,
            "lock_timeout": 0,
        }
        # Only of transactions: a read waits for no row, and for a table it may, as long as its statement may take.
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
            # A pooler makes up the process id that it tells its clients when they connect.
            connection.pooled = pid != connection.info.backend_pid
            if connection.pooled:
                connection.limits = self._set_local  # one that takes our options may still ignore them
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
                self._options = ""  # PgBouncer's words: what the transactions begin with must do
        return _Connection.connect(**self.parameters, **fixed)

    def begin(self, isolation_level: object = None) -> None:
        """Begin a transaction, on a new connection when the old one turns out to be dead: nothing was sent on it."""
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
        """On a connection that is lost there is nothing to undo: to say so would hide how it was lost."""
        with suppress(pw.DatabaseError, pw.InterfaceError, psycopg.Error):
            super().rollback()


def _is_lost(db: pw.Database) -> bool:
    """Whether there was a connection, and it is gone, though nobody gave it up."""
    if db.is_closed():
        return False
    connection: _Connection = db.connection()  # type: ignore[no-untyped-call]
    return connection.closed and not connection.given_up


def _disconnect(db: pw.Database) -> None:
    """Forget the connection, in whatever state it is."""
    with suppress(pw.DatabaseError, pw.InterfaceError, psycopg.Error):
        db.close()
    db.dispose()
