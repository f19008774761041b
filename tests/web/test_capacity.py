"""The limit on a process's connections, and how further connections are treated."""

import asyncio
import errno
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from nextarget.web.server import accepting
from nextarget.web.server.accepting import most_connections
from tests.running import Server, free_listener, running
from tests.web.conftest import Log
from tests.web.guarding import Run, client_with_little_room, connections_of, get, guarded, post, until, watched
from tests.web.wire import Wire, wire

FEW = 16


@asynccontextmanager
async def clients(server: Server, count: int) -> AsyncIterator[list[Wire]]:
    """This many connections, opened one after the other."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(wire(server)) for _ in range(count)]


async def a_look(server: Server) -> None:
    """Wait until the server has checked its connections, which are idle now. The check sets the time since when they
    are idle."""
    await until(lambda: not any(connection.busy for connection in connections_of(server)))
    coming = guarded(server)._next_check
    await until(lambda: guarded(server)._next_check is not coming)


async def hold(client: Wire) -> None:
    """Keep a connection busy: its handler waits for the rest of a form."""
    await client.send(post(b"grant_type=x", "Expect: 100-continue")[:-11])
    answer = await client.answer()
    assert answer is not None
    assert answer.status == 100


@watched
@pytest.mark.parametrize("asked", [True, False], ids=["kept open", "never asked"])
def test_a_newcomer_takes_the_place_of_who_has_been_idle_for_longest(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log, asked: bool
) -> None:
    """A new connection replaces the one that was idle for longest, so that silent connections block nobody. One log
    line reports it."""
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
    """Connections with a request keep their place. A new connection waits until there is room, and is then served."""
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


@pytest.mark.slow
@watched
def test_who_finds_one_process_full_is_served_by_another(run: Run, tmp_path: Path) -> None:
    """A full process does not refuse connections, because another process on the same socket may have room."""

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
    """This process may open no more files."""
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
    """Accepting is retried now and then, without a busy loop and with one log line. Afterwards the waiting client is
    served."""
    monkeypatch.setattr(accepting, "_RETRY_SECONDS", 0.05)
    failures = []
    monkeypatch.setattr("nextarget.telemetry.metrics.count_accept_failure", lambda: failures.append(errno.EMFILE))

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with running(tmp_path) as server:
            with client_with_little_room() as client:
                with no_more_files():
                    turns = 0
                    await loop.sock_connect(client, ("127.0.0.1", server.port))
                    await loop.sock_sendall(client, get("/health"))
                    while len(failures) < 3:
                        turns += 1
                        await asyncio.sleep(0)
                    assert turns > len(failures), "the loop must do other work between two tries"
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
    """A process keeps files free for its database and for providers. A setting that leaves too few is lowered, and a
    log line says what to do."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections(wanted) == connections
    lowered: list[dict[str, Any]] = log.events("max_connections_lowered")
    assert len(lowered) == (wanted is not None and wanted > connections)
    assert all((line["wanted"], line["connections"]) == (wanted, connections) for line in lowered)


async def test_metrics_tell_how_many_connections_there_are(tmp_path: Path) -> None:
    """The metrics contain the number of open connections and their limit."""
    async with running(tmp_path, MAX_CONNECTIONS="321") as server:
        text = (await server.get("/metrics")).text
        before = int(text.partition("\nnextarget_connections_open ")[2].split()[0].partition(".")[0])
        assert "\nnextarget_connections_max 321.0\n" in text
        async with clients(server, 5):
            await until(lambda: len(connections_of(server)) == 6)
            text = (await server.get("/metrics")).text
            assert f"\nnextarget_connections_open {before + 5}.0\n" in text
