"""The reference: one aiohttp route on uvloop that answers the JSON of `/users/me`, without a log.

`python -m tests.benchmarks.bare PORT PROCESSES`.
"""

import socket
import sys
from collections.abc import Callable

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


async def me(_request: web.Request) -> web.Response:
    return web.json_response(PROFILE)


def main(serve: Callable[[socket.socket], None]) -> None:
    port, processes = map(int, sys.argv[1:])
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
    uvloop.install()
    web.run_app(app, sock=listener, access_log=None, print=None)


if __name__ == "__main__":
    main(serve)
