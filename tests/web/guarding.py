"""The server's side of connections, for tests of their limits. Where possible, a test passes the time to the check of a
connection."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from nextarget.web.server.accepting import GuardedServer
from nextarget.web.server.connections import GuardedConnection
from tests.running import Server
from tests.web.wire import HANG_SECONDS

FORM_TYPE = "Content-Type: application/x-www-form-urlencoded"

Run = Callable[[Awaitable[None]], None]

unwatched, watched = pytest.mark.usefixtures("_unwatched"), pytest.mark.usefixtures("_watched")


def get(target: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def post(body: bytes, *fields: str) -> bytes:
    """A form for the token endpoint."""
    head = ["POST /auth/token HTTP/1.1", "Host: localhost", FORM_TYPE, *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until the condition is true."""
    async with asyncio.timeout(HANG_SECONDS):
        while not condition():
            await asyncio.sleep(0)


def guarded(server: Server) -> GuardedServer:
    assert isinstance(server.runner.server, GuardedServer)
    return server.runner.server


def connections_of(server: Server) -> list[GuardedConnection]:
    return [each for each in guarded(server).connections if isinstance(each, GuardedConnection)]


async def only_connection(server: Server) -> GuardedConnection:
    """The server's side of the only connection, as soon as there is one."""
    await until(lambda: len(connections_of(server)) == 1)
    return connections_of(server)[0]


async def cut_count(server: Server, reason: str) -> float:
    """The number of connections that this process closed for this reason."""
    text = (await server.get("/metrics")).text
    (line,) = (
        line for line in text.splitlines() if line.startswith(f'nextarget_connections_cut_total{{reason="{reason}"}}')
    )
    return float(line.rpartition(" ")[2])


@contextmanager
def client_with_little_room() -> Iterator[socket.socket]:
    """A client whose machine accepts 4 KiB and then nothing more, until the client reads."""
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        yield client
