"""Connections to a SQLite file: how they are opened, their pragmas, and how they wait for the write lock."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import peewee as pw

from nextarget.storage.engines.files import prepare_database, refuse_prepared
from nextarget.storage.engines.rests import Rests
from nextarget.storage.engines.sqlite.errors import translated

BUSY_TIMEOUT_MS = 10_000
RETRY_MS = 20
"""How long SQLite itself waits for the write lock before we try again."""
SLICE = 20_000
"""Steps of SQLite's virtual machine between two rests of a long statement. It writes about half a MiB meanwhile."""


class PeeweeSqlite(pw.SqliteDatabase):
    """Peewee's SQLite, with transactions that try often to get the write lock.

    SQLite's own busy handler sleeps longer after every try, in the end 100 ms. When other processes write without a
    pause, the lock is free only for moments, and such sleeps miss it for seconds. Reads hardly ever wait.
    """

    def __init__(self, path: Path, *, waits_ms: int = BUSY_TIMEOUT_MS) -> None:
        super().__init__(
            str(path),
            lock_type="IMMEDIATE",
            pragmas=[
                ("busy_timeout", BUSY_TIMEOUT_MS),  # first: switching to WAL may have to wait for a lock
                ("journal_mode", "wal"),
                ("synchronous", "full"),
                ("foreign_keys", 1),
                ("journal_size_limit", 16 * 1024 * 1024),
                ("busy_timeout", waits_ms),
            ],
        )

    def _connect(self) -> sqlite3.Connection:
        try:
            prepare_database(Path(self.database))
        except OSError as error:
            raise pw.OperationalError(f"unable to open database file: {error.strerror}") from error
        connection: sqlite3.Connection = super()._connect()  # type: ignore[misc]
        return connection

    def rollback(self) -> None:
        """Roll back if there is a transaction. On a full disk SQLite rolls back by itself
        (sqlite.org/lang_transaction.html, 3); a second rollback would raise, and hide the first error."""
        if self.connection().in_transaction:  # type: ignore[no-untyped-call]
            super().rollback()

    def begin(self, lock_type: str | None = None) -> None:
        """Begin a transaction; try for BUSY_TIMEOUT_MS to get the write lock."""
        until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
        while True:
            try:
                super().begin(lock_type)
            except pw.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
            else:
                return


@contextmanager
def connected(path: Path, mode: str) -> Iterator[pw.SqliteDatabase]:
    """A connection that is closed afterwards, with a mode of SQLite's URIs (sqlite.org/uri.html): `ro` or `rw`."""
    db = pw.SqliteDatabase(f"{path.as_uri()}?mode={mode}", uri=True, pragmas=[("busy_timeout", BUSY_TIMEOUT_MS)])
    with translated(path):
        refuse_prepared(path)
        try:
            db.connect()
            yield db
        finally:
            db.close()


@contextmanager
def in_slices(db: pw.SqliteDatabase, *, writing: Path | None = None) -> Iterator[None]:
    """While a long statement runs on this connection, rest after every slice.

    The file that it is `writing` is synced after every slice. Otherwise the kernel would collect hundreds of MiB, and
    write them all at once: a server's commits would have to wait for the disk. Raises OSError.
    """
    connection: sqlite3.Connection = db.connection()  # type: ignore[no-untyped-call]
    descriptor = None if writing is None else os.open(writing, os.O_RDWR | os.O_CLOEXEC)
    rests = Rests()

    def rest() -> int:
        if descriptor is not None:
            with suppress(OSError):  # SQLite meets the same error of the disk, and reports it
                os.fsync(descriptor)
        rests.take()
        return 0  # the statement goes on

    connection.set_progress_handler(rest, SLICE)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
        if descriptor is not None:
            os.close(descriptor)
