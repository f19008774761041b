"""Serving one address with several worker processes, which gunicorn's arbiter starts, replaces and stops.

gunicorn reads no file, environment variable or command line here: its configuration comes from our settings. Its
messages go to our log.
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from typing import Any

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
from nextarget.web.server.accepting import BACKLOG
from nextarget.web.server.runner import IDLE_SECONDS, SHUTDOWN_SECONDS, VERIFYING, GuardedRunner, freeze, listen, url_of
from nextarget.web.server.worker import RETIRE, STOP, WORKER_SIGNALS, UVLoopWorker, Worker

HEARTBEAT_SECONDS = 30
"""A worker whose event loop is blocked for longer is killed and replaced."""
START_SECONDS = 60
"""How long a new worker that replaces another may take until it serves."""

_NEED_RESTART = ("host", "port", "log_level", "log_format")
_LOOK_SECONDS = 0.1
AT_FIRST_USE = ("jinja2", "yaml")
"""Packages that one process imports when a request needs them. With workers, they are imported before the fork: so the
workers share their memory, and not every worker has to import them while it serves."""
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - heartbeats need a directory that is writable where nothing else is

log = telemetry.get_logger()


def serve(settings: Settings, *, load: Callable[[], Settings], announce: Callable[[str], None]) -> None:
    """Serve with `settings.workers` processes until SIGINT or SIGTERM. SIGHUP replaces all workers with new ones.

    On SIGHUP, `load` reads the settings again; HOST, PORT and the settings of the log need a restart. `announce` is
    called with the URL as soon as connections are accepted. Raises OperatorError if the address or the database cannot
    be used, or if no worker starts.
    """
    listener = listen(settings.host, settings.port)
    prepare(settings)
    for name in (VERIFYING, *AT_FIRST_USE):
        import_module(name)
    listener.listen(BACKLOG)
    freeze()
    arbiter = _Arbiter(_Workers(settings, load, announce, listener))
    arbiter.LISTENERS = [listener]
    own = os.getpid()
    try:
        arbiter.run()
    except SystemExit as ended:
        if os.getpid() != own:
            raise  # this is a worker that ends: it was forked inside `run`
        if ended.code:
            raise OperatorError("The workers cannot serve. The log says why, just above.") from None
    log.info("stopped")


def prepare(settings: Settings, *, before: Settings | None = None) -> None:
    """Migrate the database once for all workers, before they are forked.

    No connection and no thread may remain open, because a fork would copy them. `before` are the settings until now, on
    a reload. Raises ConfigurationError, SchemaError or DatabaseUnavailable.
    """
    database = Runtime(settings).database
    if before is not None and before.database_url == settings.database_url:
        return  # migrated at start; migrations of a newer installed version must wait for a restart
    try:
        migrate(database)
    finally:
        database.close()


def _child_exit(_arbiter: Arbiter, worker: Worker) -> None:
    """Runs in the arbiter after a worker has ended, for whatever reason."""
    if (folder := metrics_folder()) is not None:
        metrics.worker_gone(worker.pid, folder)
    log.info("worker_ended", pid=worker.pid)


class _Workers(BaseApplication):  # type: ignore[misc]
    """gunicorn's application object: its configuration, made from our settings, and the runner of a worker."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        announce: Callable[[str], None],
        listener: socket.socket,
    ) -> None:
        self.settings = settings
        self.first_workers = settings.workers
        """gunicorn numbers the workers as it forks them (`age`). Numbers up to this one are the first generation."""
        self._load = load
        self._announce = announce
        self._listener = listener
        super().__init__()

    def load_config(self) -> None:
        levels = {"debug": "info", "info": "warning"}  # gunicorn's debug lines would list its configuration
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
        """Read the settings again, and use them if they are valid."""
        before = self.settings
        try:
            settings = self._load()
            prepare(settings, before=before)
        except NexTargetError as error:
            log.error("reload_refused", detail=error.for_operator, note=error.note)  # noqa: TRY400 - not our fault
            return False
        except Exception as error:  # noqa: BLE001 - an error here would end the arbiter, and all workers with it
            # Neither the text nor the traceback is logged: they may contain a value of a setting.
            log.error("reload_refused", detail=f"Internal error ({type(error).__name__}).")  # noqa: TRY400
            return False
        self.settings = settings
        changed = [name.upper() for name in _NEED_RESTART if getattr(before, name) != getattr(settings, name)]
        log.info("reloading", workers=settings.workers)
        if changed:
            log.warning("restart_needed", settings=changed)
        return True


class _Arbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter. Workers drain if the server stops, but not if they are replaced by new workers."""

    _asked_to_stop = False
    _stopping = False

    def spawn_worker(self) -> Any:
        """Block stop signals during the fork, so that none is lost before the worker's event loop unblocks them."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WORKER_SIGNALS)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WORKER_SIGNALS)

    def manage_workers(self) -> None:
        """Keep as many workers as the settings say, the youngest ones. Workers that were told to exit do not count."""
        staying = sorted((each for each in self.WORKERS.values() if not each.leaving), key=attrgetter("age"))
        for _ in range(self.num_workers - len(staying)):
            self.spawn_worker()
        self._retire(staying[: -self.num_workers])

    def reload(self) -> None:
        """SIGHUP: read the settings again, and replace all workers.

        When all new workers serve, the old ones finish their requests and exit. If one new worker cannot serve, all new
        workers exit, and the old settings and workers stay.

        This does not wait until the old workers have exited. gunicorn would wait, and ignore stop signals meanwhile.
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
        """Wait until the new workers serve. Returns None, or the reason why they cannot take over."""
        deadline = time.monotonic() + START_SECONDS
        while not all(each.serves() for each in new):
            if self._asked_to_stop:
                return "The server is stopping."
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
        """Kill the workers that do not serve. They have no requests to finish, and may never react to a signal."""
        for worker in workers:
            if not worker.serves():
                self.kill_worker(worker.pid, signal.SIGKILL)

    def _retire(self, workers: list[Worker]) -> None:
        for worker in workers:
            if worker.pid in self.WORKERS and not worker.leaving:
                worker.leaving = True
                self.kill_worker(worker.pid, RETIRE)

    def handle_usr2(self) -> None:
        """Ignore SIGUSR2. gunicorn would start a second copy of the server."""
        log.warning("signal_ignored", signal="SIGUSR2")

    def stop(self, graceful: bool = True) -> None:
        first, self._stopping = not self._stopping, True
        if first:
            log.info("stopping", drain_seconds=self.app.settings.drain_seconds if graceful else 0)
        super().stop(graceful)

    def reap_workers(self) -> None:
        """Ignore the error that gunicorn raises for a worker that cannot start, if the server is already stopping."""
        try:
            super().reap_workers()
        except HaltServer:
            if not self._stopping:
                raise

    def signal(self, sig: int, frame: Any) -> None:
        """A second stop signal kills all processes at once, however far the first one has come."""
        if sig in STOP:
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
    """Sends gunicorn's messages to our log. Requests are logged by the boundary only."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = True
        self.error_log.setLevel(self.LOG_LEVELS[cfg.loglevel])
