"""Follows requests while tracing is on; nothing of this is imported while it is off."""

from aiohttp import web
from aiohttp.typedefs import Handler

from nextarget import telemetry
from nextarget.telemetry.tracing import Tracing, current_trace_id
from nextarget.web.boundary import answer_to

_NOT_FOLLOWED = frozenset({"health", "ready", "metrics"})
"""Names of the routes that machines ask every few seconds."""


def follow(app: web.Application, tracing: Tracing) -> None:
    """Make a span of each request, and name its trace in the log."""
    spanned = tracing.middleware()

    @web.middleware
    async def followed(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.route.name in _NOT_FOLLOWED or not _has_url(request):
            return await handler(request)
        response: web.StreamResponse = await spanned(request, handler)
        return response

    app.middlewares[:0] = [followed, _answered]


def _has_url(request: web.Request) -> bool:
    """Whether the Host header can be part of one: a span is told the URL, and nothing else needs it."""
    try:
        return bool(request.url)
    except ValueError:
        return False


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Inside the span, so that it has the status that is answered; the boundary, outside, would tell it too late."""
    telemetry.trace_id.set(current_trace_id())
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - as the boundary does
        return answer_to(request, error)
