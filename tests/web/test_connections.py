"""How long a client may occupy a connection: with answers that it does not read, a header, a body, or between requests.

The rules hold on asyncio's own loop and on uvloop, whose buffers differ.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientConnectionResetError
from aiohttp.test_utils import make_mocked_request

from nextarget.web.boundary import answer_to
from nextarget.web.requests import parameters
from nextarget.web.requests.parameters import BODY_SECONDS
from nextarget.web.server import connections
from nextarget.web.server.accepting import SPARE_SECONDS
from nextarget.web.server.connections import ANSWER_SECONDS, HEADER_SECONDS, KEEPALIVE_SECONDS, GuardedConnection
from tests.running import Server, running
from tests.web.conftest import Log
from tests.web.guarding import (
    FORM_TYPE,
    Run,
    client_with_little_room,
    connections_of,
    cut_count,
    get,
    guarded,
    only_connection,
    post,
    until,
    unwatched,
    watched,
)
from tests.web.wire import exchange, wire

UNSENT_AT_MOST = 2 * 64 * 1024
"""The most bytes that are written before the server waits, and one answer."""


@asynccontextmanager
async def reading_nothing(server: Server, target: str) -> AsyncIterator[tuple[socket.socket, GuardedConnection]]:
    """A client that has requested far more than the system's buffers hold, and its connection, whose writing is
    paused."""
    loop = asyncio.get_running_loop()
    with client_with_little_room() as client:
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        sending = asyncio.create_task(loop.sock_sendall(client, get(target) * 20_000))
        connection = await only_connection(server)
        await until(lambda: connection.writing_paused)
        yield client, connection
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


ANSWERS = pytest.mark.parametrize(
    "target", ["/openapi.json", "/auth/providers", "/static/swagger-ui-bundle.js"], ids=["whole", "json", "file"]
)


@unwatched
@ANSWERS
def test_an_answer_that_nobody_takes_ends_its_connection(run: Run, tmp_path: Path, target: str) -> None:
    """A connection is aborted after thirty seconds in which its client read nothing. Its memory is released."""

    async def test() -> None:
        async with running(tmp_path) as server, reading_nothing(server, target) as (_client, connection):
            connection.check_timeouts(1000)
            connection.check_timeouts(1000 + ANSWER_SECONDS - 1)
            assert connections_of(server) == [connection]
            connection.check_timeouts(1000 + ANSWER_SECONDS)
            await until(lambda: not connections_of(server))
            assert await cut_count(server, "answer") >= 1

    run(test())


@unwatched
@ANSWERS
def test_a_client_that_reads_slowly_is_not_cut(run: Run, tmp_path: Path, target: str) -> None:
    """Any progress of the client restarts the time, even if our own buffer does not shrink."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with running(tmp_path) as server, reading_nothing(server, target) as (client, connection):
            now = 1000.0
            for _ in range(5):
                connection.check_timeouts(now)
                due, taken = connection._current_wait(), 0
                while connection._current_wait() == due:
                    taken += len(await loop.sock_recv(client, 512))
                    await asyncio.sleep(0)
                assert taken <= 32 * 1024, "a kilobyte a second must be enough"
                now += ANSWER_SECONDS
            connection.check_timeouts(now)
            assert connections_of(server) == [connection]

    run(test())


@unwatched
@ANSWERS
def test_a_client_that_reads_slowly_makes_room_where_others_wait(run: Run, tmp_path: Path, target: str) -> None:
    """A slow reader keeps its place for thirty seconds in all, if others wait. Otherwise a few slow readers could
    occupy all connections for ever."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with running(tmp_path) as server, reading_nothing(server, target) as (client, connection):
            connection.check_timeouts(1000)
            assert connection.spare_since == 1000 + ANSWER_SECONDS
            due = connection._current_wait()
            while connection._current_wait() == due:
                await loop.sock_recv(client, 512)
                await asyncio.sleep(0)
            connection.check_timeouts(1000 + ANSWER_SECONDS - 1)
            assert connection.waits_since == 1000 + ANSWER_SECONDS - 1, "reading must restart the time"
            assert connection.spare_since == 1000 + ANSWER_SECONDS
            guarded(server)._make_room(1000 + ANSWER_SECONDS)
            assert connections_of(server) == [connection], "a short pause must not cost the connection"
            guarded(server)._make_room(1000 + ANSWER_SECONDS + SPARE_SECONDS)
            await until(lambda: not connections_of(server))

    run(test())


@unwatched
@ANSWERS
def test_requests_behind_an_unread_answer_fill_no_memory(run: Run, tmp_path: Path, target: str) -> None:
    """Neither the answers to many simultaneous requests nor the requests themselves are kept in memory."""

    async def test() -> None:
        async with running(tmp_path) as server, reading_nothing(server, target) as (_client, connection):
            for _ in range(1000):
                await asyncio.sleep(0)
                assert connection._line.get_write_buffer_size() <= UNSENT_AT_MOST
                assert len(connection._messages) <= 32

    run(test())


@watched
def test_the_server_checks_time_limits_by_itself(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server checks its connections by itself."""
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.2)

    async def test() -> None:
        async with running(tmp_path) as server, reading_nothing(server, "/openapi.json"):
            await until(lambda: not connections_of(server))

    run(test())


