"""CORS, by aiohttp-cors: which routes the pages of other origins may call with fetch, and which headers they may read.

Credentials are not allowed: the API uses no cookies, and its tokens are in a header.
"""

import aiohttp_cors
from aiohttp import hdrs, web

OPEN_ROUTES = frozenset(
    {
        *("token", "revoke", "nonce", "providers"),
        *("oauth-authorization-server", "openid-configuration", "jwks", "openapi"),
        *("me", "delete-account", "data", "sessions", "session"),
    }
)
"""Names of the routes that a browser app calls. Pages for people and routes for operators are not among them."""

PREFLIGHT_SECONDS = 7200
"""How long a browser may cache the answer to a preflight request. Browsers apply a maximum of their own too."""

_EXPOSED = ("X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy", "WWW-Authenticate")
_ACCEPTED = (
    *("Authorization", "Content-Type"),
    # Error trackers, tracers and HTTP libraries in browser apps add these to every request. We do not read them.
    *("traceparent", "tracestate", "baggage", "sentry-trace", "X-Requested-With"),
)


def open_to(app: web.Application, origins: tuple[str, ...]) -> None:
    """Let pages of these origins (`*` for any) call the open routes, with every method that a route has.

    Call this after all routes are added. aiohttp-cors adds its headers just before an answer is sent, and so to the
    errors of the boundary too.
    """
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        expose_headers=_EXPOSED, allow_headers=_ACCEPTED, max_age=PREFLIGHT_SECONDS, allow_credentials=False
    )
    cors = aiohttp_cors.setup(app)
    routes = [route for route in app.router.routes() if route.name in OPEN_ROUTES]
    for route in routes:
        cors.add(route, dict.fromkeys(origins, options))
    opened = frozenset(route.resource for route in routes)
    # Most requests have no Origin. The library looks up the route's configuration first, so we check the Origin before.
    grant = app.on_response_prepare.pop()

    async def share(request: web.Request, response: web.StreamResponse) -> None:
        if request.match_info.route.resource not in opened:
            return
        # A cache must not give an answer for one origin, or for no origin, to another origin (Fetch standard, 3.2.5).
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if hdrs.ORIGIN in request.headers:
            await grant(request, response)

    app.on_response_prepare.append(share)
