"""The token and revocation endpoints (RFC 6749, 3.2; RFC 7009; RFC 8693), and the nonce for a token exchange.

`token` reads the form, chooses the grant by its name, and writes the answer. A grant reads only its own parameters and
calls its service.
"""

import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import unquote_plus

from aiohttp import hdrs, web

from nextarget.errors import InvalidClient, InvalidRequest, UnsupportedGrantType
from nextarget.model import Provider, TokenPair
from nextarget.providers.base import SubjectTokenType
from nextarget.registry import name_pattern
from nextarget.services.authorization import PresentedCode
from nextarget.services.native import NONCE_SECONDS, PresentedToken
from nextarget.telemetry import scrubbed_client_id
from nextarget.web.app_keys import ONLINE, RUNTIME
from nextarget.web.problems import REFRESHING, json_response
from nextarget.web.rate_limits import LIMITS, CountingRefusals, limited, show_allowance
from nextarget.web.requests import parameters
from nextarget.web.requests.grammar import OWS
from nextarget.web.requests.parameters import Parameters

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_POLICY = "token"
"""Refused requests count under this name."""
_ISSUED_TYPE = SubjectTokenType.ACCESS_TOKEN.value
_CODE = re.compile(r"[\x20-\x7e]{1,256}")
_CODE_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
"""RFC 7636, 4.1."""
_TOKEN = re.compile(r"[\x20-\x7e]{1,16384}")
_TOKEN_TYPE = re.compile("|".join(map(re.escape, SubjectTokenType)))
_ANYTHING = re.compile(r".+", re.S)
"""A token with wrong characters is an invalid token, not a malformed request, so that the app signs in again."""
_NONCE = re.compile(r"[\x20-\x7e]{1,256}")
_LABEL = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,100}")
_NAME = re.compile(r"[\x20-\x7e]{1,200}")
_Granted: TypeAlias = tuple[TokenPair, dict[str, object]]
"""The tokens, and further members of the answer to this grant."""


def add(app: web.Application) -> None:
    app.router.add_post("/auth/token", token, name="token")
    app.router.add_post("/auth/revoke", revoke, name="revoke")
    app.router.add_post("/auth/nonce", nonce, name="nonce")


async def token(request: web.Request) -> web.Response:
    async with CountingRefusals(request, _POLICY):
        form, client_id = await _client_form(request)
        grant = _GRANTS.get(form.optional("grant_type", _NAME) or "", _unsupported)
    pair, extra = await grant(request, form, client_id)
    response = json_response(pair.document() | extra)
    response.headers[hdrs.PRAGMA] = "no-cache"  # RFC 6749, 5.1
    show_allowance(request, response)
    return response


async def revoke(request: web.Request) -> web.Response:
    """A text that is not one of our tokens counts against the client's address, so that guessing is limited."""
    async with CountingRefusals(request, _POLICY):
        form, client_id = await _client_form(request)
        text = form.required("token", _ANYTHING)
    if not await request.app[RUNTIME].sessions.revoke_token(text, client_id=client_id):
        await _count_address(request)
    response = web.Response(status=200)
    show_allowance(request, response)
    return response


@limited("nonce", "begin")
async def nonce(request: web.Request) -> web.Response:
    issued = request.app[ONLINE].native.issue_nonce()
    return json_response({"nonce": issued, "expires_in": NONCE_SECONDS})


async def _client_form(request: web.Request) -> tuple[Parameters, str | None]:
    """The form of a public client, and its client_id if it sends one: in the body, or by Basic without a password.

    Raises InvalidClient for an unknown client, for two client_ids that differ, and for a secret or password, because an
    app has none.
    """
    by_header = _basic_client_id(request.headers.getall(hdrs.AUTHORIZATION, []))
    form = await parameters.read_form(request)
    in_body = form.optional("client_id", _NAME)
    client_id = in_body or by_header
    clients = request.app[RUNTIME].clients
    if in_body is not None and in_body not in clients:
        raise _invalid_client("unknown client_id", in_body)
    if by_header is not None and by_header not in clients:
        raise _invalid_client("unknown client_id in Basic", by_header)
    if None not in {in_body, by_header} and in_body != by_header:
        raise _invalid_client("another client_id in Basic than in the body", in_body)
    if form.optional("client_secret", _TOKEN) is not None:
        raise _invalid_client("client_secret was sent", client_id)
    return form, client_id


def _invalid_client(reason: str, client_id: str | None = None) -> InvalidClient:
    """The reason and the client_id go to the log only. The caller gets the same sentence for every reason."""
    return InvalidClient(note=reason, facts={"client_id": scrubbed_client_id(client_id)} if client_id else None)