@unwatched
def test_what_a_closed_connection_has_left_to_send_is_given_up_too(run: Run, tmp_path: Path) -> None:
    """Data of a closed connection is in the system's buffers. The system drops it after two minutes."""

    async def test() -> None:
        async with running(tmp_path) as server, wire(server):
            connection = await only_connection(server)
            line = connection._line.get_extra_info("socket")
            assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 4 * ANSWER_SECONDS * 1000

    run(test())


@unwatched
@pytest.mark.parametrize("before", [0, 1, 3], ids=["first", "second", "fourth"])
def test_every_header_has_ten_seconds_from_its_first_byte(run: Run, tmp_path: Path, before: int) -> None:
    """Every header of a connection has ten seconds from its first byte. Single bytes do not extend the time."""

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            connection = await only_connection(server)
            for _ in range(before):
                await client.send(get("/health"))
                assert (await client.answer()) is not None
            connection.check_timeouts(connection.waits_since)
            began = connection.waits_since + (KEEPALIVE_SECONDS - 1 if before else 0)
            for seconds, octet in enumerate(b"GET /heal"):
                await client.send(bytes([octet]))
                await until(lambda sent=seconds: connection.header_bytes > sent)
                connection.check_timeouts(began + seconds)
                assert connections_of(server) == [connection]
            connection.check_timeouts(began + HEADER_SECONDS)
            assert await client.rest() == b""
            assert await cut_count(server, "header") >= 1

    run(test())


@unwatched
def test_a_header_that_begins_in_one_piece_with_the_request_before_has_ten_seconds(run: Run, tmp_path: Path) -> None:
    """A header that starts in the same packet as the request before has ten seconds too."""

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            connection = await only_connection(server)
            await client.send(get("/health") + b"GET /heal")
            assert (await client.answer()) is not None
            await until(lambda: not connection.busy)
            connection.check_timeouts(1000)
            connection.check_timeouts(1000 + HEADER_SECONDS)
            assert await client.rest() == b""

    run(test())


@unwatched
def test_a_connection_may_be_idle_for_longer_than_a_header_may_take(run: Run, tmp_path: Path) -> None:
    """A connection may be idle for longer between two requests. Empty lines are not a header (RFC 9112, 2.2) and extend
    nothing."""

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            connection = await only_connection(server)
            await client.send(get("/health"))
            assert (await client.answer()) is not None
            connection.check_timeouts(1000)
            await client.send(b"\r\n" * 100)
            connection.check_timeouts(1000 + KEEPALIVE_SECONDS - 1)
            await client.send(get("/health"))
            assert (await client.answer()) is not None
            connection.check_timeouts(2000)
            await client.send(b"\r\n" * 100)
            connection.check_timeouts(2000 + KEEPALIVE_SECONDS)
            assert await client.rest() == b""

    run(test())


@unwatched
def test_a_header_that_comes_in_pieces_is_no_longer_than_64_kib(run: Run, tmp_path: Path) -> None:
    """The limit is 64 KiB in all. aiohttp alone would accept 64 fields of 8 KiB."""

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            connection = await only_connection(server)
            await client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
            for number in range(9):
                await until(lambda sent=number: connection.header_bytes > sent * 8000 or not connections_of(server))
                await client.send(f"X-{number}: ".encode() + b"x" * 8000 + b"\r\n")
            await until(lambda: not connections_of(server))

    run(test())


BODIES = {
    "length": (f"Content-Length: {10**12}", b"x"),
    "chunks": ("Transfer-Encoding: chunked", b"1\r\nx\r\n"),
    "extension": ("Transfer-Encoding: chunked", b"1;a=" + b"b" * 100_000),
    "trailer": ("Transfer-Encoding: chunked", b"0\r\nX-A: b\r\n"),
    "nothing": ("Expect: 100-continue\r\nContent-Length: 5", b""),
}


