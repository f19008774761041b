"""One SQLite file: reads run on the calling thread, writes one after another on a writer thread.

In WAL mode a reader never waits for a writer, and a read by primary key takes less time than passing it to another
thread. A write waits for the disk, so it never runs on the event loop.
"""

import asyncio
import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import copy_context
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import peewee as pw

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import Batchable, Database, K, P, R, Work
from nextarget.storage.engines.files import open_private, place_of, prepare_database, refuse_prepared
from nextarget.storage.engines.pool import MAX_WAITING
from nextarget.storage.engines.sqlite_errors import (
    BROKEN_RULES,
    UNUSABLE,
    refuse_read_only,
    translated,
    unavailable,
    unavailable_copy,
    unavailable_file,
)
from nextarget.storage.engines.trouble import Trouble
from nextarget.telemetry import metrics

BUSY_TIMEOUT_MS = 10_000
RETRY_MS = 20
"""How long SQLite itself waits for the write lock before we try again."""
MAX_BATCH = 64
"""How many queued writes may share one commit, and so one wait for the disk."""


class SqliteDatabase(Database):
    """One SQLite file."""

    shared = False

    def __init__(self, path: str | Path) -> None:
        self.path = place_of(Path(path))
        self._reading = _Peewee(self.path)
        self._writing = _Peewee(self.path, waits_ms=RETRY_MS)
        self._writer: _Writer | None = None
        self.trouble = Trouble(str(self), self.path.parent)

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> None:
        """Connect this thread and start the writer thread. Raises DatabaseUnavailable, also for a read-only file."""
        with translated(self.path):
            self._reading.connect(reuse_if_open=True)
        refuse_read_only(self.path)
        if self._writer is None:
            self._writer = _Writer(self._writing)
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
        return self._read_here(fn, *args, **kwargs)

    async def read_batched(self, fn: Batchable[K, R], key: K) -> R:
        """No batching: there is no network."""
        return self._read_here(fn.one, key)

    def _read_here(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return fn(self._reading, *args, **kwargs)
        except UNUSABLE as error:
            if isinstance(error, BROKEN_RULES):
                raise
            failure = unavailable(error, self.path)
            self.trouble.note(failure)
            raise failure from error

    async def write(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a storage function in a transaction; returns once its changes are on the disk."""
        # Run in the caller's context: events that are recorded then carry the id of the caller's request.
        context = copy_context()
        began = perf_counter()
        try:
            if self._writer is None:
                raise DatabaseUnavailable(note="the database is not open", cause="closed")
            result: R = await self._writer.submit(lambda: context.run(fn, self._writing, *args, **kwargs))
        except DatabaseUnavailable as error:
            self.trouble.note(error)
            raise
        finally:
            metrics.observe_database("write", perf_counter() - began)
        return result

    async def write_batched(self, fn: Batchable[K, R], key: K) -> R:
        """No batching here: the writer's thread lets writes of the same time share a commit."""
        return await self.write(fn.one, key)

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
        with self._connected("ro") as reading, reading.atomic():
            yield reading

    def write_whole_file(self, path: Path) -> None:
        """Copy the database, as of one moment, into an empty file. The error says which of the two files failed."""
        with self._connected("ro") as reading:
            reading.get_tables()  # the source can be read: what fails now is the target
            try:
                reading.execute_sql("VACUUM INTO ?", (str(path),))  # type: ignore[no-untyped-call]
            except UNUSABLE as error:
                raise unavailable_copy(error, self.path, path) from error

    def probe(self) -> AbstractContextManager[pw.SqliteDatabase]:
        """Read-only probe. With `rw` SQLite creates no file, but can recover one after a crash."""
        return self._connected("rw")

    @contextmanager
    def _connected(self, mode: str) -> Iterator[pw.SqliteDatabase]:
        uri = f"{self.path.as_uri()}?mode={mode}"
        db = pw.SqliteDatabase(uri, uri=True, pragmas=[("busy_timeout", BUSY_TIMEOUT_MS)])
        with translated(self.path):
            refuse_prepared(self.path)
            try:
                db.connect()
                yield db
            finally:
                db.close()


class _Peewee(pw.SqliteDatabase):
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


class _Job:
    """One queued write, and the future that its caller awaits."""

    __slots__ = ("error", "future", "result", "work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Give the caller the outcome, unless the caller was cancelled. Runs on the event loop."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _Writer(threading.Thread):
    """The writer thread: takes queued writes, and commits in one transaction all that came during the last commit."""

    def __init__(self, database: "_Peewee") -> None:
        super().__init__(name="nextarget-writer", daemon=True)
        self._database = database
        self._path = Path(database.database)
        self._queue: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._new: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        """Writes that the event loop has not queued yet."""
        self._waiting: deque[_Job] = deque()  # taken from the queue; only the writer thread uses it
        self._submitted = 0
        self._taken = 0  # how many of them the writer thread took; only that thread changes it

    async def submit(self, work: Callable[[], Any]) -> Any:
        """Queue a write, and wait for its result. Writes submitted in one turn of the loop are queued together, so that
        they share a commit. Raises DatabaseUnavailable when MAX_WAITING writes wait.

        A write is executed even if its caller is cancelled: a sign-out is not lost because the client hung up.
        """
        if self._submitted - self._taken >= MAX_WAITING:
            raise DatabaseUnavailable(note=f"{MAX_WAITING} writes wait for the database already", cause="crowded")
        self._submitted += 1
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future())
        new = self._new.get(loop)
        if new is None:
            self._new[loop] = [job]
            loop.call_soon(self._enqueue, loop)
        else:
            new.append(job)
        return await job.future

    def _enqueue(self, loop: asyncio.AbstractEventLoop) -> None:
        if (new := self._new.pop(loop, None)) is not None:
            self._queue.put(new)

    def stop(self) -> None:
        for loop in list(self._new):
            self._enqueue(loop)
        self._queue.put(None)
        self.join()

    def run(self) -> None:
        while batch := self._next_batch():
            self._commit(batch)
            for loop in {job.future.get_loop() for job in batch}:
                jobs = [job for job in batch if job.future.get_loop() is loop]
                with suppress(RuntimeError):  # the event loop is closed: no caller is left
                    loop.call_soon_threadsafe(_settle, jobs)
        self._database.close()

    def _next_batch(self) -> list[_Job]:
        """Wait for writes, then take all that are queued, at most MAX_BATCH. An empty batch means stop."""
        waiting = self._waiting
        while not waiting or (len(waiting) < MAX_BATCH and not self._queue.empty()):
            jobs = self._queue.get()
            if jobs is None:
                if waiting:
                    self._queue.put(None)  # commit what was queued before the stop
                break
            waiting.extend(jobs)
        batch = [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]
        self._taken += len(batch)
        return batch

    def _commit(self, batch: list[_Job]) -> None:
        try:
            if not self._try_at_once(batch):
                with translated(self._path), self._database.atomic():
                    self._use_savepoints(batch)
        except Exception as error:  # noqa: BLE001 - nothing was committed: all jobs of the batch fail
            for job in batch:
                job.error = job.error or error

    def _try_at_once(self, batch: list[_Job]) -> bool:
        """Execute all jobs in one transaction. If one of several raises, roll back and return False."""
        begun = False
        try:
            with translated(self._path), self._database.atomic():
                begun = True
                for job in batch:
                    job.result = job.work()
        except Exception:
            if not begun or len(batch) == 1:
                raise
            return False
        return True

    def _use_savepoints(self, batch: list[_Job]) -> None:
        """Execute all jobs again, every job in a savepoint, so that the error of one undoes only its own changes."""
        connection = self._database.connection()  # type: ignore[no-untyped-call]
        for job in batch:
            connection.execute("SAVEPOINT job")
            try:
                with translated(self._path):
                    job.result = job.work()
            except Exception as error:
                job.error = error  # given to the caller of this job
                if not connection.in_transaction:
                    raise  # SQLite rolled back the whole batch, as on a full disk: later jobs must not commit alone
                connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")


def _settle(batch: list[_Job]) -> None:
    for job in batch:
        job.settle()
