"""Connections to PostgreSQL: their parameters, their time limits, and how they wait."""

from collections.abc import Callable
from contextlib import suppress
from select import POLLIN, poll
from typing import Any

import peewee as pw
import psycopg
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.waiting import Ready, Wait

from nextarget.storage.engines.database import R
from nextarget.storage.engines.postgres.asking import asked, without_nul

CONNECT_SECONDS = 4
STATEMENT_SECONDS = 5
"""How long one statement of a request may take. The terminal and migrations have no limit."""
LOCK_SECONDS = 2
"""How long a request may wait for a locked row or table. PostgreSQL needs one second of it (`deadlock_timeout`) to
detect a deadlock."""
IDLE_SECONDS = 10
"""How long PostgreSQL waits for the next statement of a transaction. Then it ends the connection and its locks."""

DEFAULTS = {
    "connect_timeout": CONNECT_SECONDS,  # for one address of the host
    "application_name": "nextarget",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms without an acknowledgement from the server's machine
}
"""Parameters of a connection, which a DATABASE_URL may change."""


class PostgresConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection. `begin` is the SQL that its transactions begin with.

    `pooled` is whether a pooler may run every transaction on another server connection. Then the time limits are in
    `limits`, for every transaction; otherwise the session has them, and a single statement needs no transaction.
    """

    pooled = False
    limits = ""
    begin = b""
    given_up = False
    _pause: Callable[[Wait], Ready] | None = None
    _forget: Callable[[], None] | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._loader = Transformer(self)
        self._poll = poll()
        self._poll.register(self.fileno(), POLLIN)

    def use_event_loop(self, pause: Callable[[Wait], Ready], forget: Callable[[], None]) -> None:
        """From now on wait with `pause` instead of blocking the thread. `forget` is called when it is closed."""
        self._pause, self._forget = pause, forget

    def wait(self, gen: PQGen[R], *arguments: Any, **options: Any) -> R:
        """Run one of psycopg's generators, which yield what they wait for.

        After an error of the socket, such as a reset, libuv reports it once and watches no longer (`uv__poll_io` in its
        src/unix/poll.c). So a generator that waits again after it has read something asks the socket first.
        """
        pause = self._pause
        if pause is None:
            return super().wait(gen, *arguments, **options)
        try:
            ready = pause(next(gen))
            while True:
                wanted = gen.send(ready)
                ready = pause(wanted) if self.is_quiet() else Ready.R
        except StopIteration as done:
            result: R = done.value
            return result

    def execute(self, query: Any, params: Any = (), **options: Any) -> Any:
        """Execute a `Statement` or, as bytes, several statements without values. Returns an Answer.

        It takes a third of the time of psycopg's cursors, which Peewee uses: they prepare for values of any type.
        """
        return self.wait(asked(self.pgconn, self._loader, query, params))

    def is_quiet(self) -> bool:
        """Whether there is nothing to read, and no error. An idle connection is told only its end, or a changed
        setting."""
        return not self._poll.poll(0)

    def close(self) -> None:
        forget, self._forget = self._forget, None
        if forget is not None:
            forget()
        super().close()


class _Cursor(psycopg.Cursor[tuple[Any, ...]]):
    """A cursor of Peewee's, for values with NUL too (`without_nul`)."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        try:
            return super().execute(query, params, **options)
        except psycopg.DataError:
            if not any(isinstance(value, str) and "\0" in value for value in params or ()):
                raise
        # The driver refused the value, and sent nothing to the server.
        clean = [without_nul(value) if isinstance(value, str) else value for value in params]
        return super().execute(query, clean, **options)


class PeeweePostgres(pw.PostgresqlDatabase):
    """Peewee's PostgreSQL with psycopg 3. `limited` is whether statements and transactions have time limits.

    `dial` opens a connection by calling its argument on another thread. Without it, this thread opens it.
    """

    def __init__(
        self,
        parameters: dict[str, Any],
        *,
        limited: bool = False,
        thread_safe: bool = True,
        dial: Callable[[Callable[[], PostgresConnection]], PostgresConnection] | None = None,
    ) -> None:
        self.latest: PostgresConnection | None = None
        """The connection, for `cut`. Peewee's `connection()` would open a new one."""
        self.parameters = parameters
        self._dial = dial
        # Migrations and copies take long: 0 lifts the limits, also those that the role has.
        statement, idle, lock = (STATEMENT_SECONDS, IDLE_SECONDS, LOCK_SECONDS) if limited else (0, 0, 0)
        self._settings = {
            "statement_timeout": f"{statement}s",
            "idle_in_transaction_session_timeout": f"{idle}s",
            "lock_timeout": f"{lock}s",
            "default_transaction_isolation": "read committed",
        }
        super().__init__(str(parameters.get("dbname") or "postgres"), prefer_psycopg3=True, thread_safe=thread_safe)

    def _connect(self) -> PostgresConnection:
        self.latest = None
        self.latest = connection = self._dial(self._open) if self._dial else self._open()
        return connection

    def _open(self) -> PostgresConnection:
        connection = PostgresConnection.connect(
            **self.parameters, autocommit=True, prepare_threshold=None, cursor_factory=_Cursor
        )
        try:
            answer = connection.execute("SELECT pg_backend_pid(), current_setting('synchronous_commit')")
            ((pid, durability),) = answer.fetchall()
            # A sign-out survives a power cut, so a commit waits for the disk.
            settings = self._settings | ({"synchronous_commit": "on"} if durability == "off" else {})
            # A pooler tells its clients a process id that is not the backend's.
            connection.pooled = pid != connection.info.backend_pid
            if connection.pooled:
                connection.limits = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in settings.items())
            else:
                connection.execute("; ".join(f"SET {name} = '{value}'" for name, value in settings.items()).encode())
            connection.begin = f"BEGIN ISOLATION LEVEL READ COMMITTED{connection.limits}".encode()
        except BaseException:
            connection.close()
            raise
        return connection

    def begin(self, isolation_level: object = None) -> None:
        """Begin a transaction. If the connection is dead, begin on a new one: nothing was lost with the old one."""
        connection: PostgresConnection = self.connection()  # type: ignore[no-untyped-call]
        try:
            connection.execute(connection.begin)
        except psycopg.OperationalError:
            if not is_lost(self):
                raise
            disconnect(self)
            connection = self.connection()  # type: ignore[no-untyped-call]
            connection.execute(connection.begin)

    def commits_by_itself(self) -> bool:
        """Whether a single statement needs no transaction around it. An idle connection that has died is replaced."""
        connection: PostgresConnection = self.connection()  # type: ignore[no-untyped-call]
        if not connection.is_quiet():
            disconnect(self)
            connection = self.connection()  # type: ignore[no-untyped-call]
        return not connection.pooled

    def commit(self) -> None:
        self.connection().execute(b"COMMIT")  # type: ignore[no-untyped-call]

    def rollback(self) -> None:
        """A rollback on a lost connection fails; the error is ignored, because it would hide the first one."""
        with suppress(pw.DatabaseError, pw.InterfaceError, psycopg.Error):
            self.connection().execute(b"ROLLBACK")  # type: ignore[no-untyped-call]


def is_lost(db: pw.Database) -> bool:
    """Whether the connection was lost, and not cut by the pool."""
    if db.is_closed():
        return False
    connection: PostgresConnection = db.connection()  # type: ignore[no-untyped-call]
    return connection.closed and not connection.given_up


def disconnect(db: pw.Database) -> None:
    """Close the connection and forget it, in any state."""
    with suppress(pw.DatabaseError, pw.InterfaceError, psycopg.Error):
        db.close()
    db.dispose()
