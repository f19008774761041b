"""The reference: one aiohttp route on uvloop that answers the JSON of `/users/me`, without a log.

Two more routes show what a refresh costs without any code of ours: one reads the same form and answers as much, the
other one also has two pages of a file written and synced by a thread, as every commit of SQLite's is.

`python -m tests.benchmarks.bare PORT PROCESSES`
"""

import asyncio
import os
import socket
import sys
import tempfile
from functools import cache
from itertools import cycle

import uvloop
from aiohttp import web

PROFILE = {
    "id": "3f0c8a52-6f1e-4d0e-9b8a-2d6f6b0c9e11",
    "email": "ada@lovelace.example",
    "email_verified": True,
    "provider": "google",
    "is_active": True,
    "created_at": "2026-01-31T12:00:00.000Z",
}
TOKENS = {
    "access_token": "a" * 430,
    "token_type": "Bearer",
    "expires_in": 900,
    "refresh_token": "r" * 84,
    "user": PROFILE,
}
PAGE = b"p" * (4096 + 24)
"""A page in the write-ahead log (sqlite.org/fileformat2.html, 4)."""
PAGES = 1000
"""How many pages the file has. They are written again and again, as the log is after a checkpoint."""


async def me(_request: web.Request) -> web.Response:
    return web.json_response(PROFILE)


async def form(request: web.Request) -> web.Response:
    fields = await request.post()
    return web.json_response(TOKENS | {"refresh_token": fields["refresh_token"]})


async def synced(request: web.Request) -> web.Response:
    await asyncio.get_running_loop().run_in_executor(None, write)
    return await form(request)


def write() -> None:
    file, place = opened(), next(_places) * len(PAGE)
    os.pwrite(file, PAGE, place)
    os.pwrite(file, PAGE, place + len(PAGE))
    os.fdatasync(file)


_places = cycle(range(0, PAGES, 2))


@cache
def opened() -> int:
    """A file that is as long as it will be, so that a sync writes nothing but pages."""
    file, path = tempfile.mkstemp()
    os.unlink(path)  # noqa: PTH108 - the name of an open file
    os.pwrite(file, PAGE * PAGES, 0)
    os.fsync(file)
    return file


def main() -> None:
    port, processes = int(sys.argv[1]), int(sys.argv[2])
    if processes > 1:
        from multiprocessing import get_context  # not part of the start of one process
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        for _ in range(processes - 1):
            get_context("fork").Process(target=serve, args=(listener,), daemon=True).start()
        serve(listener)


def serve(listener: socket.socket) -> None:
    """Serve until a signal ends the process. The first process ends the other ones."""
    app = web.Application()
    app.router.add_get("/users/me", me, allow_head=False)
    app.router.add_get("/health", me)
    app.router.add_post("/form", form)
    app.router.add_post("/synced", synced)
    uvloop.install()
    web.run_app(app, sock=listener, access_log=None, print=None)


if __name__ == "__main__":
    main()
