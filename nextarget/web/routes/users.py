"""The signed-in person's own data: profile, sessions, export of all data, and deletion of the account."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from aiohttp import hdrs, web

from nextarget.errors import InvalidToken, MissingToken
from nextarget.model import AuditEvent, Millis, Provider, Session, iso_time
from nextarget.providers.base import Revokes
from nextarget.registry import able
from nextarget.services import accounts, export
from nextarget.services.export import REFRESHING
from nextarget.services.sessions import ABSOLUTE_DAYS, DAY_MS, SignedInUser
from nextarget.web.app_keys import ONLINE, RUNTIME
from nextarget.web.problems import json_response
from nextarget.web.rate_limits import LISTING_PER_MINUTE, count_user
from nextarget.web.requests import parameters
from nextarget.web.streaming import stream_object

_Row = TypeVar("_Row", AuditEvent, Session)


def add(app: web.Application) -> None:
    router = app.router  # routes with the same path and name share a resource if added one after the other
    router.add_get("/users/me", me, name="me")
    router.add_delete("/users/me", delete_me, name="me")
    router.add_post("/users/me/delete", delete_account, name="delete-account")
    router.add_get("/users/me/data", data, name="data")
    router.add_get("/users/me/sessions", list_sessions, name="sessions")
    router.add_delete("/users/me/sessions", end_other_sessions, name="sessions")
    router.add_delete("/users/me/sessions/{session_id}", end_session, name="session")


def code_field(provider: Provider) -> str:
    """The field of a form that has an authorization code of this provider."""
    return f"{provider}_authorization_code"


async def me(request: web.Request) -> web.Response:
    return json_response((await signed_in_user(request)).user.profile())


async def delete_me(request: web.Request) -> web.Response:
    signed_in = await signed_in_user(request)
    runtime = request.app[RUNTIME]
    await runtime.database.write(accounts.delete, signed_in.user, now=runtime.clock())
    return web.Response(status=204)


async def delete_account(request: web.Request) -> web.Response:
    """Delete the account, and revoke the grant at the person's provider with the code in the form, if there is one.

    It is a POST because a body of DELETE has no meaning (RFC 9110, 9.3.5) and gets lost on the way.
    """
    user = (await signed_in_user(request)).user
    codes: dict[Provider, str | None] = {}
    if request.body_exists:
        form = await parameters.read_form(request)
        for provider in able(request.app[RUNTIME].offered, Revokes):
            codes[provider] = form.optional(code_field(provider), parameters.CODE)
    await request.app[ONLINE].deletion.delete(user, code=codes.get(user.provider))
    return web.Response(status=204)


async def data(request: web.Request) -> web.StreamResponse:
    """Everything that we keep about the person (GDPR, articles 15 and 20), as a file to download."""
    signed_in = await signed_in_user(request)
    user, runtime = signed_in.user, request.app[RUNTIME]
    await count_user(request, "data", LISTING_PER_MINUTE, user.id)
    kept = {
        "user": user.profile(),
        "sessions": _rendered(_exported_session, export.sessions_of(runtime.database, user)),
        "events": _rendered(_exported_event, export.events_of(runtime.database, user, now=runtime.clock())),
    }
    return await stream_object(request, kept, filename="nextarget-data.json")


async def list_sessions(request: web.Request) -> web.Response:
    """The active sessions. A user has at most a hundred of them."""
    signed_in = await signed_in_user(request)
    await count_user(request, "sessions", LISTING_PER_MINUTE, signed_in.user.id)
    sessions = await request.app[RUNTIME].sessions.active(signed_in)
    # No refresh times: they would help a thief who holds a copied token.
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
    signed_in = await signed_in_user(request)
    await request.app[RUNTIME].sessions.end(signed_in.user, request.match_info["session_id"])
    return web.Response(status=204)


async def end_other_sessions(request: web.Request) -> web.Response:
    signed_in = await signed_in_user(request)
    await request.app[RUNTIME].sessions.end_others(signed_in)
    return web.Response(status=204)


def signed_in_user(request: web.Request) -> Awaitable[SignedInUser]:
    """The person whose access token the request has. Raises MissingToken or InvalidToken."""
    return request.app[RUNTIME].sessions.authenticate(bearer_token(request))


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


def _exported_session(session: Session) -> dict[str, object]:
    """A session in the export, with the last day on which it can end in place of its expiry.

    The expiry moves with the first refresh of a day. A thief who asks often would learn the time of that refresh.
    """
    return {
        "id": session.id,
        "client_id": session.client_id,
        "label": session.label,
        "created_at": iso_time(session.created_at),
        "ends_by": _day(Millis(session.created_at + ABSOLUTE_DAYS * DAY_MS)),
        "ended_at": iso_time(session.revoked_at) if session.revoked_at is not None else None,
    }


def _exported_event(event: AuditEvent) -> dict[str, object]:
    """An event in the export. An event that a refresh caused has only its day, not its time: see `services.export`."""
    when = {"on": _day(event.at)} if event.event in REFRESHING else {"at": iso_time(event.at)}
    return {**when, "event": event.event, "session_id": event.session_id, "detail": event.detail}


async def _rendered(
    render: Callable[[_Row], dict[str, object]], pages: AsyncIterator[list[_Row]]
) -> AsyncIterator[list[dict[str, object]]]:
    async for page in pages:
        yield [render(row) for row in page]


def _day(moment: Millis) -> str:
    return iso_time(moment)[:10]
