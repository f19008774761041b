"""Connections to PostgreSQL: their parameters, their time limits, and how another thread cuts one."""

import os
import socket
import threading
from contextlib import suppress
from typing import Any

import peewee as pw
import psycopg

CONNECT_SECONDS = 4
STATEMENT_SECONDS = 5
"""How long one statement of a request may take. The terminal and migrations have no limit."""
LOCK_SECONDS = 2
"""How long a request's write may wait for a locked row. PostgreSQL needs one second of it (`deadlock_timeout`) to
detect a deadlock."""
IDLE_SECONDS = 10
"""How long PostgreSQL waits for the next statement of a transaction. Then it ends the connection and its locks."""

DEFAULTS = {
    "connect_timeout": CONNECT_SECONDS,  # for one address of the host
    "application_name": "nextarget",
    "client_encoding": "UTF8",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms without an acknowledgement from the server's machine
}
"""Parameters of a connection, which a DATABASE_URL may change."""


class PostgresConnection(psycopg.Connection[tuple[Any, ...]]):
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


class PeeweePostgres(pw.PostgresqlDatabase):
    """Peewee's PostgreSQL with psycopg 3. `limited` is whether statements and transactions have time limits."""

    def __init__(self, parameters: dict[str, Any], *, limited: bool = False, thread_safe: bool = True) -> None:
        self.latest: PostgresConnection | None = None
        """The connection, for `cut`. Peewee's `connection()` would open a new one for the thread that calls it."""
        self.parameters = parameters
        # Migrations and copies take long: 0 lifts the limits, also those that the role has.
        statement, idle, lock = (STATEMENT_SECONDS, IDLE_SECONDS, LOCK_SECONDS) if limited else (0, 0, 0)
        limits = {
            "statement_timeout": statement,
            "idle_in_transaction_session_timeout": idle,
            "lock_timeout": 0,
        }
        # Only in transactions. A read waits for no row; it may wait for a table until its statement times out.
        self._lock_limit = f"; SET LOCAL lock_timeout = '{lock}s'"
        self._options = " ".join(f"-c {name}={seconds}s" for name, seconds in limits.items())
        self._set_local = "".join(f"; SET LOCAL {name} = '{seconds}s'" for name, seconds in limits.items())
        super().__init__(str(parameters.get("dbname") or "postgres"), prefer_psycopg3=True, thread_safe=thread_safe)

    def _connect(self) -> PostgresConnection:
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

    def _dial(self) -> PostgresConnection:
        fixed: dict[str, Any] = {"autocommit": True, "prepare_threshold": None, "cursor_factory": _Cursor}
        if self._options:
            options = f"{self._options} {self.parameters.get('options', '')}".rstrip()
            try:
                return PostgresConnection.connect(**self.parameters | {"options": options}, **fixed)
            except psycopg.OperationalError as error:
                if "unsupported startup parameter" not in str(error):
                    raise
                self._options = ""  # from PgBouncer; `begin` still sets the limits in every transaction
        return PostgresConnection.connect(**self.parameters, **fixed)

    def begin(self, isolation_level: object = None) -> None:
        """Begin a transaction. If the connection is dead, begin on a new one: nothing was lost with the old one."""
        connection: PostgresConnection = self.connection()  # type: ignore[no-untyped-call]
        try:
            connection.execute(connection.begin)
        except psycopg.OperationalError:
            if not connection.closed:
                raise
            disconnect(self)
            connection = self.connection()  # type: ignore[no-untyped-call]
            connection.execute(connection.begin)

    def rollback(self) -> None:
        """A rollback on a lost connection fails; the error is ignored, because it would hide the first one."""
        with suppress(pw.DatabaseError, pw.InterfaceError, psycopg.Error):
            super().rollback()


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
