"""Threads that wait for a database so that the event loop need not: bounded in number, in queue and in time.

What a thread does, and on which connection, is its Worker's; here is who does it, and how long anybody waits.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from nextarget.errors import DatabaseUnavailable
from nextarget.telemetry import metrics

WAITING_SECONDS = 5.0
"""How long a job waits for a thread before it is dropped and its caller told. As long again is left to one that was
taken just in time: that is what one statement may take."""
ANSWER_SECONDS = 10.0
"""How long a caller waits in all, at the most, and how long one job may keep a connection before that is cut."""
MAX_WAITING = 1000
"""Jobs that may wait for a thread. More come only when the database stands still; they are refused at once."""


class Worker(Protocol):
    """One connection, used by one thread. Only `cut` may be called by others."""

    def perform(self, work: Callable[[Any], Any], *, writes: bool) -> Any:
        """The result of a job, in a transaction if it writes."""

    def cut(self) -> None:
        """Make whatever waits on the connection fail now. Returns at once."""

    def close(self) -> None:
        """Give the connection up. A job that comes all the same gets a new one."""


class _Job:
    """One piece of work and whoever waits for it.

    Its caller's time runs from when it was asked for, its connection's from when a thread began it: many who ask at
    once make callers wait, and are no sign of a connection that does not answer.
    """

    __slots__ = ("began", "error", "future", "result", "thread", "timer", "work", "writes")

    def __init__(self, work: Callable[[Any], Any], loop: asyncio.AbstractEventLoop, *, writes: bool) -> None:
        self.work = work
        self.writes = writes
        self.future: asyncio.Future[Any] = loop.create_future()
        self.timer = loop.call_later(WAITING_SECONDS, self.look)
        self.began = 0.0
        self.thread: _Thread | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    def begin(self, thread: "_Thread") -> None:
        """A thread has it from now on; runs on that thread."""
        self.began = time.monotonic()
        self.thread = thread

    def look(self) -> None:
        """Give it up unless a thread has it; runs on the event loop, as does all that follows."""
        if self.thread is None:
            self._refuse("crowded", f"no connection was free within {WAITING_SECONDS:g} s")
        if self.thread is not None:  # asked only now: a thread that takes it from here on finds it given up
            self._call_later(ANSWER_SECONDS - WAITING_SECONDS, self.expire, self.thread)

    def expire(self, thread: "_Thread") -> None:
        """Tell the caller that it took too long, and free the thread once it has been at it for as long."""
        self._refuse("timeout", f"no answer within {ANSWER_SECONDS:g} s")
        self._call_later(self.began + ANSWER_SECONDS - time.monotonic(), thread.cut, self)

    def _refuse(self, cause: str, note: str) -> None:
        if not self.future.done():
            self.future.set_exception(DatabaseUnavailable(note=note, cause=cause))

    def _call_later(self, seconds: float, step: Callable[..., None], *arguments: object) -> None:
        self.timer = self.future.get_loop().call_later(seconds, step, *arguments)

    def settle(self) -> None:
        """Hand the outcome over. A caller that went away is not told."""
        self.timer.cancel()
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)

    def done(self) -> None:
        """Have it settled; runs on any thread."""
        with suppress(RuntimeError):  # this loop was closed meanwhile: nobody waits any more
            self.future.get_loop().call_soon_threadsafe(self.settle)


class Pool:
    """At most `size` threads, each with a Worker of its own. A thread is started when none is free."""

    def __init__(self, make_worker: Callable[[], Worker], size: int) -> None:
        self._make_worker = make_worker
        self._size = size
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[_Thread] = []
        self._closed = False
        self.cuts = 0
        """How many connections did not answer. Those made before the last of them are not trusted any more: were the
        machine gone, each would let its next caller wait as long."""
        metrics.set_pool_size(size)

    async def perform(self, work: Callable[[Any], Any], *, writes: bool) -> Any:
        """Have a job done; what it raises is raised here. Raises DatabaseUnavailable when that takes too long: after
        WAITING_SECONDS without a thread, and after ANSWER_SECONDS in any case.

        A job that nobody waits for any more, when its turn comes, is dropped; one that has begun is finished.
        """
        queue = self._queue
        if self._closed:
            raise DatabaseUnavailable(note="the database is not open", cause="closed")
        if queue.qsize() >= MAX_WAITING:
            raise DatabaseUnavailable(note=f"{MAX_WAITING} jobs wait for the database already", cause="crowded")
        job = _Job(work, asyncio.get_running_loop(), writes=writes)
        queue.put(job)
        threads = self._threads
        if len(threads) < self._size and queue.qsize() > sum(thread.job is None for thread in threads):
            thread = _Thread(self, self._make_worker(), queue)
            threads.append(thread)
            thread.start()
        return await job.future

    def close(self) -> None:
        """Finish every job in the queue, within ANSWER_SECONDS, and close every Worker."""
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
    """Takes one job after another from the queue, until a None comes."""

    def __init__(self, pool: Pool, worker: Worker, queue: "SimpleQueue[_Job | None]") -> None:
        super().__init__(name="nextarget-database", daemon=True)
        self._pool = pool
        self._cuts = pool.cuts
        self._worker = worker
        self._queue = queue
        self._changing = threading.Lock()
        self.job: _Job | None = None

    def run(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._changing:
                self.job = job
                job.begin(self)
            try:
                if self._cuts != self._pool.cuts:
                    self._cuts = self._pool.cuts
                    self._worker.close()
                if not job.future.done():  # asked only now: whoever gives it up from here on finds whom to cut
                    with metrics.pool_connection():
                        job.result = self._worker.perform(job.work, writes=job.writes)
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits for it
                job.error = error
            with self._changing:
                self.job = None
            job.done()
            del job  # a thread that waits for work holds on to none
        self._worker.close()

    def cut(self, job: _Job | None) -> None:
        """Make this job fail, if it is what the thread is at."""
        with self._changing:
            if self.job is job is not None:
                self._pool.cuts += 1
                self._worker.cut()
