"""How a serving process stops: connected clients get an answer, which says that it is the last one."""

import asyncio
import socket

import pytest

from nextarget.web.server.readiness import READINESS
from tests.running import Server
from tests.serving import Line

LONG = 600
BODY = "grant_type=refresh_token&client_id=nextarget-app&refresh_token=none"
POST = (
    "POST /auth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n"
)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that wait only a moment take no time."""
    monkeypatch.setattr("nextarget.web.server.runner._LOOK_SECONDS", 0)


async def stop(server: Server, **how: float) -> None:
    """Stop the server as a process does."""
    await server.runner.finish(**how)
    await server.runner.cleanup()


async def until_deaf(server: Server) -> None:
    """Wait until the server no longer listens, and for a few turns of the loop."""
    while server.runner.sites:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_idle_connection_is_answered_once_more_after_listening_has_ended(server: Server) -> None:
    """An idle connection gets one more answer and is not reset. When all connections have ended, the server stops at
    once."""
    new, kept = await Line.open(server.port), await Line.open(server.port)
    assert await kept.ask("/health") == (200, False)  # so both connections were accepted
    finished = asyncio.create_task(stop(server, idle_seconds=LONG))
    await until_deaf(server)
    for line in (kept, new):
        assert await line.ask("/health") == (200, True)
        await line.close()
    async with asyncio.timeout(60):
        await finished


async def test_an_idle_connection_is_not_waited_for_without_end(server: Server) -> None:
    """After a limit, idle connections are closed."""
    line = await Line.open(server.port)
    assert await line.ask("/health") == (200, False)
    async with asyncio.timeout(60):
        await stop(server, idle_seconds=0)
        assert await line.reader.read() == b""
    await line.close()


async def test_a_request_whose_body_is_still_coming_is_waited_for(server: Server) -> None:
    """The rest of a body is awaited. aiohttp alone would drop it, and answer that the request was too slow."""
    line = await Line.open(server.port)
    line.send(POST + BODY[:1])
    await server.get("/health")  # the first connection was accepted
    finished = asyncio.create_task(stop(server, idle_seconds=0))
    await until_deaf(server)
    line.send(BODY[1:])
    assert await line.answer() == (400, True)
    await line.close()
    await finished


async def test_a_drain_goes_on_listening_and_says_that_it_is_not_ready(server: Server) -> None:
    """During the drain every answer is the last one on its connection, so that clients connect elsewhere."""
    draining = asyncio.create_task(server.runner.finish(drain_seconds=LONG))
    await asyncio.sleep(0)
    for path, status in (("/health", 200), ("/health/ready", 503), ("/users/me", 401)):
        line = await Line.open(server.port)
        assert await line.ask(path) == (status, True)
        await line.close()
    draining.cancel()


async def test_a_process_that_is_replaced_stays_ready_to_the_end(server: Server) -> None:
    """A new process has replaced this one, so a load balancer on an old connection must still see it as ready."""
    line = await Line.open(server.port)
    assert await line.ask("/health/ready") == (200, False)
    finished = asyncio.create_task(stop(server, idle_seconds=LONG, ready=True))
    await until_deaf(server)
    assert await line.ask("/health/ready") == (200, True)
    assert server.app[READINESS].draining is False
    await line.close()
    await finished


async def test_a_connection_that_waits_to_be_accepted_is_answered(server: Server) -> None:
    """What waits in the backlog when listening ends is accepted first: closing the socket would reset it."""
    with socket.create_connection(("127.0.0.1", server.port)) as waiting:  # the loop does not run: not accepted yet
        waiting.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for site in server.runner.sites:
            await site.stop()
        finished = asyncio.create_task(stop(server, idle_seconds=LONG))
        waiting.setblocking(False)
        answer = await asyncio.get_running_loop().sock_recv(waiting, 1000)
        await finished
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in answer
