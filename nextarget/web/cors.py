"""Pages of other origins: which routes they may call with fetch, and what they may read (CORS, by aiohttp-cors).

Nothing here allows credentials: no cookie belongs to the API, whose tokens travel in a header.
"""

import aiohttp_cors
from aiohttp import hdrs, web

OPEN_ROUTES = frozenset(
    {
        *("token", "revoke", "nonce", "providers"),
        *("oauth-authorization-server", "openid-configuration", "jwks", "openapi"),
        *("me", "data", "sessions", "session"),
    }
)
"""Names of the routes that a browser app calls. Not among them: pages, which people open, and what operators read."""

PREFLIGHT_SECONDS = 7200
"""How long a browser may remember what it was allowed; none believes more than it likes."""

_EXPOSED = ("X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy", "WWW-Authenticate")
_ACCEPTED = (
    *("Authorization", "Content-Type"),
    # What error trackers, tracers and HTTP libraries of browser apps add to every request. Nothing here reads it.
    *("traceparent", "tracestate", "baggage", "sentry-trace", "X-Requested-With"),
)


def open_to(app: web.Application, origins: tuple[str, ...]) -> None:
    """Let pages of these origins, `*` for any, call the open routes with the methods that each has.

    Call it once every route is there. aiohttp-cors acts when an answer is about to be sent, and so on errors that the
    boundary made too.
    """
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        expose_headers=_EXPOSED, allow_headers=_ACCEPTED, max_age=PREFLIGHT_SECONDS, allow_credentials=False
    )
    cors = aiohttp_cors.setup(app)
    routes = [route for route in app.router.routes() if route.name in OPEN_ROUTES]
    for route in routes:
        cors.add(route, dict.fromkeys(origins, options))
    opened = frozenset(route.resource for route in routes)
    # The library looks everything up before it looks for an origin, which most requests do not have.
    grant = app.on_response_prepare.pop()

    async def share(request: web.Request, response: web.StreamResponse) -> None:
        if request.match_info.route.resource not in opened:
            return
        # A cache must not hand one origin's answer, or none's, to another (Fetch standard, 3.2.5).
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if hdrs.ORIGIN in request.headers:
            await grant(request, response)

    app.on_response_prepare.append(share)
