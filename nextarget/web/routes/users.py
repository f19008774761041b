"""The signed-in person's own data."""

from datetime import UTC, datetime

from aiohttp import hdrs, web

from nextarget.errors import InvalidToken, MissingToken
from nextarget.model import Millis, User
from nextarget.web.keys import RUNTIME
from nextarget.web.problems import json_response


def add(app: web.Application) -> None:
    app.router.add_get("/users/me", me, name="me", allow_head=False)


async def me(request: web.Request) -> web.Response:
    user = await request.app[RUNTIME].sessions.authenticate(bearer_token(request))
    return json_response(profile(user))


def bearer_token(request: web.Request) -> str:
    """The token of the Authorization header (RFC 6750, 2.1). Raises MissingToken or InvalidToken."""
    values = request.headers.getall(hdrs.AUTHORIZATION, [])
    if not values:
        raise MissingToken
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer":
        raise MissingToken
    token = token.strip(" ")
    if len(values) > 1 or not token or not token.isascii():
        raise InvalidToken
    return token


def profile(user: User) -> dict[str, object]:
    """A user as the app sees it."""
    return {
        "id": user.id,
        "email": user.email,
        "email_verified": user.email_verified,
        "provider": user.provider,
        "is_active": user.is_active,
        "created_at": iso_time(user.created_at),
    }


def iso_time(moment: Millis) -> str:
    """ISO 8601, UTC, to the millisecond: 2026-01-31T12:00:00.000Z."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
