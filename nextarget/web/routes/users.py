"""The signed-in person's own data: profile, sessions, everything kept, and the end of the account."""

from aiohttp import hdrs, web

from nextarget.errors import InvalidToken, MissingToken
from nextarget.model import AuditEvent, Millis, Session, iso_time
from nextarget.services import accounts
from nextarget.services.sessions import ABSOLUTE_DAYS, DAY_MS, SignedInUser
from nextarget.web.keys import RUNTIME
from nextarget.web.problems import json_response


def add(app: web.Application) -> None:
    router = app.router  # routes of one path and name, one after the other, share a resource
    router.add_get("/users/me", me, name="me", allow_head=False)
    router.add_delete("/users/me", delete_me, name="me")
    router.add_get("/users/me/data", data, name="data", allow_head=False)
    router.add_get("/users/me/sessions", list_sessions, name="sessions", allow_head=False)
    router.add_delete("/users/me/sessions", end_other_sessions, name="sessions")
    router.add_delete("/users/me/sessions/{session_id}", end_session, name="session")


async def me(request: web.Request) -> web.Response:
    signed_in = await request.app[RUNTIME].sessions.authenticate(bearer_token(request))
    return json_response(signed_in.user.profile())


async def delete_me(request: web.Request) -> web.Response:
    signed_in = await _signed_in(request)
    runtime = request.app[RUNTIME]
    await runtime.database.write(accounts.delete, signed_in.user, now=runtime.clock())
    return web.Response(status=204)


async def data(request: web.Request) -> web.Response:
    """Everything kept about the person (GDPR, articles 15 and 20), as a file to keep."""
    signed_in = await _signed_in(request)
    runtime = request.app[RUNTIME]
    kept = await runtime.database.read(accounts.kept_about, signed_in.user, now=runtime.clock())
    response = json_response(
        {
            "user": signed_in.user.profile(),
            "sessions": [_whole_session(session) for session in kept.sessions],
            "events": [*map(_event, kept.events), *map(_event_of_refreshing, kept.refreshing)],
        }
    )
    response.headers[hdrs.CONTENT_DISPOSITION] = 'attachment; filename="nextarget-data.json"'
    return response


async def list_sessions(request: web.Request) -> web.Response:
    signed_in = await _signed_in(request)
    sessions = await request.app[RUNTIME].sessions.standing(signed_in.user)
    # No refresh times: they would help whoever follows with a copied token.
    listed = [
        {
            "id": session.id,
            "created_at": iso_time(session.created_at),
            "label": session.label,
            "current": session.id == signed_in.session_id,
        }
        for session in sessions
    ]
    return json_response({"sessions": listed})


async def end_session(request: web.Request) -> web.Response:
    signed_in = await _signed_in(request)
    await request.app[RUNTIME].sessions.end(signed_in.user, request.match_info["session_id"])
    return web.Response(status=204)


async def end_other_sessions(request: web.Request) -> web.Response:
    signed_in = await _signed_in(request)
    await request.app[RUNTIME].sessions.end_others(signed_in)
    return web.Response(status=204)


async def _signed_in(request: web.Request) -> SignedInUser:
    return await request.app[RUNTIME].sessions.authenticate(bearer_token(request))


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


def _whole_session(session: Session) -> dict[str, object]:
    """The expiry itself moves with the first refresh of a day: whoever asks all the time would see when that is. So
    the day on which the session ends at the latest."""
    return {
        "id": session.id,
        "client_id": session.client_id,
        "label": session.label,
        "created_at": iso_time(session.created_at),
        "ends_by": _day(Millis(session.created_at + ABSOLUTE_DAYS * DAY_MS)),
        "ended_at": iso_time(session.revoked_at) if session.revoked_at is not None else None,
    }


def _event(event: AuditEvent) -> dict[str, object]:
    return {"at": iso_time(event.at), **_what(event)}


def _event_of_refreshing(event: AuditEvent) -> dict[str, object]:
    """The day alone: see `accounts.kept_about`."""
    return {"on": _day(event.at), **_what(event)}


def _what(event: AuditEvent) -> dict[str, object]:
    return {"event": event.event, "session_id": event.session_id, "detail": event.detail}


def _day(moment: Millis) -> str:
    return iso_time(moment)[:10]
