"""The claims of Facebook's id_tokens, and Facebook's SDK inside an app."""

import secrets
import uuid
from collections.abc import Mapping

from aiohttp import web

from nextarget.model import Provider
from nextarget.sandbox.clients.facebook import FacebookClient
from nextarget.sandbox.parameters import RefusedError, query_of
from nextarget.sandbox.people import ID_TOKEN_FAULTS, Fault, Person
from nextarget.sandbox.standins.facebook_graph import UserTokens
from nextarget.sandbox.standins.grants import Clock
from nextarget.sandbox.standins.id_tokens import Claims, IdTokens
from nextarget.sandbox.standins.sdk import HEADERS, chosen, know, refused

FACEBOOK = Provider("facebook")
LIMITED_LOGIN_ISSUER = "https://www.facebook.com"
_PARAMETERS = {"limited": ("person", "fault", "kind", "nonce"), "classic": ("person", "fault", "kind")}
_SCOPES = frozenset({"public_profile", "email"})

ACCESS_TOKEN_FAULTS = (
    Fault.EXPIRED,
    Fault.INVALID_TOKEN,
    Fault.FOREIGN_APP,
    Fault.OTHER_APP,
    Fault.OTHER_USER,
    Fault.MISSING_ID,
    Fault.ODD_TYPES,
    Fault.GRAPH_ERROR,
    Fault.RATE_LIMITED,
    Fault.GRAPH_UNKNOWN,
    Fault.GRAPH_DOWN,
    Fault.BLOCKED,
    Fault.SESSION_ENDED,
)
"""Faults of an access token that Facebook's SDK gives to an app. Only `debug_token` shows the faults from `expired` to
`other_user`; `/me` answers as usual. So a server that forgets to ask `debug_token` accepts such a token, and a test can
notice that."""


def limited_login_claims(client: FacebookClient, person: Person, *, nonce: str | None) -> Claims:
    """The claims of Limited Login about a person, without the times. No claim says whether the email is verified.

    developers.facebook.com/docs/facebook-login/limited-login/token/validating
    """
    claims: Claims = {
        "iss": LIMITED_LOGIN_ISSUER,
        "aud": client.client_id,
        "sub": person.subject(FACEBOOK),
        "jti": f"{secrets.token_hex(2)}.{secrets.token_hex(32)}",
    }
    if nonce is not None:
        claims["nonce"] = nonce
    if person.email is not None:
        claims["email"] = person.email
    return claims


class FacebookSdk:
    """Facebook Login on a phone. Limited Login gives an id_token, and classic Login gives a user access token."""

    def __init__(self, client: FacebookClient, id_tokens: IdTokens, user_tokens: UserTokens, now: Clock) -> None:
        self._client = client
        self._id_tokens = id_tokens
        self._user_tokens = user_tokens
        self._now = now

    async def sign_in(self, request: web.Request) -> web.Response:
        """`{"id_token"}` for `kind=limited`, `{"access_token"}` for `kind=classic`."""
        try:
            params = query_of(request)
            kind = params.get("kind", "")
            if kind not in _PARAMETERS:
                raise RefusedError("invalid_request", f"kind= must be one of: {', '.join(_PARAMETERS)}")
            know(params, _PARAMETERS[kind])
            answer = (
                {"access_token": self._classic(params)}
                if kind == "classic"
                else {"id_token": await self._limited(params)}
            )
        except RefusedError as refusal:
            return refused(refusal)
        return web.json_response(answer, headers=HEADERS)

    async def _limited(self, params: Mapping[str, str]) -> str:
        """An id_token. The SDK refuses a nonce that contains a space; if the app gives no nonce, the SDK generates one
        (LoginConfiguration)."""
        person, fault = chosen(params, FACEBOOK, ID_TOKEN_FAULTS)
        nonce = params.get("nonce", str(uuid.uuid4()).upper())
        if not nonce or " " in nonce:
            raise RefusedError("invalid_request", "nonce= must not be empty or contain a space.")
        claims = limited_login_claims(self._client, person, nonce=nonce)
        return await self._id_tokens.issue(claims, fault, int(self._now()))

    def _classic(self, params: Mapping[str, str]) -> str:
        person, fault = chosen(params, FACEBOOK, ACCESS_TOKEN_FAULTS)
        return self._user_tokens.issue(person, fault, _SCOPES)
