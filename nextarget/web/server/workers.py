"""Several processes that serve one address, and the one that starts, replaces and stops them: gunicorn's arbiter around
aiohttp's worker.

gunicorn reads no file, environment variable or command line here: settings are the only source. What it says goes
through our log.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from importlib.util import find_spec
from operator import attrgetter
from typing import Any, NoReturn

from aiohttp.worker import GunicornUVLoopWebWorker, GunicornWebWorker
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger

from nextarget import telemetry
from nextarget.errors import NexTargetError, OperatorError
from nextarget.runtime import Runtime
from nextarget.settings import Settings, metrics_folder
from nextarget.storage.upkeep.schema import migrate
from nextarget.telemetry import metrics
from nextarget.web.app import create_app
from nextarget.web.server.accepting import BACKLOG, Site
from nextarget.web.server.runner import IDLE_SECONDS, SHUTDOWN_SECONDS, GuardedRunner, freeze, listen, url_of

HEARTBEAT_SECONDS = 30
"""A worker whose event loop stands still for longer is killed and replaced."""
START_SECONDS = 60
"""How long a new worker may take until it serves, when it is to replace another."""
RETRY_SECONDS = 1

_RETIRE = signal.SIGUSR2
"""From the arbiter to a worker whose place another takes."""
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_FOR_WORKERS = (*_STOP, _RETIRE)
_NEED_RESTART = ("host", "port", "log_level", "log_format")
_LOOK_SECONDS = 0.1
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - heartbeats need a directory that is writable where nothing else is

log = telemetry.get_logger()


def serve(settings: Settings, *, load: Callable[[], Settings], announce: Callable[[str], None]) -> None:
    """Serve with `settings.workers` processes until SIGINT or SIGTERM; SIGHUP replaces them one generation by another.

    `load` reads the settings again for that; HOST, PORT and the log's stay as they are. `announce` is told the URL once
    connections are accepted. Raises OperatorError when the address or the database cannot be had, or no worker starts.
    """
    listener = listen(settings.host, settings.port)
    prepare(settings)
    listener.listen(BACKLOG)
    freeze()
    arbiter = _Arbiter(_Workers(settings, load, announce, listener))
    arbiter.LISTENERS = [listener]
    own = os.getpid()
    try:
        arbiter.run()
    except SystemExit as ended:
        if os.getpid() != own:
            raise  # a worker's end: it was forked in the midst of `run`
        if ended.code:
            raise OperatorError("The workers cannot serve. The log says why, just above.") from None
    log.info("stopped")


def prepare(settings: Settings, *, before: Settings | None = None) -> None:
    """Everything that is done once for all workers, before any of them is forked: neither connection nor thread may
    be left over from it. `before` is what was in force until now, if anything was.

    Raises ConfigurationError, SchemaError or DatabaseUnavailable.
    """
    database = Runtime(settings).database
    if before is not None and before.database_url == settings.database_url:
        return  # done already; and what an upgrade has put in place meanwhile is for the new program
    try:
        migrate(database)
    finally:
        database.close()


def _child_exit(_arbiter: Arbiter, worker: "Worker") -> None:
    """In the arbiter, after a worker has gone, however it went."""
    if (folder := metrics_folder()) is not None:
        metrics.worker_gone(worker.pid, folder)
    log.info("worker_ended", pid=worker.pid)


class _Ending(StrEnum):
    DRAIN = "stopped"
    RETIRE = "replaced"
    PROMPT = "interrupted"


class Worker(GunicornWebWorker):
    """One serving process: aiohttp's worker, with our limits and our way to stop."""

    wsgi: Callable[[], GuardedRunner]
    leaving = False
    """Whether the arbiter, whose process alone knows, has told it to make room."""

    def init_process(self) -> None:
        """Serve until told to stop. Why a worker cannot is told here: gunicorn would print it."""
        try:
            super().init_process()
        except Exception as error:  # noqa: BLE001 - SystemExit is how a worker ends
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        if isinstance(error, NexTargetError):
            log.error("worker_failed", pid=self.pid, detail=error.for_operator, note=error.note)
        else:
            log.error("worker_failed", pid=self.pid, exc_info=error)
        if not self.booted and self.age <= self.app.first_workers:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)  # the server never ran: the arbiter gives up
        # Others serve: a database that is away for a moment must not take them down too.
        time.sleep(RETRY_SECONDS)
        sys.exit(1)

    def serves(self) -> bool:
        """Whether it takes connections, as far as the arbiter has been shown: by the file of its heartbeat."""
        return os.fstat(self.tmp.fileno()).st_size > 0

    def _show_that_it_serves(self) -> None:
        os.write(self.tmp.fileno(), b"\n")

    def init_signals(self) -> None:
        """Every signal to stop counts once: a service manager may send it to the arbiter and to each worker."""
        super().init_signals()
        self._ending: asyncio.Future[_Ending] = self.loop.create_future()
        for number, ending in (
            (signal.SIGTERM, _Ending.DRAIN),
            (signal.SIGINT, _Ending.PROMPT),
            (signal.SIGQUIT, _Ending.PROMPT),
            (_RETIRE, _Ending.RETIRE),
        ):
            self.loop.add_signal_handler(number, self._end, ending)

    def _end(self, ending: _Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)

    async def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_WORKERS)  # from here on the loop hears them; see `spawn_worker`
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
        """Show the arbiter that the event loop turns. Without an arbiter, make room for the next server."""
        while True:
            self.notify()
            if os.getppid() != self.ppid:
                self._end(_Ending.RETIRE)
            await asyncio.sleep(1)


class UVLoopWorker(Worker, GunicornUVLoopWebWorker):
    """The same, on uvloop."""


