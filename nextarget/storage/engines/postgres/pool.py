"""The connections to PostgreSQL that requests use. They live on the event loop, without threads.

A storage function is plain synchronous code. It runs in a greenlet: where it would wait for PostgreSQL, the greenlet is
suspended, and the event loop goes on. When the answer arrives, the loop resumes the greenlet. The number of
connections, the queue and the waiting time are bounded.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any

import psycopg
from greenlet import GreenletExit, getcurrent, greenlet
from psycopg.waiting import Ready, Wait

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import Work
from nextarget.storage.engines.jobs import MAX_WAITING, Job, settle
from nextarget.storage.engines.postgres.connection import PostgresConnection
from nextarget.storage.engines.postgres.session import Session
from nextarget.telemetry import metrics
from nextarget.telemetry.metrics import DatabaseCause

WAITING_SECONDS = 5.0
"""Wait at most 5 s for a connection; the statement then has 5 s more."""
ANSWER_SECONDS = 10.0
"""How long a caller waits at most for an answer, and how long a job may use a connection before it is cut."""
_CLOSING_STEP_SECONDS = 0.002


class _TimedJob(Job):
    """A job with limits of time. The caller's runs from the call, the connection's from the moment when a connection
    takes the job: a job that waited in a long queue does not mean that its connection hangs.
    """

    __slots__ = ("asked_at", "began_at", "single", "writes")

    def __init__(self, work: Work[[], Any], future: "asyncio.Future[Any]", *, writes: bool, single: bool) -> None:
        super().__init__(work, future)
        self.writes = writes
        self.single = single
        self.asked_at = self.began_at = time.monotonic()

    @property
    def ends_at(self) -> float:
        """When the next limit passes of a job that has begun."""
        return (self.began_at if self.future.done() else self.asked_at) + ANSWER_SECONDS

    def refuse(self, cause: DatabaseCause, note: str) -> None:
        settle(self.future, None, DatabaseUnavailable(note=note, cause=cause))


class Pool:
    """At most `size` connections. One is opened when all others are busy."""

    def __init__(self, make_session: Callable[["Line"], Session], size: int) -> None:
        self._make_session = make_session
        self._size = size
        self._lines: list[Line] = []
        self._idle: list[Line] = []
        """The line that was used last is used next, so that no more are opened than are needed."""
        self._queue: deque[_TimedJob] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.cuts = 0
        """How many connections were cut because they did not answer. After a cut, all connections made before it are
        replaced: if the database's machine is gone, they hang too, and every one would make its next caller wait."""
        metrics.set_pool_size(size)

    def submit(self, work: Work[[], Any], *, writes: bool, single: bool = False) -> "asyncio.Future[Any]":
        """Execute a job; returns its future result. `single` promises that it writes with one statement.

        The future gets the job's error, or DatabaseUnavailable after WAITING_SECONDS without a connection, and after
        ANSWER_SECONDS in any case. If the caller is cancelled, a job that waits is dropped, and a job that has begun
        is finished.
        """
        loop = asyncio.get_running_loop()
        job = _TimedJob(work, loop.create_future(), writes=writes, single=single)
        if self._timer is None:
            self._timer = loop.call_later(WAITING_SECONDS, self._check_times, loop)
        if self._closed:
            job.refuse("closed", "the database is not open")
        elif self._idle and not self._queue:
            self._idle.pop().start(job)
        elif len(self._lines) < self._size:
            self._lines.append(Line(self, self._make_session))
            self._lines[-1].start(job)
        elif len(self._queue) < MAX_WAITING:
            self._queue.append(job)
        else:
            job.refuse("crowded", f"{MAX_WAITING} jobs wait for the database already")
        return job.future

    def release(self, line: "Line") -> None:
        """The job of this line has ended: take the next one."""
        self._idle.append(line)
        if self._queue and not self._closed:
            # Not at once: every job that fails without waiting for PostgreSQL would nest one call deeper.
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        while self._queue and self._idle:
            job = self._queue.popleft()
            if not job.future.done():
                self._idle.pop().start(job)

    def _check_times(self, loop: asyncio.AbstractEventLoop) -> None:
        """Refuse the jobs that waited too long, cut the connections that do not answer, and see when to check again."""
        now = time.monotonic()
        queue = self._queue
        while queue and (queue[0].future.done() or queue[0].asked_at + WAITING_SECONDS <= now):
            queue.popleft().refuse("crowded", f"no connection was free within {WAITING_SECONDS:g} s")
        for line in self._lines:
            line.check_time(now)
        ends = [line.job.ends_at for line in self._lines if line.job is not None]
        ends += [job.asked_at + WAITING_SECONDS for job in queue]
        self._timer = loop.call_later(min(ends) - now, self._check_times, loop) if ends else None

    def close(self) -> None:
        """Finish all jobs, within ANSWER_SECONDS, and close all connections. The event loop does not run meanwhile."""
        self._closed = True
        metrics.set_pool_size(0)
        if self._timer is not None:
            self._timer.cancel()
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until and any(line.can_go_on for line in self._lines):
            for line in self._lines:
                line.go_on()
            self._dispatch()
            time.sleep(_CLOSING_STEP_SECONDS)
        for line in self._lines:
            line.close()
        for job in self._queue:
            job.refuse("closed", "closed before its turn came")


