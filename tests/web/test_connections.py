"""What a client may keep a connection waiting for, and how many connections there may be.

Time is an argument where it can be: a connection is looked at as of a moment. Each rule holds on asyncio's own loop and
on uvloop, whose buffers differ.
"""

import asyncio
import errno
import gzip
import os
import resource
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from nextarget.web import accepting, connections, parameters
from nextarget.web.accepting import GuardedServer, most_connections
from nextarget.web.connections import ANSWER_SECONDS, HEADER_SECONDS, KEEPALIVE_SECONDS, GuardedConnection
from nextarget.web.parameters import BODY_SECONDS, MAX_BODY_BYTES
from tests.apps import assert_oauth_error
from tests.running import Server, free_listener, running
from tests.web.conftest import Log
from tests.web.wire import HANG_SECONDS, Wire, exchange, wire

FORM_TYPE = "Content-Type: application/x-www-form-urlencoded"
UNSENT_AT_MOST = 2 * 64 * 1024
"""What is written before a server waits, and an answer of it."""
BOMB = gzip.compress(b"x" * 60_000_000)[:MAX_BODY_BYTES]
FEW = 16

Run = Callable[[Awaitable[None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs what a test does on a loop of either kind."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run  # type: ignore[misc]


@pytest.fixture
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server looks at no connection by itself: the test does, as of the moments that it chooses."""
    monkeypatch.setattr(connections, "LOOK_SECONDS", 10**6)


@pytest.fixture
def _watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.01)


unwatched, watched = pytest.mark.usefixtures("_unwatched"), pytest.mark.usefixtures("_watched")


def get(target: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def post(body: bytes, *fields: str) -> bytes:
    head = ["POST /auth/token HTTP/1.1", "Host: localhost", FORM_TYPE, *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until it is so."""
    async with asyncio.timeout(HANG_SECONDS):
        while not condition():
            await asyncio.sleep(0)


def guarded(server: Server) -> GuardedServer:
    assert isinstance(server.runner.server, GuardedServer)
    return server.runner.server


def connections_of(server: Server) -> list[GuardedConnection]:
    return [each for each in guarded(server).connections if isinstance(each, GuardedConnection)]


async def only_connection(server: Server) -> GuardedConnection:
    """The server's side of the one connection that there is, once it is there."""
    await until(lambda: len(connections_of(server)) == 1)
    return connections_of(server)[0]


async def cut_count(server: Server, reason: str) -> float:
    text = (await server.get("/metrics")).text
    (line,) = (
        line for line in text.splitlines() if line.startswith(f'nextarget_connections_cut_total{{reason="{reason}"}}')
    )
    return float(line.rpartition(" ")[2])


# --- Answers that nobody takes


@contextmanager
def client_with_little_room(server: Server) -> Iterator[socket.socket]:
    """A client whose machine takes 4 KiB and then no more, until it reads."""
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        yield client


@asynccontextmanager
async def reading_nothing(server: Server, target: str) -> AsyncIterator[tuple[socket.socket, GuardedConnection]]:
    """A client that has asked for far more than the system's buffers hold, and the connection, which is stuck."""
    loop = asyncio.get_running_loop()
    with client_with_little_room(server) as client:
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        sending = asyncio.create_task(loop.sock_sendall(client, get(target) * 2000))
        connection = await only_connection(server)
        await until(lambda: connection.writing_paused)
        yield client, connection
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


ANSWERS = pytest.mark.parametrize("target", ["/openapi.json", "/static/swagger-ui-bundle.js"], ids=["whole", "file"])


@unwatched
@ANSWERS
def test_an_answer_that_nobody_takes_ends_its_connection(run: Run, tmp_path: Path, target: str) -> None:
    """After thirty seconds in which its client took nothing of it, it is aborted, and no memory stays."""

    async def test() -> None:
        async with running(tmp_path) as server, reading_nothing(server, target) as (_client, connection):
            connection.look(1000)
            connection.look(1000 + ANSWER_SECONDS - 1)
            assert connections_of(server) == [connection]
            connection.look(1000 + ANSWER_SECONDS)
            await until(lambda: not connections_of(server))
            assert await cut_count(server, "answer") >= 1

    run(test())


@unwatched
@ANSWERS
def test_a_client_that_reads_slowly_is_not_cut(run: Run, tmp_path: Path, target: str) -> None:
    """Whatever it takes begins the time anew, also while what is left in our own buffer stays the same."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with running(tmp_path) as server, reading_nothing(server, target) as (client, connection):
            now = 1000.0
            for _ in range(5):
                connection.look(now)
                due, taken = connection._what_is_due(), 0
                while connection._what_is_due() == due:
                    taken += len(await loop.sock_recv(client, 512))
                    await asyncio.sleep(0)
                assert taken <= 32 * 1024, "a kilobyte in a second, for thirty seconds"
                now += ANSWER_SECONDS
            connection.look(now)
            assert connections_of(server) == [connection]

    run(test())


@unwatched
@ANSWERS
def test_requests_behind_an_unread_answer_fill_no_memory(run: Run, tmp_path: Path, target: str) -> None:
    """However many a client sends at once: neither their answers nor they themselves are kept."""

    async def test() -> None:
        async with running(tmp_path) as server, reading_nothing(server, target) as (_client, connection):
            for _ in range(1000):
                await asyncio.sleep(0)
                assert connection._line.get_write_buffer_size() <= UNSENT_AT_MOST
                assert len(connection._messages) <= 32

    run(test())


@watched
def test_the_server_itself_looks(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to ask it to."""
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.2)

    async def test() -> None:
        async with running(tmp_path) as server, reading_nothing(server, "/openapi.json"):
            await until(lambda: not connections_of(server))

    run(test())


@unwatched
def test_what_a_closed_connection_has_left_to_send_is_given_up_too(run: Run, tmp_path: Path) -> None:
    """The system keeps it then, out of our sight: it has the same thirty seconds."""

    async def test() -> None:
        async with running(tmp_path) as server, wire(server):
            connection = await only_connection(server)
            line = connection._line.get_extra_info("socket")
            assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == ANSWER_SECONDS * 1000

    run(test())


# --- Headers, bodies and idleness


@unwatched
@pytest.mark.parametrize("before", [0, 1, 3], ids=["first", "second", "fourth"])
def test_every_header_has_ten_seconds_from_its_first_byte(run: Run, tmp_path: Path, before: int) -> None:
    """Not only a connection's first one; a byte now and then does not prolong it."""

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            connection = await only_connection(server)
            for _ in range(before):
                await client.send(get("/health"))
                assert (await client.answer()) is not None
            connection.look(connection.waits_since)
            began = connection.waits_since + (KEEPALIVE_SECONDS - 1 if before else 0)
            for seconds, octet in enumerate(b"GET /heal"):
                await client.send(bytes([octet]))
                await until(lambda sent=seconds: connection.header_bytes > sent)
                connection.look(began + seconds)
                assert connections_of(server) == [connection]
            connection.look(began + HEADER_SECONDS)
            assert await client.rest() == b""
            assert await cut_count(server, "header") >= 1

    run(test())


@unwatched
def test_a_header_that_begins_in_one_piece_with_the_request_before_has_ten_seconds(run: Run, tmp_path: Path) -> None:
    """What follows a request without a body is the next one's header."""

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            connection = await only_connection(server)
            await client.send(get("/health") + b"GET /heal")
            assert (await client.answer()) is not None
            await until(lambda: not connection.busy)
            connection.look(1000)
            connection.look(1000 + HEADER_SECONDS)
            assert await client.rest() == b""

    run(test())


@unwatched
def test_a_connection_may_be_idle_for_longer_than_a_header_may_take(run: Run, tmp_path: Path) -> None:
    """Between an answer and the next request; empty lines are no header (RFC 9112, 2.2), and prolong nothing."""

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            connection = await only_connection(server)
            await client.send(get("/health"))
            assert (await client.answer()) is not None
            connection.look(1000)
            await client.send(b"\r\n" * 100)
            connection.look(1000 + KEEPALIVE_SECONDS - 1)
            await client.send(get("/health"))
            assert (await client.answer()) is not None
            connection.look(2000)
            await client.send(b"\r\n" * 100)
            connection.look(2000 + KEEPALIVE_SECONDS)
            assert await client.rest() == b""

    run(test())


@unwatched
def test_a_header_that_comes_in_pieces_is_no_longer_than_64_kib(run: Run, tmp_path: Path) -> None:
    """aiohttp would take 64 fields of 8 KiB each."""

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            connection = await only_connection(server)
            await client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n")
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
    """Whatever it does not end with: the answer comes at once, and the connection's end in time."""
    field, body = BODIES[framing]
    monkeypatch.setattr("nextarget.web.server.BODY_SECONDS", 10**6)  # aiohttp's own timer, which would cut it as well

    async def test() -> None:
        async with running(tmp_path) as server, wire(server) as client:
            connection = await only_connection(server)
            await client.send(get(target, field) + body)
            answer = await client.answer()
            while answer is not None and answer.status == 100:
                answer = await client.answer()
            assert answer is not None
            await until(lambda: not connection.busy)
            connection.look(1000)
            connection.look(1000 + BODY_SECONDS - 1)
            assert connections_of(server) == [connection]
            connection.look(1000 + BODY_SECONDS)
            assert await client.rest() == b""

    run(test())


@watched
def test_a_form_that_was_given_up_holds_its_connection_no_longer(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its time is over and 408 is answered, aiohttp would wait for the rest of it for ten seconds more."""
    monkeypatch.setattr(parameters, "BODY_SECONDS", 0.2)
    monkeypatch.setattr("nextarget.web.server.BODY_SECONDS", 10**6)

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
    """A byte in a chunk is a form like any other, and counted by its bytes."""
    head = f"POST /auth/revoke HTTP/1.1\r\nHost: x\r\n{FORM_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await exchange(server, (head + "6\r\ntoken=\r\n" + framing * 2000 + "0\r\n\r\n").encode())
    assert answer is not None
    assert answer.status == 200


async def test_a_trailer_is_no_header_of_the_next_request(server: Server) -> None:
    """A proxy that passes trailers on, and shares its connections, would have one client speak for another."""
    token = (await server.sign_in()).json["access_token"]
    chunked = get("/health", "Transfer-Encoding: chunked") + f"0\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    async with wire(server) as client:
        await client.send(chunked + get("/users/me"))
        answer = await client.answer()
        assert answer is not None
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""


# --- Compressed bodies


@pytest.fixture
def _no_inflating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails as soon as anything begins to decompress what a client sends."""

    def inflate(*_: object, **__: object) -> None:
        pytest.fail("a request body is decompressed")

    monkeypatch.setattr("aiohttp._http_parser._DeflateBuffer", inflate)
    monkeypatch.setattr(zlib, "decompressobj", inflate)


@pytest.mark.usefixtures("_no_inflating")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x"])
@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke"])
async def test_a_compressed_form_is_refused_as_it_is(server: Server, path: str, coding: str) -> None:
    """RFC 9110, 15.5.16: 415, and which coding would do. Nothing of it is decompressed."""
    headers = {"Content-Encoding": coding, "Content-Type": "application/x-www-form-urlencoded"}
    answer = await server.ask("POST", path, data=BOMB, headers=headers)
    assert_oauth_error(answer, "invalid_request", 415)
    assert answer.headers["Accept-Encoding"] == "identity"


@pytest.mark.usefixtures("_no_inflating")
@pytest.mark.parametrize(
    ("method", "path", "content_type", "status"),
    [
        ("POST", "/auth/token", "application/json", 415),
        ("DELETE", "/users/me", "application/x-www-form-urlencoded", 401),
        ("POST", "/nothing", "application/x-www-form-urlencoded", 404),
        ("POST", "/health", "application/x-www-form-urlencoded", 405),
        ("GET", "/health", "application/octet-stream", 200),
    ],
)
async def test_a_compressed_body_that_nobody_reads_is_not_decompressed(
    server: Server, method: str, path: str, content_type: str, status: int
) -> None:
    """What is refused, or has no body to read, costs nothing."""
    headers = {"Content-Encoding": "gzip", "Content-Type": content_type}
    assert (await server.ask(method, path, data=BOMB, headers=headers)).status == status


async def test_a_form_may_say_that_it_is_not_compressed(server: Server) -> None:
    """`identity` is what every form is (RFC 9110, 8.4.1)."""
    for coding in ("identity", "", "Identity, "):
        answer = await exchange(server, post(b"grant_type=x", f"Content-Encoding: {coding}"))
        assert answer is not None
        assert answer.status == 400


# --- How many there may be


@asynccontextmanager
async def clients(server: Server, count: int) -> AsyncIterator[list[Wire]]:
    """So many connections, opened one after the other."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(wire(server)) for _ in range(count)]


async def a_look(server: Server) -> None:
    """Wait until the server has looked at its connections, now idle: since when one is so is known no better."""
    await until(lambda: not any(connection.busy for connection in connections_of(server)))
    coming = guarded(server)._next_look
    await until(lambda: guarded(server)._next_look is not coming)


async def hold(client: Wire) -> None:
    """Keep a connection busy: most of a form is still to come, which its handler has been told to expect."""
    await client.send(post(b"grant_type=x", "Expect: 100-continue")[:-11])
    answer = await client.answer()
    assert answer is not None
    assert answer.status == 100


@watched
@pytest.mark.parametrize("asked", [True, False], ids=["kept open", "never asked"])
def test_a_newcomer_takes_the_place_of_who_has_been_idle_for_longest(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log, asked: bool
) -> None:
    """Who opens connections, and says nothing on them, keeps nobody out. It is told in one line."""
    monkeypatch.setattr(accepting, "SPARE_SECONDS", 0)

    async def test() -> None:
        async with running(tmp_path, MAX_CONNECTIONS=str(FEW)) as server, clients(server, FEW) as idle:
            for client in idle if asked else ():
                await client.send(get("/health"))
                assert (await client.answer()) is not None
                await a_look(server)
            await until(lambda: len(connections_of(server)) == FEW)
            async with clients(server, 3) as newcomers:
                for newcomer in newcomers:
                    await newcomer.send(get("/health"))
                    answer = await newcomer.answer()
                    assert answer is not None
                    assert answer.status == 200
                assert len(connections_of(server)) <= FEW
                assert await idle[0].rest() == b""

    run(test())
    (told,) = log.events("connections_full")
    assert told["level"] == "warning"
    assert told["max_connections"] == FEW


@watched
def test_whoever_is_being_served_keeps_the_place_and_newcomers_wait(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newcomer is neither refused nor accepted until there is room, and then served."""
    monkeypatch.setattr(accepting, "SPARE_SECONDS", 0)

    async def test() -> None:
        async with running(tmp_path, MAX_CONNECTIONS=str(FEW)) as server, clients(server, FEW) as busy:
            for client in busy:
                await hold(client)
            async with wire(server) as newcomer:
                await newcomer.send(get("/health"))
                for _ in range(1000):
                    await asyncio.sleep(0)
                assert len(connections_of(server)) == FEW
                await busy[3].send(b"rant_type=x")
                finished = await busy[3].answer()
                assert finished is not None
                assert finished.status == 400
                answer = await newcomer.answer()
                assert answer is not None
                assert answer.status == 200

    run(test())


@watched
def test_who_finds_one_process_full_is_served_by_another(run: Run, tmp_path: Path) -> None:
    """That is why a full one does not refuse: they listen on one socket, and the other may have room."""

    async def test() -> None:
        shared = free_listener()
        limit = {"MAX_CONNECTIONS": str(FEW)}
        async with (
            running(tmp_path, listener=shared.dup(), **limit) as first,
            running(tmp_path, listener=shared, **limit) as second,
            clients(first, FEW + 5) as busy,
        ):
            for client in busy:
                await hold(client)
            served = [len(connections_of(each)) for each in (first, second)]
            assert max(served) <= FEW
            assert sum(served) == FEW + 5

    run(test())


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process may open no file any more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with closing(os.fdopen(os.open(os.devnull, os.O_RDONLY))) as lowest_free:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno() + 1, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_lack_of_files_is_told_once_and_waited_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    """Neither a busy loop nor a log without end: it is tried again now and then, and whoever waits is served."""
    monkeypatch.setattr(accepting, "_RETRY_SECONDS", 0.05)
    failures = []
    monkeypatch.setattr("nextarget.telemetry.metrics.count_accept_failure", lambda: failures.append(errno.EMFILE))

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with running(tmp_path) as server:
            with client_with_little_room(server) as client:
                with no_more_files():
                    turns = 0
                    await loop.sock_connect(client, ("127.0.0.1", server.port))
                    await loop.sock_sendall(client, get("/health"))
                    while len(failures) < 3:
                        turns += 1
                        await asyncio.sleep(0)
                    assert turns > len(failures), "between two tries the loop does other things"
                assert (await loop.sock_recv(client, 15)).startswith(b"HTTP/1.1 200")

    run(test())
    (told,) = log.events("accept_failed")
    assert (told["level"], told["reason"]) == ("error", "EMFILE")


@pytest.mark.parametrize(
    ("wanted", "files", "connections"),
    [
        (None, 65_536, 10_000),
        (None, 1024, 768),
        (None, 256, 128),
        (None, resource.RLIM_INFINITY, 10_000),
        (500, 1024, 500),
        (20_000, 65_536, 20_000),
        (20_000, resource.RLIM_INFINITY, 20_000),
        (20_000, 1024, 768),
    ],
)
def test_there_is_always_room_for_other_files(
    monkeypatch: pytest.MonkeyPatch, log: Log, wanted: int | None, files: int, connections: int
) -> None:
    """A database or a provider that cannot be connected to is worse than a client that waits. A setting that leaves no
    room for them is lowered, and a line says what to do."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections(wanted) == connections
    lowered: list[dict[str, Any]] = log.events("max_connections_lowered")
    assert len(lowered) == (wanted is not None and wanted > connections)
    assert all((line["wanted"], line["connections"]) == (wanted, connections) for line in lowered)


async def test_metrics_tell_how_many_connections_there_are(tmp_path: Path) -> None:
    """Beside how many there may be."""
    async with running(tmp_path, MAX_CONNECTIONS="321") as server:
        text = (await server.get("/metrics")).text
        before = int(text.partition("\nnextarget_connections_open ")[2].split()[0].partition(".")[0])
        assert "\nnextarget_connections_max 321.0\n" in text
        async with clients(server, 5):
            await until(lambda: len(connections_of(server)) == 6)
            text = (await server.get("/metrics")).text
            assert f"\nnextarget_connections_open {before + 5}.0\n" in text