def _basic_client_id(fields: list[str]) -> str | None:
    """The client_id of a Basic header, whose two parts are form-encoded (RFC 6749, 2.3.1); None without Basic.

    A Bearer token is ignored: it does not authenticate a client, but some apps add theirs to every request. Raises
    InvalidClient.
    """
    if not fields:
        return None
    scheme, _, credentials = fields[0].partition(" ")
    if len(fields) > 1:
        raise _invalid_client("Authorization came twice")
    if scheme.lower() not in {"basic", "bearer"}:
        raise _invalid_client("Authorization is neither Basic nor Bearer")
    if scheme.lower() == "bearer":
        return None
    try:
        name, colon, password = b64decode(credentials.strip(OWS), validate=True).decode().partition(":")
        client_id = unquote_plus(name, errors="strict")
    except ValueError:
        raise _invalid_client("Basic malformed") from None
    if not colon:
        raise _invalid_client("Basic malformed")  # not logged: the text may be a secret
    if password:
        raise _invalid_client("a password was sent by Basic", client_id)
    if not client_id:
        raise _invalid_client("Basic without client_id")
    return client_id


async def _unsupported(request: web.Request, form: Parameters, _client_id: str | None) -> _Granted:
    await _count_address(request)
    form.required("grant_type", _NAME)
    raise UnsupportedGrantType


async def _authorization_code(request: web.Request, form: Parameters, client_id: str | None) -> _Granted:
    await _count_address(request)
    presented = PresentedCode(
        code=form.required("code", _CODE),
        client_id=client_id or form.required("client_id", _NAME),
        redirect_uri=form.optional("redirect_uri", parameters.URI),
        code_verifier=form.required("code_verifier", _CODE_VERIFIER),
        label=form.optional("device_name", _LABEL),
    )
    return await request.app[RUNTIME].codes.redeem(presented), {}


async def _refresh_token(request: web.Request, form: Parameters, client_id: str | None) -> _Granted:
    """A refresh with a valid MAC counts against its session and its client's address together.

    So one bad client does not block other clients at its address, and a thief at another address does not use up the
    app's quota. The answer does not show the rest of the quota, and the limit is random: otherwise a thief at the app's
    address could find out whether the app has refreshed.
    """
    request[REFRESHING] = True
    sessions = request.app[RUNTIME].sessions
    presented = sessions.presented(form.sole("refresh_token") or "")
    if presented is None:
        await _count_address(request, shows_quota=False)
        form.required("refresh_token", _ANYTHING)
    elif (limits := request.app.get(LIMITS)) is not None:
        per_minute = limits.quotas.refresh
        await limits.count_address(request, "refresh", per_minute, about=f"{presented.session_id}/", shows_quota=False)
    return await sessions.refresh(presented, client_id=client_id), {}


async def _token_exchange(request: web.Request, form: Parameters, client_id: str | None) -> _Granted:
    await _count_address(request)
    if form.optional("requested_token_type", _NAME) not in {None, _ISSUED_TYPE}:
        raise InvalidRequest(f"The parameter 'requested_token_type' can only be {_ISSUED_TYPE}.")
    if form.optional("actor_token", _TOKEN) is not None:
        raise InvalidRequest("The parameter 'actor_token' is not supported. Leave it out.")
    presented = PresentedToken(
        provider=Provider(form.required("subject_issuer", name_pattern(request.app[RUNTIME].offered))),
        kind=SubjectTokenType(form.required("subject_token_type", _TOKEN_TYPE)),
        token=form.required("subject_token", _TOKEN),
        raw_nonce=form.optional("nonce", _NONCE),
        client_id=request.app[RUNTIME].clients.named(client_id).id,
        label=form.optional("device_name", _LABEL),
    )
    return await request.app[ONLINE].native.exchange(presented), {"issued_token_type": _ISSUED_TYPE}


async def _count_address(request: web.Request, *, shows_quota: bool = True) -> None:
    if (limits := request.app.get(LIMITS)) is not None:
        await limits.count_address(request, _POLICY, limits.quotas.finish, shows_quota=shows_quota)


_Grant = Callable[[web.Request, Parameters, str | None], Awaitable[_Granted]]
_GRANTS: dict[str, _Grant] = {
    "authorization_code": _authorization_code,
    "refresh_token": _refresh_token,
    TOKEN_EXCHANGE: _token_exchange,
}
GRANT_TYPES = tuple(_GRANTS)
