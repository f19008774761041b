"""Runs the application in one process, and stops it without losing a request.

aiohttp alone closes idle connections at once when it stops, even if a client is sending a request on one of them.
"""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable
from importlib import import_module

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from nextarget import telemetry
from nextarget.errors import OperatorError
from nextarget.settings import Environment
from nextarget.web.app_keys import RUNTIME
from nextarget.web.boundary import Terms
from nextarget.web.requests.parameters import BODY_SECONDS, MAX_BODY_BYTES
from nextarget.web.routing import Routes
from nextarget.web.server.accepting import GuardedServer, Site, most_connections
from nextarget.web.server.connections import MAX_READ_FIELD_BYTES, GuardedConnection
from nextarget.web.server.readiness import READINESS

MAX_LINE_BYTES = 8 * 1024
MAX_HEADERS = 64
GC_THRESHOLD = (20_000, 20, 20)
"""Python's default is 700 new objects, which a dozen requests make. To collect so often takes 5 % of all CPU time."""
SHUTDOWN_SECONDS = 20
"""How long requests in flight may take to finish after the server has stopped listening."""
IDLE_SECONDS = 2
"""How long an idle connection then stays open, so that a request on its way is answered instead of being reset."""

VERIFYING = "nextarget.tokens.libraries"
"""The module that imports the libraries that verify tokens."""

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_SECONDS = 0.05
_CANCEL_SECONDS = 1

log = telemetry.get_logger()


class GuardedRunner(web.AppRunner):
    """An AppRunner with a GuardedServer. `serve`, the workers, the tests and the benchmarks use it."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(
            app,
            access_log=None,  # the boundary logs the answers
            keepalive_timeout=0,  # no timer for every connection: the connections check this themselves
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_READ_FIELD_BYTES,
            max_headers=MAX_HEADERS,
            read_bufsize=MAX_BODY_BYTES,
            lingering_time=BODY_SECONDS,
            auto_decompress=False,  # aiohttp would do it while data arrives, even if no handler reads it
            shutdown_timeout=SHUTDOWN_SECONDS,
        )

    async def _make_server(self) -> Server:
        ready = await super()._make_server()  # starts the application
        settings = self.app[RUNTIME].settings
        return GuardedServer(
            Routes(self.app, ready.request_handler),
            Terms(https_only=settings.environment is Environment.PRODUCTION),
            max_connections=most_connections(settings.max_connections),
            request_factory=ready.request_factory,
            loop=ready._loop,
            **ready._kwargs,
        )

    async def finish(self, *, drain_seconds: float = 0, idle_seconds: float = 0, ready: bool = False) -> None:
        """Serve for `drain_seconds` more, stop listening, and let connected clients finish. `cleanup` closes the rest.

        From now on every answer closes its connection, so that clients connect again, to another process. Readiness
        turns 503, except with `ready`: then another process takes over the address. After listening ends, requests in
        flight have SHUTDOWN_SECONDS to finish (aiohttp would discard the rest of their bodies). Idle connections, and
        new ones whose request is still on its way, have `idle_seconds`.
        """
        server = self.server
        if not isinstance(server, GuardedServer):
            return  # `setup` was never called
        server.terms.stopping = True
        if READINESS in self.app and not ready:
            self.app[READINESS].draining = True
        await asyncio.sleep(drain_seconds)
        for site in self.sites:
            await site.stop()
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() < began + SHUTDOWN_SECONDS:
            await asyncio.sleep(_LOOK_SECONDS)
            open_ones = server.connections
            if server.opening:  # accepted, but not in the list yet
                continue
            if not open_ones or (loop.time() >= began + idle_seconds and not any(map(_is_busy, open_ones))):
                break
        self._shutdown_timeout = _CANCEL_SECONDS  # requests that still run have used up their time


def _is_busy(connection: RequestHandler) -> bool:
    return isinstance(connection, GuardedConnection) and connection.busy


async def serve(
    app: web.Application, host: str, port: int, *, drain_seconds: float = 0, announce: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM, then let requests in flight finish; a second signal ends the process at once.

    SIGTERM waits for `drain_seconds` first, and for idle clients. SIGINT comes from a person and does not wait.
    `announce` is called with the URL as soon as connections are accepted. What verifies tokens is imported after that;
    if it cannot be, the server ends. Raises OperatorError if the address cannot be used.
    """
    asked = _stop_signal()
    runner = GuardedRunner(app)
    await runner.setup()
    try:
        listener = listen(host, port)
        await Site(runner, listener).start()
        announce(url_of(listener))
        await asyncio.to_thread(import_module, VERIFYING)
        freeze()
        if await asked == signal.SIGTERM:
            log.info("stopping", drain_seconds=drain_seconds)
            await runner.finish(drain_seconds=drain_seconds, idle_seconds=IDLE_SECONDS)
        else:
            log.info("stopping")
            await runner.finish()
    finally:
        await runner.cleanup()
    log.info("stopped")


def _stop_signal() -> asyncio.Future[int]:
    """A future that is done when the first stop signal comes. After that, a second stop signal kills the process."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[int] = loop.create_future()

    def stop(number: int) -> None:
        for each in _STOP_SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        asked.set_result(number)

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop, number)
    if not sys.stderr.isatty():  # on a terminal, SIGHUP means that it was closed, and ends the process
        loop.add_signal_handler(signal.SIGHUP, lambda: log.warning("reload_refused", reason="one worker: restart it"))
    return asked


def freeze() -> None:
    """Take the objects of start-up out of garbage collection, and collect seldom.

    These objects live until the end, so collecting them again wastes time. In the parent of workers, it would also
    write to memory that the workers share with it. Requests make very few reference cycles. The cycles of start-up are
    not collected first: they are less than 1 MiB, and to find them takes longer than to listen.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(*GC_THRESHOLD)


def url_of(listener: socket.socket) -> str:
    """The URL of a listener, with the real port if the port was 0."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address. Raises OperatorError if the address cannot be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise OperatorError(
            f"Cannot listen on {host} port {port}: {error.strerror}. Choose another with --host and --port."
        ) from None
    return listener
