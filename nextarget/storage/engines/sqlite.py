"""One SQLite file: reads on the calling thread, writes one after another on a thread of their own.

In WAL mode a reader never waits for the writer, and a read by primary key takes less time than handing it to another
thread would; a write waits for the disk, so it never runs on the event loop.
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
ASKING_MS = 20
"""How long SQLite itself waits for the write lock before it is asked again."""
MAX_BATCH = 64
"""Queued writes that share one commit, and so one wait for the disk."""


class SqliteDatabase(Database):
    """The doors to one file."""

    shared = False

    def __init__(self, path: str | Path) -> None:
        self.path = place_of(Path(path))
        self._reading = _Peewee(self.path)
        self._writing = _Peewee(self.path, waits_ms=ASKING_MS)
        self._writer: _Writer | None = None
        self.trouble = Trouble(str(self), self.path.parent)

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> None:
        """Connect this thread and start the writer. Raises DatabaseUnavailable, also when the file is read-only."""
        with translated(self.path):
            self._reading.connect(reuse_if_open=True)
        refuse_read_only(self.path)
        if self._writer is None:
            self._writer = _Writer(self._writing)
            self._writer.start()

    def close(self) -> None:
        """Finish every queued write, then disconnect this thread."""
        if self._writer is not None:
            self._writer.stop()
            self._writer = None
        self._reading.close()
        self._writing.close()
        self.trouble.close()

    async def read(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a storage function that only reads, on the event loop's own connection."""
        return self._ask(fn, *args, **kwargs)

    async def read_batched(self, fn: Batchable[K, R], key: K) -> R:
        """No batching: there is no network."""
        return self._ask(fn.one, key)

    def _ask(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
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
        # In the caller's context, so that what is recorded there names the caller's request.
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
        """Raises DatabaseUnavailable or UnsafeFile when serving from this file, or making it, would fail."""
        if self.exists():
            with self.probe() as looking:
                looking.get_tables()
            refuse_read_only(self.path)
        elif not self.path.parent.is_dir():
            raise unavailable_file(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), self.path)
        elif not os.access(self.path.parent, os.W_OK):
            raise unavailable_file(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), self.path)

    @contextmanager
    def migration_lock(self) -> Iterator[None]:
        """A file lock beside the database."""
        try:
            with self._lock_file(".lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise unavailable_file(error, self.path) from None

    @contextmanager
    def sole_purger(self) -> Iterator[bool]:
        """A second file lock beside the database."""
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
    def _lock_file(self, end: str) -> Iterator[int]:
        lock = open_private(self.path.with_name(self.path.name + end), make=True)
        try:
            yield lock
        finally:
            os.close(lock)

    @contextmanager
    def schema_changes(self) -> Iterator[pw.SqliteDatabase]:
        """This thread's own connection."""
        with translated(self.path):
            self._reading.connect(reuse_if_open=True)
            yield self._reading

    @contextmanager
    def snapshot(self) -> Iterator[pw.SqliteDatabase]:
        """Even the file stays as it is: what waits in the write-ahead log is left there."""
        with self._looking("ro") as reading, reading.atomic():
            yield reading

    def write_whole_file(self, path: Path) -> None:
        """Everything as of one moment into another file, which must be empty. The error says on which side it was."""
        with self._looking("ro") as reading:
            reading.get_tables()  # from here on this side can be read
            try:
                reading.execute_sql("VACUUM INTO ?", (str(path),))  # type: ignore[no-untyped-call]
            except UNUSABLE as error:
                raise unavailable_copy(error, self.path, path) from error

    def probe(self) -> AbstractContextManager[pw.SqliteDatabase]:
        """A connection that neither creates the file nor switches its journal."""
        return self._looking("rw")

    @contextmanager
    def _looking(self, mode: str) -> Iterator[pw.SqliteDatabase]:
        uri = f"{self.path.as_uri()}?mode={mode}"
        looking = pw.SqliteDatabase(uri, uri=True, pragmas=[("busy_timeout", BUSY_TIMEOUT_MS)])
        with translated(self.path):
            refuse_prepared(self.path)
            try:
                looking.connect()
                yield looking
            finally:
                looking.close()


class _Peewee(pw.SqliteDatabase):
    """Peewee's SQLite, whose transactions ask for their turn often.

    SQLite waits longer from time to time, at last a tenth of a second, and may miss for seconds the short moments
    between the commits of processes that write without a pause. A connection that only reads hardly ever waits.
    """

    def __init__(self, path: Path, *, waits_ms: int = BUSY_TIMEOUT_MS) -> None:
        super().__init__(
            str(path),
            lock_type="IMMEDIATE",
            pragmas=[
                ("busy_timeout", BUSY_TIMEOUT_MS),  # first: switching to WAL may have to wait already
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
        """A full disk has SQLite undo the transaction by itself (sqlite.org/lang_transaction.html, 3). That there is
        none left to undo is no error: it would hide the first one."""
        if self.connection().in_transaction:  # type: ignore[no-untyped-call]
            super().rollback()

    def begin(self, lock_type: str | None = None) -> None:
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
    """One queued write and whoever waits for it."""

    __slots__ = ("error", "future", "result", "work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Hand the outcome over; runs on the event loop. A waiter that went away is not told."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _Writer(threading.Thread):
    """Takes queued writes and commits as many at once as have gathered meanwhile."""

    def __init__(self, database: "_Peewee") -> None:
        super().__init__(name="nextarget-writer", daemon=True)
        self._database = database
        self._path = Path(database.database)
        self._queue: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        self._waiting: deque[_Job] = deque()  # handed over, and this thread's own
        self._submitted = 0
        self._taken = 0  # of those, by this thread, which alone counts them

    async def submit(self, work: Callable[[], Any]) -> Any:
        """Writes asked for within one turn of the loop are handed over together: they share a commit. Raises
        DatabaseUnavailable when MAX_WAITING wait already.

        A write is done even if nobody waits for it any more: a sign-out is not lost because somebody hung up.
        """
        if self._submitted - self._taken >= MAX_WAITING:
            raise DatabaseUnavailable(note=f"{MAX_WAITING} writes wait for the database already", cause="crowded")
        self._submitted += 1
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future())
        gathered = self._gathered.get(loop)
        if gathered is None:
            self._gathered[loop] = [job]
            loop.call_soon(self._hand_over, loop)
        else:
            gathered.append(job)
        return await job.future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        if (gathered := self._gathered.pop(loop, None)) is not None:
            self._queue.put(gathered)

    def stop(self) -> None:
        for loop in list(self._gathered):
            self._hand_over(loop)
        self._queue.put(None)
        self.join()

    def run(self) -> None:
        while batch := self._next_batch():
            self._commit(batch)
            for loop in {job.future.get_loop() for job in batch}:
                jobs = [job for job in batch if job.future.get_loop() is loop]
                with suppress(RuntimeError):  # this loop was closed meanwhile: nobody waits any more
                    loop.call_soon_threadsafe(_settle, jobs)
        self._database.close()

    def _next_batch(self) -> list[_Job]:
        """Wait for writes, then take those that have gathered behind them; empty once stopped."""
        waiting = self._waiting
        while not waiting or (len(waiting) < MAX_BATCH and not self._queue.empty()):
            jobs = self._queue.get()
            if jobs is None:
                if waiting:
                    self._queue.put(None)  # what came before the stop is committed first
                break
            waiting.extend(jobs)
        batch = [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]
        self._taken += len(batch)
        return batch

    def _commit(self, batch: list[_Job]) -> None:
        try:
            if not self._all_together(batch):
                with translated(self._path), self._database.atomic():
                    self._each_by_itself(batch)
        except Exception as error:  # noqa: BLE001 - nothing was committed: every job of the batch learns it
            for job in batch:
                job.error = job.error or error

    def _all_together(self, batch: list[_Job]) -> bool:
        """Do every job in one transaction. When one of several raises, nothing has happened, and it is False."""
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

    def _each_by_itself(self, batch: list[_Job]) -> None:
        """Do each job again, in a savepoint of its own, so that what one raises undoes nothing of the others."""
        connection = self._database.connection()  # type: ignore[no-untyped-call]
        for job in batch:
            connection.execute("SAVEPOINT job")
            try:
                with translated(self._path):
                    job.result = job.work()
            except Exception as error:
                job.error = error  # handed to whoever waits for this job
                if not connection.in_transaction:
                    raise  # a full disk made SQLite undo the whole batch: nothing after this may go on alone
                connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")


def _settle(batch: list[_Job]) -> None:
    for job in batch:
        job.settle()
