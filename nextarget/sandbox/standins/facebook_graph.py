"""The Graph API of the stand-in Facebook: its user access tokens, `/me`, `/debug_token`, and the errors of
https://developers.facebook.com/docs/graph-api/guides/error-handling.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from nextarget.model import Provider
from nextarget.sandbox.clients.facebook import FacebookClient
from nextarget.sandbox.mishaps import BUSY_SECONDS
from nextarget.sandbox.parameters import RefusedError, form_of, merged, query_of
from nextarget.sandbox.people import Fault, Person
from nextarget.sandbox.standins.grants import BoundedStore, Clock

FACEBOOK = Provider("facebook")
USER_TOKEN_SECONDS = 60 * 24 * 3600
"""User access tokens are valid for about 60 days (docs/facebook-login/guides/access-tokens)."""

VERSION = r"{version:v\d{1,3}\.\d{1,2}}"
OTHER_APP_ID = "1234567890123456"
OTHER_USER_ID = "10999999999999999"
_PROFILE_FIELDS = frozenset({"id", "name", "email"})
_INVALIDATED = {
    "code": 190,
    "message": "Error validating access token: The session has been invalidated because the user changed the password.",
    "subcode": 460,
}
_NO_STORE = {"Cache-Control": "private, no-cache, no-store, must-revalidate"}


@dataclass(frozen=True, slots=True)
class UserToken:
    """The facts about a Facebook user access token. Times are seconds since 1970."""

    person: Person
    fault: Fault | None
    scopes: frozenset[str]
    issued_at: int
    expires_at: int


class UserTokens:
    """Facebook's user access tokens, from the code exchange and from the SDK."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._kept: BoundedStore[UserToken] = BoundedStore(lifetime=USER_TOKEN_SECONDS, now=now)

    def issue(self, person: Person, fault: Fault | None, scopes: frozenset[str]) -> str:
        """A new token. With the fault `expired`, it expired an hour ago."""
        issued_at = int(self._now())
        if fault is Fault.EXPIRED:
            issued_at -= USER_TOKEN_SECONDS + 3600
        token = f"EAAsandbox{secrets.token_urlsafe(120)}"
        self._kept.put(token, UserToken(person, fault, scopes, issued_at, issued_at + USER_TOKEN_SECONDS))
        return token

    def get(self, token: str) -> UserToken | None:
        """The facts about the token, or None if it is unknown, or was removed after 60 days."""
        return self._kept.get(token)