class Line:
    """One connection, and the greenlet that uses it, for one job at a time.

    `pause` and `dial` are called in the greenlet, everything else on the event loop.
    """

    def __init__(self, pool: Pool, make_session: Callable[["Line"], Session]) -> None:
        self._pool = pool
        self._cuts = pool.cuts
        self._session = make_session(self)
        self._event_loop = getcurrent()
        self._greenlet = greenlet(self._serve)
        self._dialled: asyncio.Future[PostgresConnection] | None = None
        self.job: _TimedJob | None = None

    def start(self, job: _TimedJob) -> None:
        self.job = job
        job.began_at = time.monotonic()
        metrics.count_pool_use(1)
        self._run(self._greenlet.switch)

    def _serve(self) -> None:
        """What runs in the greenlet: one job after another."""
        while True:
            if self.job is not None:
                self._perform(self.job)
            self._event_loop.switch(self.job)

    def _perform(self, job: _TimedJob) -> None:
        try:
            if self._cuts != self._pool.cuts:
                self._cuts = self._pool.cuts
                self._session.close()
            job.result = self._session.perform(job.work, writes=job.writes, single=job.single)
        except GreenletExit:
            raise
        except BaseException as error:  # noqa: BLE001 - given to the caller
            job.error = error

    def _run(self, switch: "Callable[..., _TimedJob | None]", *arguments: object) -> None:
        """Let the greenlet run until it waits, which makes `switch` return None, or has finished its job."""
        job = switch(*arguments)
        if job is not None:
            self.job = None
            metrics.count_pool_use(-1)
            self._pool.release(self)
            job.settle()

    @property
    def can_go_on(self) -> bool:
        """Whether the job waits for an answer of PostgreSQL."""
        return self.job is not None and self._dialled is None

    def go_on(self, ready: Ready = Ready.RW) -> None:
        if self.can_go_on:
            self._run(self._greenlet.switch, ready)

    def pause(self, fd: int, wanted: Wait) -> Ready:
        """Wait until the connection can be read, or written to if that is wanted."""
        if wanted == Wait.R:
            ready: Ready = self._event_loop.switch(None)
            return ready
        loop = asyncio.get_running_loop()
        loop.add_writer(fd, self.go_on, Ready.W)
        try:
            ready = self._event_loop.switch(None)
        finally:
            loop.remove_writer(fd)
        return ready

    def dial(self, connect: Callable[[], PostgresConnection]) -> PostgresConnection:
        """Open a connection on a thread, because looking up an address may block."""
        loop = asyncio.get_running_loop()
        dialled = self._dialled = loop.run_in_executor(None, connect)
        dialled.add_done_callback(self._has_dialled)
        try:
            self._event_loop.switch(None)
        finally:
            self._dialled = None
        connection = dialled.result()
        # A duplicate descriptor: libpq may close its own at any time, and the system would reuse its number at once.
        fd = os.dup(connection.fileno())
        Context().run(loop.add_reader, fd, self._can_be_read)  # not in the context of this request
        connection.use_event_loop(partial(self.pause, fd), partial(_forget, loop, fd))
        return connection

    def _has_dialled(self, dialled: "asyncio.Future[PostgresConnection]") -> None:
        if self._dialled is dialled:
            self._run(self._greenlet.switch)
        elif dialled.exception() is None:
            dialled.result().close()  # nobody waits for it any more

    def _can_be_read(self) -> None:
        if self.job is not None:
            self.go_on(Ready.R)
        else:  # an idle connection is told its end, as by a restart, or a changed setting: the next job opens a new one
            self._session.close()

    def check_time(self, now: float) -> None:
        """Refuse the job after ANSWER_SECONDS, and cut the connection once the job has used it for as long."""
        if (job := self.job) is None or now < job.ends_at:
            return
        job.refuse("timeout", f"no answer within {ANSWER_SECONDS:g} s")
        if job.ends_at <= now:
            self._pool.cuts += 1
            self._cut()

    def _cut(self) -> None:
        """End the connection, and the job with it."""
        self._session.cut()
        self._run(self._greenlet.throw, psycopg.OperationalError("cut: no answer in time"))

    def close(self) -> None:
        if self.job is not None:
            self._cut()
        self._session.close()
        self._greenlet.throw()


def _forget(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    with suppress(RuntimeError):  # the event loop is closed
        loop.remove_reader(fd)
    os.close(fd)
