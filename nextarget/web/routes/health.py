"""Whether the process is alive, and whether it should get requests."""

from aiohttp import web

from nextarget.errors import NotReady
from nextarget.web.problems import json_response
from nextarget.web.server.readiness import READINESS


def add(app: web.Application) -> None:
    app.router.add_get("/health", health, name="health")
    app.router.add_get("/health/ready", ready, name="ready")


async def health(_request: web.Request) -> web.Response:
    """Answer without the database or any other service, so that this works even if those are slow or down."""
    return json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """For load balancers. A process that is not ready still answers requests."""
    if (check := await request.app[READINESS].failing()) is not None:
        raise NotReady(check)
    return json_response({"status": "ready"})
