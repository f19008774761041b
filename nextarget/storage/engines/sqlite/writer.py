"""The writer thread of a SQLite file. Writes that wait at the same time share one commit."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.jobs import MAX_WAITING, Job
from nextarget.storage.engines.sqlite.connection import PeeweeSqlite
from nextarget.storage.engines.sqlite.errors import translated

MAX_BATCH = 64
"""How many queued writes may share one commit, and so one wait for the disk."""
QUIET_TURNS = 3
"""Several writes are queued once no other has joined them for so many turns of the event loop. A refresh takes as many
from its arrival to its write. So those that have arrived share a commit, where they would otherwise share two or three.
One write alone waits for nothing."""
MAX_GATHERING_SECONDS = 0.005
"""Several writes are queued after this time in any case. On a busy loop turns are long, and another always joins."""


class Writer(threading.Thread):
    """The writer thread: takes queued writes, and commits in one transaction all that came during the last commit."""

    def __init__(self, database: PeeweeSqlite) -> None:
        super().__init__(name="nextarget-writer", daemon=True)
        self._database = database
        self._path = Path(database.database)
        self._queue: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._new: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        """Writes that the event loop has not queued yet."""
        self._waiting: deque[Job] = deque()  # taken from the queue; only the writer thread uses it
        self._submitted = 0
        self._taken = 0  # how many of them the writer thread took; only that thread changes it

    def submit(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Queue a write; the future gets its result. Writes that are submitted soon after one another are queued
        together, so that they share a commit. Raises DatabaseUnavailable when MAX_WAITING writes wait.

        A write is executed even if its caller is cancelled: a sign-out is not lost because the client hung up.
        """
        if self._submitted - self._taken >= MAX_WAITING:
            raise DatabaseUnavailable(note=f"{MAX_WAITING} writes wait for the database already", cause="crowded")
        self._submitted += 1
        loop = asyncio.get_running_loop()
        job = Job(work, loop.create_future())
        new = self._new.get(loop)
        if new is None:
            self._new[loop] = [job]
            loop.call_soon(self._end_turn, loop, 1, 0, perf_counter() + MAX_GATHERING_SECONDS)
        else:
            new.append(job)
        return job.future

    def _end_turn(self, loop: asyncio.AbstractEventLoop, count: int, quiet: int, until: float) -> None:
        """Queue the new writes, or wait for others: there were `count` a turn ago, and for `quiet` turns before it."""
        now = len(self._new.get(loop, ()))
        quiet = quiet + 1 if now == count else 0
        if 1 < now < MAX_BATCH and quiet < QUIET_TURNS and perf_counter() < until:
            loop.call_soon(self._end_turn, loop, now, quiet, until)
        else:
            self._enqueue(loop)

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

    def _next_batch(self) -> list[Job]:
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

    def _commit(self, batch: list[Job]) -> None:
        try:
            if not self._try_at_once(batch):
                with translated(self._path), self._database.atomic():
                    self._use_savepoints(batch)
        except Exception as error:  # noqa: BLE001 - nothing was committed: all jobs of the batch fail
            for job in batch:
                job.error = job.error or error

    def _try_at_once(self, batch: list[Job]) -> bool:
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

    def _use_savepoints(self, batch: list[Job]) -> None:
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


def _settle(batch: list[Job]) -> None:
    for job in batch:
        job.settle()
