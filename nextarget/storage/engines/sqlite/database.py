"""One SQLite file: reads run on the calling thread, writes one after another on a writer thread.

In WAL mode a reader never waits for a writer, and a read by primary key takes less time than passing it to another
thread. A write waits for the disk, so it never runs on the event loop.
"""

import errno
import fcntl
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from time import perf_counter

import peewee as pw

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import Batchable, Database, K, P, R, Work
from nextarget.storage.engines.files import open_private, place_of
from nextarget.storage.engines.sqlite.connection import RETRY_MS, PeeweeSqlite, connected, in_slices
from nextarget.storage.engines.sqlite.errors import (
    BROKEN_RULES,
    UNUSABLE,
    refuse_read_only,
    translated,
    unavailable,
    unavailable_copy,
    unavailable_file,
)
from nextarget.storage.engines.sqlite.reads import TurnReads
from nextarget.storage.engines.sqlite.writer import Writer
from nextarget.storage.engines.trouble import Trouble
from nextarget.telemetry import metrics


class SqliteDatabase(Database):
    """One SQLite file."""

    shared = False
    prefers_one_statement = False

    def __init__(self, path: str | Path) -> None:
        self.path = place_of(Path(path))
        self._reading = PeeweeSqlite(self.path)
        self._writing = PeeweeSqlite(self.path, waits_ms=RETRY_MS)
        self._writer: Writer | None = None
        self.trouble = Trouble(str(self), self.path.parent)
        self._turns = TurnReads(self._read, self.trouble.note)

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> None:
        """Connect this thread and start the writer thread. Raises DatabaseUnavailable, also for a read-only file."""
        with translated(self.path):
            self._reading.connect(reuse_if_open=True)
        refuse_read_only(self.path)
        if self._writer is None:
            self._writer = Writer(self._writing)
            self._writer.start()

    def close(self) -> None:
        """Finish all queued writes, then disconnect this thread."""
        if self._writer is not None:
            self._writer.stop()
            self._writer = None
        self._reading.close()
        self._writing.close()
        self.trouble.close()

    async def read(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a storage function that only reads, on the event loop's own connection."""
        try:
            return self._read(fn, *args, **kwargs)
        except DatabaseUnavailable as error:
            self.trouble.note(error)
            raise

    def read_batched(self, fn: Batchable[K, R], key: K) -> Awaitable[R]:
        return self._turns.submit(fn, key)

    def _read(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return fn(self._reading, *args, **kwargs)
        except UNUSABLE as error:
            if isinstance(error, BROKEN_RULES):
                raise
            raise unavailable(error, self.path) from error

    async def write(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a storage function in a transaction; returns once its changes are on the disk."""
        # Run in the caller's context: events that are recorded then carry the id of the caller's request.
        return await self._write(partial(copy_context().run, fn, self._writing, *args, **kwargs))

    def write_batched(self, fn: Batchable[K, R], key: K) -> Awaitable[R]:
        """No batching here: the writer's thread lets writes of the same time share a commit."""
        return self._write(partial(fn.one, self._writing, key))

    async def _write(self, work: Callable[[], R]) -> R:
        began = perf_counter()
        try:
            if self._writer is None:
                raise DatabaseUnavailable(note="the database is not open", cause="closed")
            result: R = await self._writer.submit(work)
        except DatabaseUnavailable as error:
            self.trouble.note(error)
            raise
        finally:
            metrics.observe_database("write", perf_counter() - began)
        return result

    def unavailable(self, error: Exception) -> DatabaseUnavailable:
        return unavailable(error, self.path)

    def read_now(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `read`, on this thread: for the terminal, which has no event loop."""
        with translated(self.path):
            return fn(self._reading, *args, **kwargs)

    def write_now(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `write`, on this thread."""
        with translated(self.path), self._writing.atomic():
            return fn(self._writing, *args, **kwargs)

    def write_unsynced(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """With the level NORMAL, only a checkpoint syncs the log (sqlite.org/pragma.html#pragma_synchronous)."""
        with translated(self.path):
            self._writing.pragma("synchronous", "normal")
            try:
                with self._writing.atomic():
                    return fn(self._writing, *args, **kwargs)
            finally:
                self._writing.pragma("synchronous", "full")

    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    def refuse_unusable(self) -> None:
        """Check that a server could use this file, or create it. Raises DatabaseUnavailable or UnsafeFile."""
        if self.exists():
            with self.probe() as db:
                db.get_tables()
            refuse_read_only(self.path)
        elif not self.path.parent.is_dir():
            raise unavailable_file(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), self.path)
        elif not os.access(self.path.parent, os.W_OK):
            raise unavailable_file(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), self.path)

    @contextmanager
    def migration_lock(self) -> Iterator[None]:
        """A lock on a file next to the database."""
        try:
            with self._lock_file(".lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise unavailable_file(error, self.path) from None

    @contextmanager
    def sole_purger(self) -> Iterator[bool]:
        """A lock on a second file next to the database."""
        try:
            with self._lock_file(".purge.lock") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield False
                else:
                    yield True
        except OSError as error:
            raise unavailable_file(error, self.path) from error

    @contextmanager
    def _lock_file(self, suffix: str) -> Iterator[int]:
        lock = open_private(self.path.with_name(self.path.name + suffix), make=True)
        try:
            yield lock
        finally:
            os.close(lock)

    @contextmanager
    def schema_changes(self) -> Iterator[pw.SqliteDatabase]:
        """The connection of this thread."""
        with translated(self.path):
            self._reading.connect(reuse_if_open=True)
            yield self._reading

    @contextmanager
    def snapshot(self) -> Iterator[pw.SqliteDatabase]:
        """Opens the file read-only, so that not even a checkpoint of the write-ahead log changes it."""
        with connected(self.path, "ro") as reading, reading.atomic():
            yield reading

    def write_whole_file(self, path: Path) -> None:
        """Copy the database, as of one moment, into an empty file. The error says which of the two files failed."""
        with connected(self.path, "ro") as reading:
            reading.get_tables()  # the source can be read: what fails now is the target
            try:
                with in_slices(reading, writing=path):
                    reading.execute_sql("VACUUM INTO ?", (str(path),))  # type: ignore[no-untyped-call]
            except UNUSABLE as error:
                raise unavailable_copy(error, self.path, path) from error

    def probe(self) -> AbstractContextManager[pw.SqliteDatabase]:
        """Read-only probe. With `rw` SQLite creates no file, but can recover one after a crash."""
        return connected(self.path, "rw")
