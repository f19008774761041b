"""A pool of threads for blocking database calls. The number of threads, the queue and the waiting time are bounded.

A thread executes jobs through its Worker, which owns one connection. This module decides which thread takes a job, and
when a job that takes too long is given up.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.jobs import Job
from nextarget.telemetry import metrics

WAITING_SECONDS = 5.0
"""Wait at most 5 s for a thread; the statement then has 5 s more."""
ANSWER_SECONDS = 10.0
"""How long a caller waits at most for an answer, and how long a job may use a connection before the pool cuts it."""
MAX_WAITING = 1000
"""How many jobs may wait for a thread. More wait only when the database hangs; new jobs are then refused at once."""


class Worker(Protocol):
    """One connection, used by one thread. Other threads may call `cut` only."""

    def perform(self, work: Callable[[Any], Any], *, writes: bool) -> Any:
        """Execute a job, in a transaction if it writes; returns its result."""

    def cut(self) -> None:
        """Make the statement that waits on the connection fail now. Returns at once."""

    def close(self) -> None:
        """Close the connection. The next job opens a new one."""


class _TimedJob(Job):
    """A job with limits of time. The caller's runs from the call. The connection's runs from the moment when a thread
    takes the job: a job that waited in a long queue does not mean that its connection hangs.
    """

    __slots__ = ("began", "thread", "timer", "writes")

    def __init__(self, work: Callable[[Any], Any], loop: asyncio.AbstractEventLoop, *, writes: bool) -> None:
        super().__init__(work, loop.create_future())
        self.writes = writes
        self.timer = loop.call_later(WAITING_SECONDS, self.check_start)
        self.began = 0.0
        self.thread: _Thread | None = None

    def begin(self, thread: "_Thread") -> None:
        """Runs on the thread that takes the job."""
        self.began = time.monotonic()
        self.thread = thread

    def check_start(self) -> None:
        """Refuse the job if no thread has taken it. Like the methods below, it runs on the event loop."""
        if self.thread is None:
            self._refuse("crowded", f"no connection was free within {WAITING_SECONDS:g} s")
        if self.thread is not None:  # check after refusing: a thread that takes the job later sees that it is refused
            self._call_later(ANSWER_SECONDS - WAITING_SECONDS, self.expire, self.thread)

    def expire(self, thread: "_Thread") -> None:
        """Fail the job for its caller, and cut the connection once the job has used it for ANSWER_SECONDS."""
        self._refuse("timeout", f"no answer within {ANSWER_SECONDS:g} s")
        self._call_later(self.began + ANSWER_SECONDS - time.monotonic(), thread.cut, self)

    def _refuse(self, cause: str, note: str) -> None:
        if not self.future.done():
            self.future.set_exception(DatabaseUnavailable(note=note, cause=cause))

    def _call_later(self, seconds: float, step: Callable[..., None], *arguments: object) -> None:
        self.timer = self.future.get_loop().call_later(seconds, step, *arguments)

    def settle(self) -> None:
        """Give the caller the outcome, unless the caller was cancelled."""
        self.timer.cancel()
        super().settle()

    def done(self) -> None:
        """Settle the job on its event loop. Runs on any thread."""
        with suppress(RuntimeError):  # the event loop is closed: no caller is left
            self.future.get_loop().call_soon_threadsafe(self.settle)


class Pool:
    """At most `size` threads; every thread has its own Worker. A thread is started when all others are busy."""

    def __init__(self, make_worker: Callable[[], Worker], size: int) -> None:
        self._make_worker = make_worker
        self._size = size
        self._queue: SimpleQueue[_TimedJob | None] = SimpleQueue()
        self._threads: list[_Thread] = []
        self._closed = False
        self.cuts = 0
        """How many connections were cut because they did not answer. After a cut, all connections made before it are
        replaced: if the database's machine is gone, they hang too, and every one would make its next caller wait."""
        metrics.set_pool_size(size)

    async def perform(self, work: Callable[[Any], Any], *, writes: bool) -> Any:
        """Execute a job on a thread; returns its result and raises its error. Raises DatabaseUnavailable after
        WAITING_SECONDS without a thread, and after ANSWER_SECONDS in any case.

        If the caller is cancelled, a job that waits is dropped, and a job that has begun is finished.
        """
        queue = self._queue
        if self._closed:
            raise DatabaseUnavailable(note="the database is not open", cause="closed")
        if queue.qsize() >= MAX_WAITING:
            raise DatabaseUnavailable(note=f"{MAX_WAITING} jobs wait for the database already", cause="crowded")
        job = _TimedJob(work, asyncio.get_running_loop(), writes=writes)
        queue.put(job)
        threads = self._threads
        if len(threads) < self._size and queue.qsize() > sum(thread.job is None for thread in threads):
            thread = _Thread(self, self._make_worker(), queue)
            threads.append(thread)
            thread.start()
        return await job.future

    def close(self) -> None:
        """Finish all queued jobs, within ANSWER_SECONDS, and close all Workers."""
        self._closed = True
        metrics.set_pool_size(0)
        for _ in self._threads:
            self._queue.put(None)
        until = time.monotonic() + ANSWER_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._give_up()

    def _give_up(self) -> None:
        """Fail the jobs that wait, and cut the connections of the threads that are busy."""
        with suppress(Empty):
            while True:
                if (job := self._queue.get_nowait()) is not None:
                    job.error = DatabaseUnavailable(note="closed before its turn came", cause="closed")
                    job.done()
        for thread in self._threads:
            self._queue.put(None)
            thread.cut(thread.job)
        for thread in self._threads:
            thread.join(ANSWER_SECONDS)


class _Thread(threading.Thread):
    """Takes jobs from the queue until it takes a None."""

    def __init__(self, pool: Pool, worker: Worker, queue: "SimpleQueue[_TimedJob | None]") -> None:
        super().__init__(name="nextarget-database", daemon=True)
        self._pool = pool
        self._cuts = pool.cuts
        self._worker = worker
        self._queue = queue
        self._changing = threading.Lock()
        self.job: _TimedJob | None = None

    def run(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._changing:
                self.job = job
                job.begin(self)
            try:
                if self._cuts != self._pool.cuts:
                    self._cuts = self._pool.cuts
                    self._worker.close()
                # Check after publishing `self.job`: otherwise a timeout could miss this thread.
                if not job.future.done():
                    with metrics.pool_connection():
                        job.result = self._worker.perform(job.work, writes=job.writes)
            except BaseException as error:  # noqa: BLE001 - given to the caller
                job.error = error
            with self._changing:
                self.job = None
            job.done()
            del job  # so that a thread that waits keeps no job alive
        self._worker.close()

    def cut(self, job: _TimedJob | None) -> None:
        """Make this job fail, if the thread still executes it."""
        with self._changing:
            if self.job is job is not None:
                self._pool.cuts += 1
                self._worker.cut()