class _Workers(BaseApplication):  # type: ignore[misc]
    """What gunicorn asks for: its configuration, which follows from the settings, and what a worker runs."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        announce: Callable[[str], None],
        listener: socket.socket,
    ) -> None:
        self.settings = settings
        self.first_workers = settings.workers
        """Workers are numbered as they are forked: those up to here are the first generation."""
        self._load = load
        self._announce = announce
        self._listener = listener
        super().__init__()

    def load_config(self) -> None:
        levels = {"debug": "info", "info": "warning"}  # its debug lines list its configuration
        chosen = {
            "proc_name": "nextarget",
            "workers": self.settings.workers,
            "worker_class": UVLoopWorker if find_spec("uvloop") else Worker,
            "worker_tmp_dir": _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None,
            "timeout": HEARTBEAT_SECONDS,
            "graceful_timeout": self.settings.drain_seconds + IDLE_SECONDS + SHUTDOWN_SECONDS + 10,
            "control_socket_disable": True,
            "logger_class": _Log,
            "loglevel": levels.get(self.settings.log_level, self.settings.log_level),
            "when_ready": lambda _arbiter: self._announce(url_of(self._listener)),
            "child_exit": _child_exit,
        }
        for name, value in chosen.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[[], GuardedRunner]:
        return lambda: GuardedRunner(create_app(Runtime(self.settings, migrates=False)))

    def read_again(self) -> bool:
        """Take the settings as they are now, if they can be used."""
        before = self.settings
        try:
            settings = self._load()
            prepare(settings, before=before)
        except NexTargetError as error:
            log.error("reload_refused", detail=error.for_operator, note=error.note)  # noqa: TRY400 - no fault of ours
            return False
        self.settings = settings
        changed = [name.upper() for name in _NEED_RESTART if getattr(before, name) != getattr(settings, name)]
        log.info("reloading", workers=settings.workers)
        if changed:
            log.warning("restart_needed", settings=changed)
        return True


class _Arbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter, told apart: workers that stop with the server drain, those that are replaced do not."""

    _asked_to_stop = False
    _stopping = False

    def spawn_worker(self) -> Any:
        """No signal is lost between the fork and the worker's event loop, which lets them through once it runs."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_WORKERS)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_WORKERS)

    def manage_workers(self) -> None:
        """As many as the settings say, the youngest; those that make room do not count."""
        staying = sorted((each for each in self.WORKERS.values() if not each.leaving), key=attrgetter("age"))
        for _ in range(self.num_workers - len(staying)):
            self.spawn_worker()
        self._retire(staying[: -self.num_workers])

    def reload(self) -> None:
        """SIGHUP: new workers with the settings as they are now; once all of them serve, the old ones finish what they
        have. If one cannot, the new ones go, and nothing has changed.

        Nobody waits for those that go: gunicorn would, and hear no signal to stop meanwhile.
        """
        before = self.app.settings
        if self._asked_to_stop or not self.app.read_again():
            return
        new = [self.WORKERS[self.spawn_worker()] for _ in range(self.app.settings.workers)]
        if problem := self._problem_of(new):
            log.error("reload_refused", detail=problem)
            self.app.settings = before
            self._retire(new)
        else:
            self.app.reload()
            self.setup(self.app)
            self._retire([each for each in self.WORKERS.values() if each not in new])

    def _problem_of(self, new: list[Worker]) -> str | None:
        """Wait until these workers serve, or it is known why they cannot take over."""
        deadline = time.monotonic() + START_SECONDS
        while not all(each.serves() for each in new):
            if self._asked_to_stop:
                return "The server is to stop."
            if time.monotonic() > deadline:
                self._kill_silent(new)
                return f"A new worker did not serve within {START_SECONDS} seconds."
            time.sleep(_LOOK_SECONDS)
            self.reap_workers()
            self.murder_workers()
            if any(each.pid not in self.WORKERS for each in new):
                return "A new worker cannot serve. The log says why, just above."
        return None

    def _kill_silent(self, workers: list[Worker]) -> None:
        """Those that do not serve have nothing to finish, and may never hear that they are to make room."""
        for worker in workers:
            if not worker.serves():
                self.kill_worker(worker.pid, signal.SIGKILL)

    def _retire(self, workers: list[Worker]) -> None:
        for worker in workers:
            if worker.pid in self.WORKERS and not worker.leaving:
                worker.leaving = True
                self.kill_worker(worker.pid, _RETIRE)

    def handle_usr2(self) -> None:
        """gunicorn would run the command again beside itself."""
        log.warning("signal_ignored", signal="SIGUSR2")

    def stop(self, graceful: bool = True) -> None:
        first, self._stopping = not self._stopping, True
        if first:
            log.info("stopping", drain_seconds=self.app.settings.drain_seconds if graceful else 0)
        super().stop(graceful)

    def reap_workers(self) -> None:
        """gunicorn gives up over every worker that cannot start, even once it has."""
        try:
            super().reap_workers()
        except HaltServer:
            if not self._stopping:
                raise

    def signal(self, sig: int, frame: Any) -> None:
        """A second signal to stop ends everything at once, whatever the first has come to."""
        if sig in _STOP:
            if self._asked_to_stop or self._stopping:
                self._end_at_once(sig)
            self._asked_to_stop = True
        super().signal(sig, frame)

    def _end_at_once(self, sig: int) -> None:
        for pid in list(self.WORKERS):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        signal.signal(sig, signal.SIG_DFL)
        os.kill(os.getpid(), sig)


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's lines as lines of ours; requests are logged by the boundary alone."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = True
        self.error_log.setLevel(self.LOG_LEVELS[cfg.loglevel])
