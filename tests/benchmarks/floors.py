"""What a refresh cannot do without, and no code of ours: aiohttp's low-level server on uvloop, without an application.

`form` reads the same form, and answers as much JSON. `repeated` also does what a repeated refresh has to do: it checks
the token's MAC, reads the session and its user from SQLite, and signs two tokens. `rotated` is a refresh: before it
signs, a thread writes the session, and SQLite waits for the disk. They have no limits, no log, no metrics, and no care
for headers or errors.

`python -m tests.benchmarks.floors PORT PROCESSES`.
"""

import asyncio
import hmac
import signal
import socket
import sqlite3
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache

import orjson
import uvloop
from aiohttp import web

from tests.benchmarks import bare

IDS = [f"{number:08x}-0000-7000-8000-000000000000" for number in range(400)]
"""The sessions that there are, each with a user of its own."""
_TOKENS = {
    "access_token": "a" * 430,
    "token_type": "Bearer",
    "expires_in": 900,
    "refresh_token": "",
    "user": bare.PROFILE,
}
_CLAIMS = {"iss": "https://id.example", "aud": "https://id.example", "client_id": "nextarget-app", "iat": 1, "exp": 901}
_HEADER = b'{"alg":"HS256","typ":"at+jwt"}'
_KEYED = hmac.new(b"benchmark-7f3a9c52e8b14d60a1-ben", digestmod="sha256")
_READ = "SELECT s.id, s.user_id, s.current, u.email FROM session AS s JOIN user AS u ON u.id = s.user_id WHERE s.id = ?"
_WRITE = "UPDATE session SET current = current + 1 WHERE id = ?"


async def health(_request: web.BaseRequest) -> web.Response:
    return web.Response()


async def form(request: web.BaseRequest) -> web.Response:
    return _answer({"refresh_token": (await request.post())["refresh_token"]})


async def repeated(request: web.BaseRequest) -> web.Response:
    return _answer(_tokens(_session_of(await request.post())))


async def rotated(request: web.BaseRequest) -> web.Response:
    session = _session_of(await request.post())
    await asyncio.get_running_loop().run_in_executor(None, _rotate, session[0])
    return _answer(_tokens(session))


ROUTES = {f"/{route.__name__}": route for route in (health, form, repeated, rotated)}


def token_of(session_id: str, generation: int) -> str:
    """A refresh token in the form of ours."""
    body = f"{session_id}.{generation}"
    return f"{body}.{_signed(body)}"


def _session_of(fields: Mapping[str, object]) -> tuple[str, str, int]:
    session_id, generation, mac = str(fields["refresh_token"]).split(".")
    if not hmac.compare_digest(_signed(f"{session_id}.{generation}"), mac):
        raise web.HTTPBadRequest
    ((session, user, current, _),) = _connections()[0].execute(_READ, (session_id,)).fetchall()
    return session, user, current


def _tokens(session: tuple[str, str, int]) -> dict[str, object]:
    session_id, user_id, current = session
    claims = orjson.dumps(_CLAIMS | {"sub": user_id, "sid": session_id, "jti": session_id})
    body = f"{_encoded(_HEADER)}.{_encoded(claims)}"
    return {"access_token": f"{body}.{_signed(body)}", "refresh_token": token_of(session_id, current)}


def _answer(tokens: dict[str, object]) -> web.Response:
    return web.Response(body=orjson.dumps(_TOKENS | tokens), content_type="application/json")


def _signed(text: str) -> str:
    mac = _KEYED.copy()
    mac.update(text.encode())
    return _encoded(mac.digest())


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _rotate(session_id: str) -> None:
    _connections()[1].execute(_WRITE, (session_id,))


@cache
def _connections() -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """The connections of the event loop and of the thread, to a new database. Its files have no names any more."""
    with tempfile.TemporaryDirectory() as directory:
        reading, writing = (_opened(f"{directory}/sessions.db") for _ in range(2))
        writing.execute("CREATE TABLE user (id TEXT PRIMARY KEY, email TEXT) WITHOUT ROWID")
        writing.execute("CREATE TABLE session (id TEXT PRIMARY KEY, user_id TEXT, current INTEGER) WITHOUT ROWID")
        writing.execute("BEGIN")
        writing.executemany("INSERT INTO user VALUES (?, 'ada@x.example')", [(each,) for each in IDS])
        writing.executemany("INSERT INTO session VALUES (?, ?, 2)", [(each, each) for each in IDS])
        writing.execute("COMMIT")
        reading.execute(_READ, (IDS[0],)).fetchall()
        return reading, writing


def _opened(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def serve(listener: socket.socket) -> None:
    """Serve until a signal ends the process."""
    uvloop.run(_serve(listener))


async def _serve(listener: socket.socket) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    async with await loop.create_server(web.Server(_handle, access_log=None), sock=listener):
        await stopped.wait()


async def _handle(request: web.BaseRequest) -> web.Response:
    return await ROUTES[request.path](request)


if __name__ == "__main__":
    bare.main(serve)
