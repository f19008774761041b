"""What the database of one profile, and of one refresh, costs a process that asks for one after the other.

Run as a script, with any version of `nextarget` on the path: `python data_layer.py DATABASE_URL COUNT`. It prints the
CPU time of this process for one call, in microseconds, as JSON. The time that the tokens take is measured too, and
subtracted. `libpq` is one statement by primary key that PostgreSQL's client library executes on the event loop, with no
code of ours.
"""

import asyncio
import inspect
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from psycopg.adapt import Transformer

from nextarget.model import Provider
from nextarget.runtime import Runtime
from nextarget.services import accounts
from nextarget.settings import Value, read_values

VALUES = {
    "JWT_SECRET_KEY": "benchmark-7f3a9c52e8b14d60a1-benchmark-44c0b9d2",
    "GOOGLE_CLIENT_ID": "benchmark.apps.googleusercontent.com",
    "GOOGLE_CLIENT_SECRET": "GOCSPX-benchmark",
    "GOOGLE_REDIRECT_URI": "http://127.0.0.1:8000/auth/google/callback",
}


async def main(database_url: str, count: int) -> None:
    values = {name: Value(text, "benchmark") for name, text in (VALUES | {"DATABASE_URL": database_url}).items()}
    runtime = Runtime(read_values(Path.cwd(), fixed=values, environ={}).settings())
    async with runtime.online():
        for _ in range(2):  # the first time warms everything up
            costs = await _costs(runtime, *_signed_in(runtime, count))
            costs["libpq"] = await _libpq(database_url, count)
    print(json.dumps(costs))


def _signed_in(runtime: Runtime, count: int) -> tuple[Any, list[Any]]:
    """A user with new sessions. A new session can be refreshed at once."""
    now, making = runtime.clock(), runtime.sessions
    client = {"client_id": "nextarget-app"} if "client_id" in inspect.signature(making.new).parameters else {}

    def write(db: Any) -> tuple[Any, list[Any]]:
        user = accounts.create_test_user(db, "ada@x.example", Provider("google"), now=now)
        sessions = [making.new(user.id, label=None, now=now, **client) for _ in range(count)]
        for session in sessions:
            _rows().add(db, session)
        return user, sessions

    return runtime.database.write_now(write)


def _rows() -> Any:
    try:
        return import_module("nextarget.storage.rows.sessions")
    except ModuleNotFoundError:
        return import_module("nextarget.storage.sessions")  # in the first version


async def _costs(runtime: Runtime, user: Any, sessions: list[Any]) -> dict[str, float]:
    now, service = runtime.clock(), runtime.sessions
    pairs = [service.pair(user, session, now) for session in sessions]
    access, refresh = [pair.access.token for pair in pairs], [pair.refresh_token for pair in pairs]

    async def verify(token: str) -> None:
        runtime.access_tokens.verify(token, now)

    async def refreshed(token: str) -> None:
        await service.refresh(service.presented(token))

    async def sign(pair: Any) -> None:
        service.presented(pair.refresh_token)
        service.pair(user, pair.session, now)

    await _microseconds(verify, access)  # a verified signature is remembered
    return {
        "profile": await _microseconds(service.authenticate, access) - await _microseconds(verify, access),
        "refresh": await _microseconds(refreshed, refresh) - await _microseconds(sign, pairs),
    }


async def _libpq(database_url: str, count: int) -> float:
    connection = psycopg.connect(database_url, autocommit=True)
    ((user_id,),) = connection.execute('SELECT "id" FROM "user" LIMIT 1').fetchall()
    libpq, loop, transformer = connection.pgconn, asyncio.get_running_loop(), Transformer(connection)
    answers: list[asyncio.Future[Any]] = []

    def read() -> None:
        libpq.consume_input()
        if not libpq.is_busy():
            result = libpq.get_result()
            libpq.get_result()
            transformer.set_pgresult(result)
            answers.pop().set_result(transformer.load_rows(0, result.ntuples, tuple))

    async def ask(value: bytes) -> None:
        answers.append(loop.create_future())
        libpq.send_query_params(b'SELECT * FROM "user" WHERE "id" = $1', [value])
        libpq.flush()
        ((found, *_),) = await answers[0]
        if found != user_id:
            raise RuntimeError("PostgreSQL answered something else.")

    loop.add_reader(connection.fileno(), read)
    cost = await _microseconds(ask, [user_id.encode()] * count)
    loop.remove_reader(connection.fileno())
    connection.close()
    return cost


async def _microseconds(call: Callable[[Any], Awaitable[object]], arguments: Iterable[Any]) -> float:
    arguments = list(arguments)
    before = time.process_time()
    for argument in arguments:
        await call(argument)
    await asyncio.sleep(0)
    return (time.process_time() - before) / len(arguments) * 1e6


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
