"""What a refresh costs without any code of ours: three routes of the bare server, with aiohttp on uvloop.

`form` reads the same form, and answers as much JSON. `repeated` also does what a repeated refresh cannot do without: it
checks the token's MAC, reads the session and its user from SQLite, and signs two tokens. It has no limits, no log, no
metrics, and no care for headers or errors. `synced` reads the form, and has two pages of a file written and synced by a
thread, as every commit of SQLite's is.
"""

import asyncio
import hmac
import os
import sqlite3
import tempfile
from base64 import urlsafe_b64encode
from functools import cache
from itertools import cycle

import orjson
from aiohttp import web

from tests.benchmarks.bare import PROFILE

IDS = [f"{number:08x}-0000-7000-8000-000000000000" for number in range(400)]
"""The sessions that there are, each with a user of its own."""
PAGE = b"p" * (4096 + 24)
"""A page in the write-ahead log (sqlite.org/fileformat2.html, 4)."""
PAGES = 1000
"""How many pages the file has. They are written again and again, as the log is after a checkpoint."""
_TOKENS = {"access_token": "a" * 430, "token_type": "Bearer", "expires_in": 900, "refresh_token": "", "user": PROFILE}
_CLAIMS = {"iss": "https://id.example", "aud": "https://id.example", "client_id": "nextarget-app", "iat": 1, "exp": 901}
_HEADER = b'{"alg":"HS256","typ":"at+jwt"}'
_KEY = b"benchmark-7f3a9c52e8b14d60a1-ben"
_READ = "SELECT s.id, s.user_id, s.current, u.email FROM session AS s JOIN user AS u ON u.id = s.user_id WHERE s.id = ?"
_places = cycle(range(0, PAGES, 2))


def add(app: web.Application) -> None:
    for route in (form, repeated, synced):
        app.router.add_post(f"/{route.__name__}", route)


async def form(request: web.Request) -> web.Response:
    token = (await request.post())["refresh_token"]
    return web.json_response(_TOKENS | {"refresh_token": token})


async def repeated(request: web.Request) -> web.Response:
    session_id, generation, mac = str((await request.post())["refresh_token"]).split(".")
    if not hmac.compare_digest(_signed(f"{session_id}.{generation}"), mac):
        raise web.HTTPBadRequest
    ((session, user, current, _),) = _sessions().execute(_READ, (session_id,)).fetchall()
    claims = orjson.dumps(_CLAIMS | {"sub": user, "sid": session, "jti": session})
    body = f"{_encoded(_HEADER)}.{_encoded(claims)}"
    tokens = {"access_token": f"{body}.{_signed(body)}", "refresh_token": token_of(session, current)}
    return web.json_response(_TOKENS | tokens)


async def synced(request: web.Request) -> web.Response:
    await asyncio.get_running_loop().run_in_executor(None, _write)
    return await form(request)


def token_of(session_id: str, generation: int) -> str:
    """A refresh token in the form of ours."""
    body = f"{session_id}.{generation}"
    return f"{body}.{_signed(body)}"


def _signed(text: str) -> str:
    return _encoded(hmac.digest(_KEY, text.encode(), "sha256"))


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def _sessions() -> sqlite3.Connection:
    connection = sqlite3.connect("", isolation_level=None)
    connection.execute("CREATE TABLE user (id TEXT PRIMARY KEY, email TEXT) WITHOUT ROWID")
    connection.execute("CREATE TABLE session (id TEXT PRIMARY KEY, user_id TEXT, current INTEGER) WITHOUT ROWID")
    connection.executemany("INSERT INTO user VALUES (?, 'ada@x.example')", [(each,) for each in IDS])
    connection.executemany("INSERT INTO session VALUES (?, ?, 2)", [(each, each) for each in IDS])
    return connection


def _write() -> None:
    file, place = _opened(), next(_places) * len(PAGE)
    os.pwrite(file, PAGE, place)
    os.pwrite(file, PAGE, place + len(PAGE))
    os.fdatasync(file)


@cache
def _opened() -> int:
    """A file that is as long as it will be, so that a sync writes nothing but pages."""
    file, path = tempfile.mkstemp()
    os.unlink(path)  # noqa: PTH108 - the name of an open file
    os.pwrite(file, PAGE * PAGES, 0)
    os.fsync(file)
    return file
