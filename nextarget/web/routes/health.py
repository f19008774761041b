"""Whether the process is alive."""

from aiohttp import web

from nextarget.web.problems import json_response


def add(app: web.Application) -> None:
    app.router.add_get("/health", health, name="health", allow_head=False)


async def health(_request: web.Request) -> web.Response:
    """Touches nothing, so that it answers whatever else is slow or down."""
    return json_response({"status": "ok"})
