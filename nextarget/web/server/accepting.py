"""Accepts connections, up to a maximum for the process.

asyncio's own server accepts every connection, until the process has no free file descriptor. Then the database cannot
open a file either.
"""

import asyncio
import errno
import heapq
import os
import resource
import select
import socket
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.web_server import Server

from nextarget import telemetry
from nextarget.telemetry import metrics
from nextarget.web.boundary import Terms, boundary
from nextarget.web.routing import Routes
from nextarget.web.server import connections
from nextarget.web.server.connections import GuardedConnection

BACKLOG = 1024
"""The number of connections that may wait to be accepted, for example while new workers replace old ones."""
USUAL_CONNECTIONS = 10_000
RESERVED_FILES = 256
"""File descriptors kept free for databases, providers, Redis and the log; at most half of all that are allowed."""
SPARE_SECONDS = 1
"""A connection that has been idle for less than this is not closed to make room for others."""

_AT_ONCE = 64
"""Connections accepted in one iteration of the event loop. So other tasks can run, and other workers can accept."""
_RETRY_SECONDS = 1
_LOG_SECONDS = 60

log = telemetry.get_logger()


def most_connections(wanted: int | None) -> int:
    """The maximum of connections of this process: `wanted`, or fewer if the limit of open files is too low."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted or USUAL_CONNECTIONS
    possible = limit - min(RESERVED_FILES, limit // 2)
    if wanted is not None and wanted > possible:
        remedy = "raise the limit of open files (LimitNOFILE, ulimits, ulimit -n), or lower MAX_CONNECTIONS"
        log.warning("max_connections_lowered", wanted=wanted, connections=possible, open_files=limit, remedy=remedy)
    return min(wanted or USUAL_CONNECTIONS, possible)


class GuardedServer(Server):
    """Makes connections, checks their time limits every CHECK_SECONDS, and puts the boundary around the application."""

    def __init__(
        self,
        routes: Routes,
        terms: Terms,
        *,
        max_connections: int,
        **kwargs: Any,
    ) -> None:
        self.terms = terms
        super().__init__(partial(boundary, routes, terms), **kwargs)
        self.max_connections = max_connections
        metrics.set_max_connections(max_connections)
        self.acceptors: set[Acceptor] = set()
        self._open: set[GuardedConnection] = set()
        self.opening = 0
        """Connections that are accepted, but for which asyncio has not called `connection_made` yet."""
        self._logged_at = float("-inf")
        self._made_room_for = 0
        self._next_check = self._loop.call_later(connections.CHECK_SECONDS, self._check_connections)

    def __call__(self) -> GuardedConnection:
        return GuardedConnection(self, loop=self._loop, **self._kwargs)

    def pre_shutdown(self) -> None:
        self._next_check.cancel()  # all connections are closed now
        super().pre_shutdown()

    def opened(self, connection: GuardedConnection) -> None:
        self.opening -= 1
        self._open.add(connection)
        metrics.connection_opened()

    def closed(self, connection: GuardedConnection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            metrics.connection_closed()
            for acceptor in self.acceptors:
                acceptor.resume()

    def has_room(self) -> bool:
        return len(self._open) + self.opening < self.max_connections

    def _check_connections(self) -> None:
        self._next_check = self._loop.call_later(connections.CHECK_SECONDS, self._check_connections)
        now = self._loop.time()
        for connection in tuple(self._open):
            connection.check_timeouts(now)
        if not self.has_room() and any(acceptor.keeps_waiting() for acceptor in self.acceptors):
            self._make_room(now)

    def _make_room(self, now: float) -> None:
        """Close the spare connections with the oldest `spare_since`: idle ones, and slow readers of an answer.

        So a client that opens many connections cannot keep other clients out. One call closes a sixteenth of the
        maximum, because it runs once in CHECK_SECONDS.
        """
        spare = [each for each in self._open if now - each.spare_since >= SPARE_SECONDS]
        oldest = heapq.nsmallest(max(1, self.max_connections // 16), spare, key=lambda each: each.spare_since)
        for connection in oldest:
            connection.cut("room")
        self._made_room_for += len(oldest)
        if now - self._logged_at >= _LOG_SECONDS:
            log.warning("connections_full", max_connections=self.max_connections, closed=self._made_room_for)
            self._logged_at, self._made_room_for = now, 0


class Acceptor:
    """Accepts connections from a listening socket while the server has room for them.

    Without room, new connections wait in the backlog. They are neither refused nor closed, because another worker may
    have room. Meanwhile a proxy can try another server when its own timeout ends. A load balancer whose request for
    /health times out stops sending requests here, as it should.
    """

    def __init__(self, listener: socket.socket, server: GuardedServer) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._opening: set[asyncio.Task[None]] = set()
        self._accepts = False
        self._logged_at = float("-inf")
        self._listener = listener
        server.acceptors.add(self)
        self.resume()

    def keeps_waiting(self) -> bool:
        """Whether accepting is paused while a connection waits. If none waits, another worker has accepted it."""
        return not self._accepts and self._has_one_waiting()

    def _has_one_waiting(self) -> bool:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Accept the connections that wait already, because closing would reset them, and close the socket."""
        while self._accepts and self._has_one_waiting():
            self._accept()
        self._pause()
        self._server.acceptors.discard(self)
        self._listener.close()

    def resume(self) -> None:
        """Accept again, if there is room."""
        if not self._accepts and self in self._server.acceptors and self._server.has_room():
            self._accepts = True
            self._loop.add_reader(self._listener, self._accept)

    def _pause(self) -> None:
        if self._accepts:
            self._accepts = False
            self._loop.remove_reader(self._listener)

    def _accept(self) -> None:
        if not self._server.has_room():
            self._pause()
            return
        for _ in range(_AT_ONCE):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_after_error(error)
                return
            self._server.opening += 1
            task = self._loop.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
            if not self._server.has_room():
                return

    async def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        guarded = self._server()
        try:
            await self._loop.connect_accepted_socket(lambda: guarded, connection)
        except OSError:  # the client has disconnected already
            connection.close()
            if not guarded.made:
                self._server.opening -= 1
                self.resume()

    def _pause_after_error(self, error: OSError) -> None:
        """Pause after an error: the system is out of file descriptors or memory, and would report it again at once."""
        self._pause()
        self._loop.call_later(_RETRY_SECONDS, self.resume)
        metrics.count_accept_failure()
        now = self._loop.time()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.error(
                "accept_failed", reason=errno.errorcode.get(error.errno or 0), detail=os.strerror(error.errno or 0)
            )


class Site(web.SockSite):
    """The listening socket of a GuardedServer. Several processes may share the socket."""

    _acceptor: Acceptor | None = None

    async def start(self) -> None:
        await web.BaseSite.start(self)
        listener, server = self._sock, self._runner.server
        if not isinstance(server, GuardedServer):
            raise TypeError(f"{server!r} does not limit its connections")
        listener.setblocking(False)
        listener.listen(BACKLOG)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # connections inherit it
            # It limits how long the system keeps the unsent data of a closed connection. It is four times the limit for
            # open connections: the system counts from the last segment that the client acknowledged, and the receive
            # window of a slow reader may stay closed for longer than ANSWER_SECONDS.
            milliseconds = int(connections.ANSWER_SECONDS * 1000) * 4
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self._acceptor = Acceptor(listener, server)

    async def stop(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        await super().stop()
