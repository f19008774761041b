"""One worker process: aiohttp's worker class for gunicorn, with our limits and our way to stop."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn

from aiohttp.worker import GunicornUVLoopWebWorker, GunicornWebWorker
from gunicorn.arbiter import Arbiter

from nextarget import telemetry
from nextarget.errors import NexTargetError
from nextarget.web.server.accepting import Site
from nextarget.web.server.runner import IDLE_SECONDS, GuardedRunner, freeze

RETRY_SECONDS = 1

RETIRE = signal.SIGUSR2
"""The arbiter sends this signal to a worker that has been replaced."""
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
WORKER_SIGNALS = (*STOP, RETIRE)

log = telemetry.get_logger()


class _Ending(StrEnum):
    DRAIN = "stopped"
    RETIRE = "replaced"
    PROMPT = "interrupted"


class Worker(GunicornWebWorker):
    """One serving process: aiohttp's worker class, with our limits and our way to stop."""

    wsgi: Callable[[], GuardedRunner]
    leaving = False
    """Whether this worker was told to exit. Set in the parent process (the arbiter) only."""

    def init_process(self) -> None:
        """Serve until told to stop. A failure is logged here, because gunicorn would print it instead."""
        try:
            super().init_process()
        except Exception as error:  # noqa: BLE001 - a worker ends with SystemExit, which passes
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        if isinstance(error, NexTargetError):
            log.error("worker_failed", pid=self.pid, detail=error.for_operator, note=error.note)
        else:
            log.error("worker_failed", pid=self.pid, exc_info=error)
        if not self.booted and self.age <= self.app.first_workers:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)  # the server never served: this status makes the arbiter give up
        # Other workers still serve: a short failure of the database must not end them too.
        time.sleep(RETRY_SECONDS)
        sys.exit(1)

    def serves(self) -> bool:
        """Whether the worker accepts connections. The worker tells the arbiter with a byte in its heartbeat file."""
        return os.fstat(self.tmp.fileno()).st_size > 0

    def _show_that_it_serves(self) -> None:
        os.write(self.tmp.fileno(), b"\n")

    def init_signals(self) -> None:
        """Only the first stop signal counts. A worker may get one from the service manager and one from the arbiter."""
        super().init_signals()
        self._ending: asyncio.Future[_Ending] = self.loop.create_future()
        for number, ending in (
            (signal.SIGTERM, _Ending.DRAIN),
            (signal.SIGINT, _Ending.PROMPT),
            (signal.SIGQUIT, _Ending.PROMPT),
            (RETIRE, _Ending.RETIRE),
        ):
            self.loop.add_signal_handler(number, self._end, ending)

    def _end(self, ending: _Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)

    async def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WORKER_SIGNALS)  # the loop handles signals now; see `spawn_worker`
        runner = self.wsgi()
        await runner.setup()
        try:
            for listener in self.sockets:
                await Site(runner, listener).start()
            freeze()
            self.booted = True
            self._show_that_it_serves()
            log.info("worker_started", pid=self.pid)
            heartbeat = asyncio.create_task(self._beat())
            ending = await self._ending
            log.info("worker_stopping", pid=self.pid, reason=ending)
            await runner.finish(
                drain_seconds=self.app.settings.drain_seconds if ending is _Ending.DRAIN else 0,
                idle_seconds=0 if ending is _Ending.PROMPT else IDLE_SECONDS,
                ready=ending is _Ending.RETIRE,
            )
        finally:
            await runner.cleanup()
        heartbeat.cancel()

    async def _beat(self) -> None:
        """Show the arbiter that the event loop runs. If the arbiter is gone, stop, so that a new server can start."""
        while True:
            self.notify()
            if os.getppid() != self.ppid:
                self._end(_Ending.RETIRE)
            await asyncio.sleep(1)


class UVLoopWorker(Worker, GunicornUVLoopWebWorker):
    """The same worker on uvloop."""
