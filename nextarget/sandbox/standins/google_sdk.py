"""The claims of Google's id_tokens, and Google's SDK inside an app."""

import secrets
from collections.abc import Mapping

from aiohttp import web

from nextarget.model import Provider
from nextarget.sandbox.clients.google import GoogleClient
from nextarget.sandbox.parameters import RefusedError, query_of
from nextarget.sandbox.people import ID_TOKEN_FAULTS, Person
from nextarget.sandbox.standins.grants import Clock
from nextarget.sandbox.standins.id_tokens import Claims, IdTokens, at_hash
from nextarget.sandbox.standins.sdk import HEADERS, chosen, know, refused

GOOGLE = Provider("google")
_PARAMETERS = ("person", "fault", "nonce", "client_id")


def google_claims(
    client: GoogleClient,
    person: Person,
    *,
    audience: str,
    authorized_party: str,
    nonce: str | None,
    access_token: str,
    with_email: bool = True,
) -> Claims:
    """Google's claims about a person, without the times
    (developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload)."""
    claims: Claims = {
        "iss": client.issuer,
        "azp": authorized_party,
        "aud": audience,
        "sub": person.subject(GOOGLE),
        "at_hash": at_hash(access_token),
    }
    if nonce is not None:
        claims["nonce"] = nonce
    if with_email and person.email is not None:
        claims |= {"email": person.email, "email_verified": person.email_verified}
    return claims


def new_access_token() -> str:
    """An access token in Google's format. No route of the sandbox accepts it, because sign-in does not use it."""
    return f"ya29.sandbox-{secrets.token_urlsafe(48)}"


class GoogleSdk:
    """Credential Manager on Android, Google Sign-In on iOS: an id_token for the app's server."""

    def __init__(self, client: GoogleClient, id_tokens: IdTokens, now: Clock) -> None:
        self._client = client
        self._id_tokens = id_tokens
        self._now = now

    async def sign_in(self, request: web.Request) -> web.Response:
        """`{"id_token", "access_token"}`. The audience is the server's client id, or `client_id=` if the app sends it.

        `azp` is always the app's own client id (developers.google.com/identity/sign-in/ios/backend-auth).
        """
        try:
            params = query_of(request)
            know(params, _PARAMETERS)
            audience = self._audience(params)
            person, fault = chosen(params, GOOGLE, ID_TOKEN_FAULTS)
        except RefusedError as refusal:
            return refused(refusal)
        access_token = new_access_token()
        claims = google_claims(
            self._client,
            person,
            audience=audience,
            authorized_party=self._authorized_party(audience),
            nonce=params.get("nonce"),
            access_token=access_token,
        )
        id_token = await self._id_tokens.issue(claims, fault, int(self._now()))
        return web.json_response({"id_token": id_token, "access_token": access_token}, headers=HEADERS)

    def _audience(self, params: Mapping[str, str]) -> str:
        known = (self._client.client_id, *self._client.client_ids)
        audience = params.get("client_id", self._client.client_id)
        if audience not in known:
            raise RefusedError("invalid_client", f"client_id= is not configured. There are: {', '.join(known)}")
        return audience

    def _authorized_party(self, audience: str) -> str:
        apps = self._client.client_ids
        return audience if audience in apps else next(iter(apps), audience)
