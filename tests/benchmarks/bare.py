"""The yardstick: one aiohttp route on uvloop that answers the JSON of `/users/me`, with no log and nothing else.

`python -m tests.benchmarks.bare PORT`
"""

import sys

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


def main() -> None:
    app = web.Application()
    app.router.add_get("/users/me", me, allow_head=False)
    app.router.add_get("/health", me)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
