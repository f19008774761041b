"""The providers' SDKs inside a pretend app, as plain HTTP: what a phone would hand to the app comes back as JSON.

Native sign-in can be tested without a phone: ask here, post the token to the server. The app that plays an SDK which
hashes its nonce sends the hash here.
"""

import uuid
from collections.abc import Mapping

from aiohttp import web

from nextarget.model import Provider
from nextarget.sandbox.parameters import RefusedError, query_of
from nextarget.sandbox.people import ACCESS_TOKEN_FAULTS, ID_TOKEN_FAULTS, Fault, Person
from nextarget.sandbox.standins.chooser import choice_in, keys_of
from nextarget.sandbox.standins.grants import Clock, UserTokens
from nextarget.sandbox.standins.id_tokens import IdTokens, google_claims, limited_login_claims, new_access_token
from nextarget.sandbox.workspace import SandboxConfig

_GOOGLE_PARAMETERS = ("person", "fault", "nonce", "client_id")
_FACEBOOK_PARAMETERS = {"limited": ("person", "fault", "kind", "nonce"), "classic": ("person", "fault", "kind")}
_SCOPES = frozenset({"public_profile", "email"})
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class GoogleSdk:
    """Credential Manager on Android, Google Sign-In on iOS: an id_token for the app's server."""

    def __init__(self, config: SandboxConfig, id_tokens: IdTokens, now: Clock) -> None:
        self._config = config
        self._id_tokens = id_tokens
        self._now = now

    async def sign_in(self, request: web.Request) -> web.Response:
        """`{"id_token", "access_token"}`, made for the server's client id, or for `client_id=`, at the app's wish.

        developers.google.com/identity/sign-in/ios/backend-auth: `azp` stays the app's own client id.
        """
        try:
            params = query_of(request)
            _know(params, _GOOGLE_PARAMETERS)
            audience = self._audience(params)
            person, fault = _chosen(params, Provider.GOOGLE, ID_TOKEN_FAULTS)
        except RefusedError as refusal:
            return _refused(refusal)
        access_token = new_access_token()
        claims = google_claims(
            self._config,
            person,
            audience=audience,
            authorized_party=self._authorized_party(audience),
            nonce=params.get("nonce"),
            access_token=access_token,
        )
        id_token = await self._id_tokens.issue(claims, fault, int(self._now()))
        return web.json_response({"id_token": id_token, "access_token": access_token}, headers=_HEADERS)

    def _audience(self, params: Mapping[str, str]) -> str:
        known = (self._config.google_client_id, *self._config.google_client_ids)
        audience = params.get("client_id", self._config.google_client_id)
        if audience not in known:
            raise RefusedError("invalid_client", f"client_id= is not configured. There are: {', '.join(known)}")
        return audience

    def _authorized_party(self, audience: str) -> str:
        apps = self._config.google_client_ids
        return audience if audience in apps else next(iter(apps), audience)


class FacebookSdk:
    """Facebook Login on a phone: Limited Login gives an id_token, classic Login a user access token."""

    def __init__(self, config: SandboxConfig, id_tokens: IdTokens, user_tokens: UserTokens, now: Clock) -> None:
        self._config = config
        self._id_tokens = id_tokens
        self._user_tokens = user_tokens
        self._now = now

    async def sign_in(self, request: web.Request) -> web.Response:
        """`{"id_token"}` for `kind=limited`, `{"access_token"}` for `kind=classic`."""
        try:
            params = query_of(request)
            kind = params.get("kind", "")
            if kind not in _FACEBOOK_PARAMETERS:
                raise RefusedError("invalid_request", f"kind= must be one of: {', '.join(_FACEBOOK_PARAMETERS)}")
            _know(params, _FACEBOOK_PARAMETERS[kind])
            answer = (
                {"access_token": self._classic(params)}
                if kind == "classic"
                else {"id_token": await self._limited(params)}
            )
        except RefusedError as refusal:
            return _refused(refusal)
        return web.json_response(answer, headers=_HEADERS)

    async def _limited(self, params: Mapping[str, str]) -> str:
        """The SDK refuses a nonce with a space in it; when the app gives none, it makes one up (LoginConfiguration)."""
        person, fault = _chosen(params, Provider.FACEBOOK, ID_TOKEN_FAULTS)
        nonce = params.get("nonce", str(uuid.uuid4()).upper())
        if not nonce or " " in nonce:
            raise RefusedError("invalid_request", "nonce= must not be empty or contain a space.")
        claims = limited_login_claims(self._config, person, nonce=nonce)
        return await self._id_tokens.issue(claims, fault, int(self._now()))

    def _classic(self, params: Mapping[str, str]) -> str:
        person, fault = _chosen(params, Provider.FACEBOOK, ACCESS_TOKEN_FAULTS)
        return self._user_tokens.issue(person, fault, _SCOPES)


def _know(params: Mapping[str, str], known: tuple[str, ...]) -> None:
    """A misspelt parameter would be a test that proves nothing."""
    if any(name not in known for name in params):
        raise RefusedError("invalid_request", f"There are only the parameters: {', '.join(known)}")


def _chosen(params: Mapping[str, str], provider: Provider, faults: tuple[Fault, ...]) -> tuple[Person, Fault | None]:
    choice = choice_in(params, provider, faults=faults)
    if choice is None:
        raise RefusedError("invalid_request", f"person= says who signs in. There are: {keys_of(provider)}")
    if choice.person is None:
        raise RefusedError("access_denied", "The person cancelled: the SDK gives the app no token.")
    return choice.person, choice.fault


def _refused(refusal: RefusedError) -> web.Response:
    body = {"error": refusal.error, "error_description": refusal.sentence}
    return web.json_response(body, status=400, headers=_HEADERS)