class GraphError(Exception):
    """An error answer of the Graph API, with Facebook's text, `code` and `subcode`. `retry_after` is in seconds."""

    def __init__(
        self,
        message: str,
        code: int,
        *,
        subcode: int | None = None,
        kind: str = "OAuthException",
        status: int = 400,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.code = code
        self.subcode = subcode
        self.kind = kind
        self.status = status


def graph_error(error: GraphError) -> web.Response:
    """The JSON answer for a Graph error."""
    body: dict[str, object] = {"message": str(error), "type": error.kind, "code": error.code}
    if error.subcode is not None:
        body["error_subcode"] = error.subcode
    body["fbtrace_id"] = f"A{secrets.token_urlsafe(16)}"
    wait = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return web.json_response({"error": body}, status=error.status, headers=_NO_STORE | wait)


async def params_of(request: web.Request) -> dict[str, str]:
    """The parameters of the query, and for a POST also of the form. Raises GraphError (code 100)."""
    try:
        return merged(query_of(request), await form_of(request) if request.method == "POST" else {})
    except RefusedError as refusal:
        raise GraphError(f"(#100) {refusal.sentence}", 100) from None


class Graph:
    """The two routes of the Graph API that sign-in needs."""

    def __init__(self, client: FacebookClient, tokens: UserTokens) -> None:
        self._client = client
        self._tokens = tokens

    async def me(self, request: web.Request) -> web.Response:
        """The person's profile (docs/graph-api/reference/user). A phone-only account has no key `email`."""
        try:
            params = await params_of(request)
            token = self._user_token(_bearer(request, params), params)
            return web.json_response(_profile(token, _fields(params)), headers=_NO_STORE)
        except GraphError as error:
            return graph_error(error)

    async def debug_token(self, request: web.Request) -> web.Response:
        """The facts about a user access token (docs/graph-api/reference/debug_token). Only the app itself may ask."""
        try:
            params = await params_of(request)
            self._check_app_token(_bearer(request, params), params)
            return web.json_response({"data": self._described(_input_token(params))}, headers=_NO_STORE)
        except GraphError as error:
            return graph_error(error)

    def _check_app_token(self, presented: str, params: Mapping[str, str]) -> None:
        """An app access token is `app id|app secret` (docs/facebook-login/guides/access-tokens)."""
        if not self._is_app_token(presented):
            if presented.startswith(f"{self._client.client_id}|"):
                raise GraphError("Invalid OAuth access token signature.", 190)
            raise GraphError(
                "(#100) You must provide an app access token, or a user access token that is an owner or "
                "developer of the app",
                100,
            )
        if "appsecret_proof" in params:
            self._check_proof(presented, params)

    def _is_app_token(self, presented: str) -> bool:
        own = f"{self._client.client_id}|{self._client.client_secret.reveal()}"
        return hmac.compare_digest(presented.encode(), own.encode())

    def _user_token(self, presented: str, params: Mapping[str, str]) -> UserToken:
        token = self._tokens.get(presented)
        if token is None:
            raise GraphError("Invalid OAuth access token - Cannot parse access token", 190)
        if "appsecret_proof" not in params:
            raise GraphError(
                "API calls from the server require an appsecret_proof argument", 100, kind="GraphMethodException"
            )
        self._check_proof(presented, params)
        return token

    def _check_proof(self, presented: str, params: Mapping[str, str]) -> None:
        """The proof is HMAC-SHA256 of the token, with the app secret as key, in hex
        (docs/graph-api/guides/secure-requests)."""
        secret = self._client.client_secret.encode()
        expected = hmac.digest(secret, presented.encode(), "sha256").hex()
        if not hmac.compare_digest(params["appsecret_proof"].encode(), expected.encode()):
            raise GraphError("Invalid appsecret_proof provided in the API argument", 100, kind="GraphMethodException")

    def _described(self, input_token: str) -> dict[str, object]:
        app: dict[str, object] = {"app_id": self._client.client_id, "application": "NexTarget sandbox"}
        if self._is_app_token(input_token):
            return {**app, "type": "APP", "is_valid": True, "scopes": []}
        if not input_token.startswith("EAA"):
            raise GraphError("Invalid OAuth access token - Cannot parse access token", 190)
        token = self._tokens.get(input_token)
        if token is None:
            refused = {"code": 190, "message": "Invalid OAuth access token."}
            return {"error": refused, "is_valid": False, "scopes": []}
        if token.fault is Fault.FOREIGN_APP:
            raise GraphError("(#100) The App_id in the input_token did not match the Viewing App", 100)
        answer: dict[str, object] = {
            **app,
            "type": "USER",
            "data_access_expires_at": token.expires_at,
            "expires_at": token.expires_at,
            "is_valid": True,
            "issued_at": token.issued_at,
            "scopes": sorted(token.scopes),
            "user_id": OTHER_USER_ID if token.fault is Fault.OTHER_USER else token.person.subject(FACEBOOK),
        }
        if token.fault is Fault.OTHER_APP:
            answer |= {"app_id": OTHER_APP_ID}
        if token.fault is Fault.INVALID_TOKEN:
            answer |= {"error": _INVALIDATED, "is_valid": False}
        if token.fault is Fault.ODD_TYPES:
            answer |= {name: int(str(answer[name])) for name in ("app_id", "user_id")}
            answer |= {name: str(answer[name]) for name in ("expires_at", "issued_at")}
        return answer


def _bearer(request: web.Request, params: Mapping[str, str]) -> str:
    """The access token from the header `Authorization: Bearer` (or `OAuth`), or from the parameters."""
    scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
    from_header = credential.strip() if scheme.lower() in {"bearer", "oauth"} else ""
    from_params = params.get("access_token", "")
    if from_header and from_params and from_header != from_params:
        raise GraphError("(#100) Two different access tokens were sent.", 100)
    token = from_header or from_params
    if not token:
        raise GraphError("An access token is required to request this resource.", 104)
    if not token.isprintable():
        raise GraphError("Invalid OAuth access token - Cannot parse access token", 190)
    return token


def _input_token(params: Mapping[str, str]) -> str:
    if not params.get("input_token"):
        raise GraphError("(#100) The parameter input_token is required", 100)
    return params["input_token"]


def _fields(params: Mapping[str, str]) -> frozenset[str]:
    wanted = frozenset(name.strip() for name in params.get("fields", "id,name").split(",") if name.strip())
    unknown = wanted - _PROFILE_FIELDS
    if unknown:
        raise GraphError("(#100) Tried accessing nonexisting field on node type (User)", 100)
    return wanted | {"id"}


def _profile(token: UserToken, fields: frozenset[str]) -> dict[str, object]:
    person = token.person
    match token.fault:
        case Fault.GRAPH_ERROR:
            raise GraphError(f"Error validating the account of {person.email or person.name}.", 190, subcode=490)
        case Fault.RATE_LIMITED:
            raise GraphError("(#4) Application request limit reached", 4, status=403)
        case Fault.GRAPH_UNKNOWN:
            raise GraphError("An unknown error occurred", 1)
        case Fault.GRAPH_DOWN:
            raise GraphError("Service temporarily unavailable", 2, status=503, retry_after=BUSY_SECONDS)
        case Fault.BLOCKED:
            raise GraphError("The action attempted has been deemed abusive", 368, retry_after=86_400)
        case Fault.SESSION_ENDED:
            raise GraphError("Session key invalid or no longer valid", 102)
    profile = _honest_profile(person, token.scopes)
    if token.fault is Fault.MISSING_ID:
        del profile["id"]
    if token.fault is Fault.ODD_TYPES:
        profile |= {"id": int(person.subject(FACEBOOK) or 0), "email": [person.email]}
    return {name: value for name, value in profile.items() if name in fields}


def _honest_profile(person: Person, scopes: frozenset[str]) -> dict[str, object]:
    profile: dict[str, object] = {"id": person.subject(FACEBOOK), "name": person.name}
    if person.email is not None and "email" in scopes:
        profile["email"] = person.email
    return profile
