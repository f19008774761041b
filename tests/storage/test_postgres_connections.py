"""Connections to PostgreSQL that are lost or closed in the middle of an exchange, with both event loops."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, suppress
from select import select
from typing import Any

import psycopg
import pytest
import uvloop

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Connection
from nextarget.storage.engines.postgres import pool
from nextarget.storage.rows import users
from nextarget.storage.upkeep.schema import migrate
from tests.contract.rows import admit, identity
from tests.postgres import Cluster

Run = Callable[[Coroutine[Any, Any, None]], None]
PATIENCE_SECONDS = 60


@pytest.fixture(params=[uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine with one of the two event loops."""
    chosen: Run = request.param
    return chosen


class Wire:
    """Passes bytes between one client at a time and a server. Told so, it resets the connection inside an answer."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.left: int | None = None
        """How many bytes of the server's next answer arrive before the reset."""
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                with client, socket.create_connection(self._server) as server, suppress(OSError):
                    self._pass(client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            for source in select([client, server], [], [])[0]:
                data = source.recv(65536)
                if source is server and self.left is not None:
                    client.sendall(data[: self.left])
                    self.left = None
                    # Closing with SO_LINGER of zero seconds sends RST (the Linux manual, socket(7)).
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                if not data:
                    return
                (client if source is server else server).sendall(data)


@pytest.fixture
def wire(postgres: Cluster) -> Iterator[Wire]:
    with closing(Wire(postgres.port)) as wire:
        yield wire


def by_statement(db: Connection) -> str:
    ((text,),) = db.connection().execute("SELECT repeat('x', 3000)", ()).fetchall()  # type: ignore[no-untyped-call]
    return str(text)


def by_query(db: Connection) -> str:
    return str(db.execute_sql("SELECT repeat('x', 3000)").fetchone()[0])


@pytest.mark.parametrize("ask", [by_statement, by_query])
def test_a_reset_inside_an_answer_is_noticed_at_once(
    run: Run, wire: Wire, postgres: Cluster, postgres_url: str, ask: Callable[[Connection], str]
) -> None:
    """A read whose connection is reset after a part of the answer is done again. It is not cut for lack of an
    answer."""
    url = postgres_url.replace(f":{postgres.port}/", f":{wire.port}/")

    async def main() -> None:
        database = database_at(url, pool_size=1)
        database.open()
        for part in (7, 50, 2000) * 3:
            assert await database.read(ask) == "x" * 3000
            wire.left = part
            assert await database.read(ask) == "x" * 3000
        database.close()

    run(main())


@pytest.mark.slow
def test_closing_answers_the_caller_of_a_transaction_that_cannot_begin(
    run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the server is frozen, a transaction waits for the answer to its BEGIN. Closing cuts it, without opening
    another connection, and its caller gets an error."""
    monkeypatch.setattr(pool, "ANSWER_SECONDS", 0.2)

    async def main() -> None:
        database = database_at(url, pool_size=1)
        database.open()
        await database.read(by_statement)
        cluster.freeze()
        begun: list[bool] = []
        writing = asyncio.create_task(database.write(lambda _: begun.append(True)))
        await asyncio.sleep(0)
        database.close()
        cluster.thaw()
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(DatabaseUnavailable):
                await writing
        assert not begun

    url = cluster.create_database()
    run(main())


async def test_text_is_utf8_whatever_the_url_says(postgres_url: str) -> None:
    """An encoding of the client in DATABASE_URL is not used: statements send their text as UTF-8."""
    migrate(database_at(postgres_url))
    with closing(database_at(f"{postgres_url}?client_encoding=LATIN1")) as database:
        database.open()
        user = await database.write(admit, identity("1", "é@x.example"))
        assert await database.read(users.get, user.id) == user
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute('SELECT "email" FROM "user"').fetchone() == ("é@x.example",)
