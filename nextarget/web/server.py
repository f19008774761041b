"""Runs the application: the limits on what a connection may send, what is answered before any handler runs, signals.

aiohttp by itself quotes a malformed request in its answer and in its log, and lets a client take as long as it likes
over its first header. Both are mended here.
"""

import asyncio
import gc
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from nextarget import telemetry
from nextarget.errors import InternalError, InvalidRequest, OperatorError
from nextarget.telemetry import metrics
from nextarget.web.middleware import boundary
from nextarget.web.problems import fixed_answer

MAX_LINE_BYTES = MAX_FIELD_BYTES = 8 * 1024
MAX_HEADERS = 64
HEADER_SECONDS = 10
"""How long a new connection may take to send its first request's header."""
KEEPALIVE_SECONDS = 75
SHUTDOWN_SECONDS = 20
"""How long requests in flight may take to finish once the server is asked to stop."""

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = telemetry.get_logger()


class GuardedConnection(RequestHandler):
    """A connection that echoes nothing and waits for no header for ever."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._header_timer = self._loop.call_later(HEADER_SECONDS, self._drop_if_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._header_timer.cancel()
        super().connection_lost(exc)

    def _drop_if_silent(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what failed outside the application, a malformed request above all, with a fixed document."""
        malformed = status < 500
        response = fixed_answer(InvalidRequest() if malformed else InternalError())
        if malformed:
            metrics.count_malformed()
            log.info("malformed_request", status=status, reason=type(exc).__name__)
        else:
            log.error("unforeseen_error", status=status, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """aiohttp's own words may quote the request. A body that cannot be decoded has been answered already."""
        error = kwargs.get("exc_info")
        if not isinstance(error, web.RequestPayloadError):
            log.error("connection_error", exc_info=error)


class GuardedServer(Server):
    """Makes guarded connections, and puts the boundary around the application."""

    def __init__(self, handler: Callable[..., Awaitable[web.StreamResponse]], **kwargs: Any) -> None:
        super().__init__(partial(boundary, handler), **kwargs)

    def __call__(self) -> RequestHandler:
        return GuardedConnection(self, loop=self._loop, **self._kwargs)


class GuardedRunner(web.AppRunner):
    """An AppRunner whose server is guarded. Used by `serve`, by the tests and by the benchmarks alike."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(
            app,
            access_log=None,  # the boundary logs what is answered
            keepalive_timeout=KEEPALIVE_SECONDS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_HEADERS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )

    async def _make_server(self) -> Server:
        ready = await super()._make_server()  # starts the application
        return GuardedServer(
            ready.request_handler, request_factory=ready.request_factory, loop=ready._loop, **ready._kwargs
        )


async def serve(app: web.Application, host: str, port: int, *, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then let requests in flight finish.

    `announce` is told the URL once connections are accepted. Raises OperatorError when the address cannot be had.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    runner = GuardedRunner(app)
    await runner.setup()
    gc.collect()
    gc.freeze()  # what start-up made stays: the collector need not look at it again with every few requests
    try:
        listener = _listen(host, port)
        await web.SockSite(runner, listener).start()
        bound = listener.getsockname()
        announce(f"http://[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"http://{bound[0]}:{bound[1]}")
        await stopped.wait()
        log.info("stopping")
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)  # a second one ends the process at once
    finally:
        await runner.cleanup()
    log.info("stopped")


def _listen(host: str, port: int) -> socket.socket:
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