@unwatched
@pytest.mark.parametrize("framing", BODIES)
@pytest.mark.parametrize("target", ["/health", "/users/me", "/nothing"])
def test_a_body_that_nobody_reads_has_ten_seconds(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, framing: str
) -> None:
    """A request with an unfinished body is answered at once, and its connection is closed in time."""
    field, body = BODIES[framing]
    monkeypatch.setattr(
        "nextarget.web.server.runner.BODY_SECONDS", 10**6
    )  # aiohttp's own timer, which would close the connection too

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            connection = await only_connection(server)
            await client.send(get(target, field) + body)
            answer = await client.answer()
            while answer is not None and answer.status == 100:
                answer = await client.answer()
            assert answer is not None
            await until(lambda: not connection.busy)
            connection.check_timeouts(1000)
            connection.check_timeouts(1000 + BODY_SECONDS - 1)
            assert connections_of(server) == [connection]
            connection.check_timeouts(1000 + BODY_SECONDS)
            assert await client.rest() == b""

    run(test())


@watched
def test_a_form_that_was_given_up_holds_its_connection_no_longer(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the 408 for a slow form the connection is closed at once. aiohttp would wait for ten seconds more."""
    monkeypatch.setattr(parameters, "BODY_SECONDS", 0.2)
    monkeypatch.setattr("nextarget.web.server.runner.BODY_SECONDS", 10**6)

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            await client.send(post(b"x", "Expect: 100-continue")[:-1])
            first = await client.answer()
            assert first is not None
            assert first.status == 100
            answer = await client.answer()
            assert answer is not None
            assert answer.status == 408
            assert await client.rest() == b""

    run(test())


@pytest.mark.parametrize("framing", ["1\r\nx\r\n", "1;a=" + "b" * 5000 + "\r\nx\r\n"], ids=["small", "extended"])
async def test_a_form_in_very_many_chunks_is_read(server: Server, framing: str) -> None:
    """A form in many small chunks is read, and its size is counted without the framing."""
    head = f"POST /auth/revoke HTTP/1.1\r\nHost: localhost\r\n{FORM_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await exchange(server, (head + "6\r\ntoken=\r\n" + framing * 2000 + "0\r\n\r\n").encode())
    assert answer is not None
    assert answer.status == 200


async def test_a_trailer_is_no_header_of_the_next_request(server: Server) -> None:
    """A trailer must not become a header of the next request. Otherwise a proxy with shared connections could let one
    client act as another."""
    token = (await server.sign_in()).json["access_token"]
    chunked = get("/health", "Transfer-Encoding: chunked") + f"0\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    async with wire(server) as client:
        await client.send(chunked + get("/users/me"))
        answer = await client.answer()
        assert answer is not None
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""


async def test_a_malformed_body_behind_an_answer_ends_its_connection(log: Log, server: Server) -> None:
    """Nobody reads the body, and nothing is logged about it."""
    async with wire(server) as client:
        await client.send(get("/health", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
        answer = await client.answer()
        assert answer is not None
        assert answer.status == 200
        await client.send(b"no chunk\r\n")
        assert await client.rest() == b""
    assert [line["event"] for line in log.lines] == ["request"]


async def test_requests_of_one_connection_are_told_apart_in_the_log(log: Log, server: Server) -> None:
    """A request has no id of the one before on its connection: neither one that is malformed, nor one after a login."""
    begun = await server.begin()
    back = urlsplit(await server.approve(begun["auth_url"]))
    async with wire(server) as client:
        for octets in (get(f"{back.path}?{back.query}"), get("/health"), b"GET / HTTP/1.1\r\nHost: \x00\r\n\r\n"):
            await client.send(octets)
            assert await client.answer() is not None
    lines = [line for line in log.lines if line["event"] in {"request", "malformed_request"}][-3:]
    assert ["login_id" in line for line in lines] == [True, False, False]
    assert len({line["request_id"] for line in lines}) == 3


async def test_a_client_that_pipelines_takes_turns_with_others(server: Server) -> None:
    """Its thousand requests come in one piece. A request of another client is answered long before the last of them."""
    async with wire(server) as greedy, wire(server) as modest:
        await greedy.send(get("/health") * 1000)
        await modest.send(get("/health"))
        assert await modest.answer() is not None
        assert any(connection.busy for connection in connections_of(server))


async def test_nobody_waits_for_the_body_of_a_client_that_is_gone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is lost leaves no task behind that reads the rest of a body."""
    terms = guarded(server).terms
    async with wire(server) as client:
        connection = await only_connection(server)
        monkeypatch.setattr(connection, "_lingering_time", 10**6)
        await client.send(get("/nothing", "Content-Length: 100"))
        assert await client.answer() is not None
        assert terms.in_flight == 1
    await until(lambda: terms.in_flight == 0)


async def test_a_client_that_hangs_up_is_no_error_of_ours(log: Log) -> None:
    """The handler, or aiohttp before it, cannot write to a connection that is closed."""
    answer = answer_to(make_mocked_request("GET", "/health"), ClientConnectionResetError("Cannot write"))
    assert answer.status == 400
    assert log.lines == []
