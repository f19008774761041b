"""Pages of other origins: which routes they may call with fetch, and what they may read (CORS, by aiohttp-cors).

Nothing here allows credentials: no cookie belongs to the API, whose tokens travel in a header.
"""

import aiohttp_cors
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from nextarget.errors import CrossOriginRefused

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
_ACCEPTED = ("Authorization", "Content-Type")
_QUOTED = (hdrs.ORIGIN, hdrs.ACCESS_CONTROL_REQUEST_METHOD, hdrs.ACCESS_CONTROL_REQUEST_HEADERS)
"""What a preflight says, and aiohttp-cors repeats in a refusal that nobody sees; it cannot repeat odd bytes."""


def open_to(app: web.Application, origins: tuple[str, ...]) -> None:
    """Let pages of these origins, `*` for any, call the open routes with the methods that each has.

    Call it once every route is there. aiohttp-cors acts when an answer is about to be sent, and so on errors that the
    boundary made too.
    """
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        expose_headers=_EXPOSED, allow_headers=_ACCEPTED, max_age=PREFLIGHT_SECONDS, allow_credentials=False
    )
    app.middlewares.append(_legible)
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


@web.middleware
async def _legible(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a preflight of odd bytes (RFC 9110, 5.5: a field value is ASCII)."""
    if request.method == hdrs.METH_OPTIONS and not all(request.headers.get(name, "").isascii() for name in _QUOTED):
        raise CrossOriginRefused
    return await handler(request)
