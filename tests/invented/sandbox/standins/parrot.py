"""The stand-in for the invented provider: its callback is a form, and it sends an email only at the first sign-in."""

import secrets
from collections.abc import Mapping
from html import escape
from typing import ClassVar

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nextarget.model import Provider
from nextarget.sandbox.mishaps import mishap
from nextarget.sandbox.parameters import RefusedError, form_of, query_of
from nextarget.sandbox.people import ID_TOKEN_FAULTS, TOKEN_ENDPOINT_FAULTS, Fault, Person
from nextarget.sandbox.rendering import PAGE_HEADERS
from nextarget.sandbox.standins.chooser import Choice, account_page, choice_in, refusal_page
from nextarget.sandbox.standins.grants import PROVIDER_CODE_SECONDS, BoundedStore, Clock, Grant
from nextarget.sandbox.standins.id_tokens import Claims, IdTokens
from nextarget.sandbox.standins.sdk import HEADERS, chosen, know, refused
from tests.invented.sandbox.clients.parrot import ParrotClient

PARROT = Provider("parrot")
LONGEST_SECRET_SECONDS = 600


class StandInParrot:
    """The authorization endpoint, the token endpoint, the published keys and the SDK."""

    people: ClassVar[Mapping[str, str]] = {"ada": "000123.ada.0815", "grace": "000124.grace.0815"}
    faults: ClassVar[tuple[Fault, ...]] = (*TOKEN_ENDPOINT_FAULTS, *ID_TOKEN_FAULTS)
    sdk: ClassVar[tuple[str, ...]] = ("person=ada&nonce=$NONCE",)

    def __init__(self, client: ParrotClient, *, now: Clock, slow_seconds: float) -> None:
        self._client = client
        self._now = now
        self._slow_seconds = slow_seconds
        self._id_tokens = IdTokens(client.id_token_key, other_audience="com.somebody.else")
        self._grants: BoundedStore[Grant] = BoundedStore(lifetime=PROVIDER_CODE_SECONDS, now=now)
        self._known: set[str] = set()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/sandbox/parrot/authorize", self.authorize, name="sandbox-parrot-authorize", allow_head=False)
        router.add_post("/sandbox/parrot/token", self.token, name="sandbox-parrot-token")
        router.add_get("/sandbox/parrot/keys", self.keys, name="sandbox-parrot-keys")
        router.add_get("/sandbox/parrot/sdk", self.sign_in, name="sandbox-parrot-sdk", allow_head=False)

    async def authorize(self, request: web.Request) -> web.Response:
        try:
            params = query_of(request)
            if params.get("client_id") != self._client.client_id or params.get("response_mode") != "form_post":
                raise RefusedError("invalid_client", "Unknown client, or no response_mode=form_post.")
            if params.get("redirect_uri") != self._client.redirect_uri:
                raise RefusedError("invalid_redirect", "redirect_uri is not the one registered for the client.")
            choice = choice_in(params, PARROT)
        except RefusedError as refusal:
            return refusal_page(PARROT, refusal)
        if choice is None:
            return account_page(PARROT, request, params)
        return self._decided(params, choice)

    def _decided(self, params: Mapping[str, str], choice: Choice) -> web.Response:
        sent = {"state": params.get("state", "")}
        if choice.person is None:
            sent["error"] = "user_cancelled_authorize"
        else:
            sent["code"] = secrets.token_urlsafe(32)
            grant = Grant(choice.person, choice.fault, params["redirect_uri"], frozenset(), nonce=params.get("nonce"))
            grant.spent = choice.fault is Fault.CODE_USED
            self._grants.put(sent["code"], grant)
            sent["user"] = f'{{"name": "{choice.person.name}", "email": "{choice.person.email}"}}'
        fields = "".join(f'<input type="hidden" name="{name}" value="{escape(text)}">' for name, text in sent.items())
        form = f'<form method="post" action="{escape(params["redirect_uri"])}">{fields}<button>Go on</button></form>'
        return web.Response(
            text=f"<!doctype html><title>Parrot</title><main>{form}</main>",
            content_type="text/html",
            headers=PAGE_HEADERS,
        )

    async def token(self, request: web.Request) -> web.Response:
        form = await form_of(request)
        if not self._signed_by_us(form.get("client_secret", "")):
            return web.json_response({"error": "invalid_client"}, status=400)
        grant = self._grants.get(form.get("code", ""))
        if grant is None or grant.spent or form.get("redirect_uri") != grant.redirect_uri:
            return web.json_response({"error": "invalid_grant"}, status=400)
        instead = await mishap(request, grant.fault, slow_seconds=self._slow_seconds, error_body={"error": "sorry"})
        if instead is not None:
            return instead
        grant.spent = True
        claims = self._claims(grant.person, audience=self._client.client_id, nonce=grant.nonce)
        return web.json_response({"id_token": await self._id_tokens.issue(claims, grant.fault, int(self._now()))})

    async def keys(self, _request: web.Request) -> web.Response:
        return web.json_response(self._id_tokens.jwks())

    async def sign_in(self, request: web.Request) -> web.Response:
        """The SDK's answer to an app: an id_token for the app's own client id."""
        try:
            params = query_of(request)
            know(params, ("person", "fault", "nonce"))
            person, fault = chosen(params, PARROT, ID_TOKEN_FAULTS)
        except RefusedError as refusal:
            return refused(refusal)
        claims = self._claims(person, audience=self._client.app_client_id, nonce=params.get("nonce"))
        token = await self._id_tokens.issue(claims, fault, int(self._now()))
        return web.json_response({"id_token": token}, headers=HEADERS)

    def _claims(self, person: Person, *, audience: str, nonce: str | None) -> Claims:
        claims: Claims = {"iss": self._client.issuer, "aud": audience, "sub": self.people[person.key]}
        if nonce is not None:
            claims["nonce"] = nonce
        if person.key not in self._known:
            claims |= {"email": person.email, "email_verified": str(person.email_verified).lower()}
        self._known.add(person.key)
        return claims

    def _signed_by_us(self, client_secret: str) -> bool:
        public = load_pem_private_key(self._client.private_key.encode(), password=None).public_key()
        try:
            claims = jwt.decode(
                client_secret,
                public,  # type: ignore[arg-type]
                algorithms=["ES256"],
                audience=self._client.issuer,
                issuer=self._client.client_id,
                options={"require": ["exp", "iat"]},
            )
        except jwt.PyJWTError:
            return False
        key_id = jwt.get_unverified_header(client_secret).get("kid")
        return key_id == self._client.key_id and 0 < claims["exp"] - claims["iat"] <= LONGEST_SECRET_SECONDS
