"""Makes a trace span for every request. This module is imported only if tracing is on."""

from aiohttp import web
from aiohttp.typedefs import Handler

from nextarget import telemetry
from nextarget.telemetry.tracing import Tracing, current_trace_id
from nextarget.web.boundary import answer_to

_NOT_FOLLOWED = frozenset({"health", "ready", "metrics"})
"""Names of the routes that monitoring calls every few seconds. They get no span."""


def follow(app: web.Application, tracing: Tracing) -> None:
    """Make a span for every request, and put its trace id into the log."""
    spanned = tracing.middleware()

    @web.middleware
    async def followed(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.route.name in _NOT_FOLLOWED or not _has_url(request):
            return await handler(request)
        response: web.StreamResponse = await spanned(request, handler)
        return response

    app.middlewares[:0] = [followed, _answered]


def _has_url(request: web.Request) -> bool:
    """Whether the request has a valid URL. With a malformed Host header it has none. Only a span needs the URL."""
    try:
        return bool(request.url)
    except ValueError:
        return False


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn an error into an answer inside the span, so that the span gets the right status; the boundary is outside."""
    telemetry.trace_id.set(current_trace_id())
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - as in the boundary
        return answer_to(request, error)
