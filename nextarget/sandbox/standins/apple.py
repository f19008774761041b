"""The stand-in Apple, for one Services ID: https://developer.apple.com/documentation/signinwithapplerestapi

What makes Apple different: the answer is a form that the person's browser posts, the client secret is a JWT that we
sign, some people send an email at their first sign-in only, and an email can be an address of Apple's that forwards.

A program can append `&person=KEY[&fault=NAME]` to the authorization URL, and gets the form without a page to choose.
"""

import json
import secrets
from collections.abc import Mapping
from typing import ClassVar

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nextarget.model import Provider
from nextarget.sandbox.clients.apple import AppleClient
from nextarget.sandbox.mishaps import mishap
from nextarget.sandbox.parameters import RefusedError, form_of, query_of
from nextarget.sandbox.people import FIRST_TIME_ONLY, ID_TOKEN_FAULTS, TOKEN_ENDPOINT_FAULTS, Fault, Person
from nextarget.sandbox.rendering import page
from nextarget.sandbox.standins.chooser import Choice, account_page, choice_in, refusal_page
from nextarget.sandbox.standins.grants import BoundedStore, Clock, Grant
from nextarget.sandbox.standins.id_tokens import Claims, IdTokens
from nextarget.sandbox.standins.sdk import HEADERS, chosen, know, refused

APPLE = Provider("apple")
CODE_SECONDS = 300
"""Apple's page on tokens: a code is valid for five minutes."""
TOKEN_SECONDS = 24 * 3600
LONGEST_SECRET_SECONDS = 15_777_000
"""Six months, the longest time that Apple accepts a client secret."""
_AUDIENCE = "https://appleid.apple.com"
_PRIVATE_RELAY = "@privaterelay.appleid.com"
_ERROR_500 = {"error": "server_error"}
_NO_STORE = {"Cache-Control": "no-store"}


class StandInApple:
    """The authorization endpoint, the token endpoint, the published keys, and what the system gives to an app."""

    people: ClassVar[Mapping[str, str]] = {
        "ada": "000815.0f6b5a1e7c3d49288e1f5a7b9c2d4e60.1843",
        "alan": "000912.1a2b3c4d5e6f47089a1b2c3d4e5f6071.1912",
        "adele": "001005.5c6d7e8f90a14b2c8d3e4f5061728394.1945",
        "zoe": "001101.9e8d7c6b5a4f4e3d9c2b1a0f1e2d3c4b.2001",
        "bobby": "001207.2f3e4d5c6b7a48199f8e7d6c5b4a3920.1997",
        "max": "001303.7a8b9c0d1e2f43549a6b7c8d9e0f1a2b.1970",
        "hedy": "001409.3c4d5e6f708142539b6a7c8d9e0f1b2c.1914",
        "mary": "001512.8b7a695847364f2594c3b2a190807f6e.1780",
    }
    """Apple's own id of a person is the same in all apps of a team."""
    faults: ClassVar[tuple[Fault, ...]] = (*TOKEN_ENDPOINT_FAULTS, *ID_TOKEN_FAULTS, Fault.MISSING_ID_TOKEN)
    sdk: ClassVar[tuple[str, ...]] = ("person=ada&nonce=$NONCE",)

    def __init__(self, client: AppleClient, *, now: Clock, slow_seconds: float) -> None:
        self._client = client
        self._now = now
        self._slow_seconds = slow_seconds
        self._public_key = load_pem_private_key(client.private_key.encode(), password=None).public_key()
        self._id_tokens = IdTokens(client.id_token_key, other_audience="org.example.somebodyelse")
        self._grants: BoundedStore[Grant] = BoundedStore(lifetime=CODE_SECONDS, now=now)
        self._tokens: BoundedStore[tuple[str, str]] = BoundedStore(lifetime=TOKEN_SECONDS, now=now)
        """The person and the client id of a token."""
        self._known: set[str] = set()
        """The people who have signed in to this app before, by their key."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        # Routes that make a code or a token do not answer HEAD.
        base = "/sandbox/apple"
        router.add_get(f"{base}/auth/authorize", self.authorize, name="sandbox-apple-authorize", allow_head=False)
        router.add_post(f"{base}/auth/token", self.token, name="sandbox-apple-token")
        router.add_post(f"{base}/auth/revoke", self.revoke, name="sandbox-apple-revoke")
        router.add_get(f"{base}/auth/keys", self.keys, name="sandbox-apple-keys")
        router.add_get(f"{base}/sdk", self.sign_in, name="sandbox-apple-sdk", allow_head=False)

    async def authorize(self, request: web.Request) -> web.Response:
        """The authorization endpoint. An error in the request is shown on a page, as at Apple."""
        try:
            params = query_of(request)
            self._check(params)
            choice = choice_in(params, APPLE)
        except RefusedError as refusal:
            return refusal_page(APPLE, refusal)
        if choice is None:
            return account_page(APPLE, request, params)
        return self._decided(params, choice)

    async def token(self, request: web.Request) -> web.Response:
        """The token endpoint ("Generate and validate tokens")."""
        try:
            form = await form_of(request)
            self._check_client(form)
            grant = self._redeemable(form)
            instead = await mishap(request, grant.fault, slow_seconds=self._slow_seconds, error_body=_ERROR_500)
            if instead is not None:
                return instead
            if grant.spent:  # another request may have used the code during the fault `slow`
                raise RefusedError("invalid_grant", "The code has already been used.")
            grant.spent = True
        except RefusedError as refusal:
            return _refused(refusal)
        answer: dict[str, object] = {
            "access_token": f"a{secrets.token_hex(16)}.0.sandbox.{secrets.token_urlsafe(16)}",
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": f"r{secrets.token_hex(16)}.0.sandbox.{secrets.token_urlsafe(16)}",
        }
        for name in ("access_token", "refresh_token"):
            self._tokens.put(str(answer[name]), (grant.person.key, form["client_id"]))
        if grant.fault is not Fault.MISSING_ID_TOKEN:
            claims = self._claims(grant.person, audience=form["client_id"], nonce=grant.nonce, as_text=True)
            answer["id_token"] = await self._id_tokens.issue(claims, grant.fault, int(self._now()))
        return web.json_response(answer, headers=_NO_STORE)

    async def revoke(self, request: web.Request) -> web.Response:
        """The revocation endpoint ("Revoke tokens"): 200 without a body, for an unknown token too. The next sign-in of
        the person is then a first one again."""
        try:
            form = await form_of(request)
            self._check_client(form)
            if not form.get("token"):
                raise RefusedError("invalid_request", "token is missing.")
        except RefusedError as refusal:
            return _refused(refusal)
        key, client_id = self._tokens.get(form["token"]) or ("", "")
        if client_id == form["client_id"]:
            self._known.discard(key)
        return web.Response(headers=_NO_STORE)

    async def keys(self, _request: web.Request) -> web.Response:
        """The published keys ("Fetch Apple's public key for verifying token signature")."""
        return web.json_response(self._id_tokens.jwks())

    async def sign_in(self, request: web.Request) -> web.Response:
        """What the system gives to an app (`ASAuthorizationAppleIDCredential`): an id_token for the bundle id, whose
        `email_verified` is a boolean here, and a code."""
        try:
            params = query_of(request)
            know(params, ("person", "fault", "nonce"))
            person, fault = chosen(params, APPLE, ID_TOKEN_FAULTS)
        except RefusedError as refusal:
            return refused(refusal)
        claims = self._claims(person, audience=self._client.bundle_id, nonce=params.get("nonce"), as_text=False)
        id_token = await self._id_tokens.issue(claims, fault, int(self._now()))
        grant = Grant(person, None, "", frozenset(), nonce=params.get("nonce"))
        return web.json_response({"id_token": id_token, "authorization_code": self._code(grant)}, headers=HEADERS)

    def _check(self, params: Mapping[str, str]) -> None:
        if params.get("client_id") != self._client.client_id:
            raise RefusedError("invalid_client", "Invalid client.")
        if params.get("redirect_uri") != self._client.redirect_uri:
            raise RefusedError("invalid_request", "Invalid web redirect url.")
        if params.get("response_type") != "code":
            raise RefusedError("unsupported_response_type", "response_type must be code.")
        if set(params.get("scope", "").split()) - {"name", "email"}:
            raise RefusedError("invalid_scope", "scope can be name, email or both.")
        if params.get("scope") and params.get("response_mode") != "form_post":
            raise RefusedError("invalid_request", "response_mode must be form_post when name or email is requested.")

    def _decided(self, params: Mapping[str, str], choice: Choice) -> web.Response:
        """The page whose form the person's browser posts. Apple's page sends it with a script; here is a button."""
        sent = {"state": params["state"]} if "state" in params else {}
        if choice.person is None:
            sent["error"] = "user_cancelled_authorize"
        else:
            scopes = frozenset(params.get("scope", "").split())
            spent = choice.fault is Fault.CODE_USED
            grant = Grant(
                choice.person, choice.fault, params["redirect_uri"], scopes, nonce=params.get("nonce"), spent=spent
            )
            sent["code"] = self._code(grant)
            if choice.person.key not in self._known:
                sent["user"] = _user(choice.person, scopes)
        return page("form_post.html", stand_in="Apple", action=params["redirect_uri"], fields=sent)

    def _code(self, grant: Grant) -> str:
        code = f"c{secrets.token_hex(16)}.0.sandbox.{secrets.token_urlsafe(16)}"
        self._grants.put(code, grant)
        return code

    def _check_client(self, form: Mapping[str, str]) -> None:
        client_id = form.get("client_id", "")
        if client_id not in (self._client.client_id, self._client.bundle_id):
            raise RefusedError("invalid_client", "Unknown client_id.")
        try:
            claims = jwt.decode(
                form.get("client_secret", ""),
                self._public_key,  # type: ignore[arg-type]
                algorithms=["ES256"],
                audience=_AUDIENCE,
                issuer=self._client.team_id,
                subject=client_id,
                options={"require": ["exp", "iat", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise RefusedError("invalid_client", f"The client_secret is not valid: {error}") from None
        if jwt.get_unverified_header(form["client_secret"]).get("kid") != self._client.key_id:
            raise RefusedError("invalid_client", "No key has the kid of the client_secret.")
        if not 0 < claims["exp"] - claims["iat"] <= LONGEST_SECRET_SECONDS:
            raise RefusedError("invalid_client", "The client_secret lives longer than six months.")

    def _redeemable(self, form: Mapping[str, str]) -> Grant:
        """The grant of the code. A code belongs to the client id and the redirect that it was issued to; a code of an
        app has no redirect."""
        if form.get("grant_type") != "authorization_code":
            raise RefusedError("unsupported_grant_type", "grant_type must be authorization_code.")
        grant = self._grants.get(form.get("code", ""))
        if grant is None:
            raise RefusedError("invalid_grant", "The code has expired or has been revoked.")
        if form["client_id"] != (self._client.client_id if grant.redirect_uri else self._client.bundle_id):
            raise RefusedError("invalid_grant", "client_id mismatch. The code was not issued to this client.")
        if form.get("redirect_uri", "") != grant.redirect_uri:
            raise RefusedError("invalid_grant", "redirect_uri mismatch. The code was not issued to it.")
        if grant.spent:
            raise RefusedError("invalid_grant", "The code has already been used.")
        return grant

    def _claims(self, person: Person, *, audience: str, nonce: str | None, as_text: bool) -> Claims:
        """The claims about a person ("Authenticating users with Sign in with Apple"). Apple writes the truth values as
        text or as booleans."""
        claims: Claims = {"iss": self._client.issuer, "aud": audience, "sub": self.people[person.key]}
        if nonce is not None:
            claims |= {"nonce": nonce, "nonce_supported": True}
        if person.email is not None and not (person.key in FIRST_TIME_ONLY and person.key in self._known):
            said = {"email_verified": person.email_verified}
            if person.email.endswith(_PRIVATE_RELAY):
                said["is_private_email"] = True
            claims["email"] = person.email
            claims |= {name: str(value).lower() if as_text else value for name, value in said.items()}
        self._known.add(person.key)
        return claims


def _refused(refusal: RefusedError) -> web.Response:
    body = {"error": refusal.error, "error_description": refusal.sentence}
    return web.json_response(body, status=400, headers=_NO_STORE)


def _user(person: Person, scopes: frozenset[str]) -> str:
    """The field `user` of a first sign-in: JSON with what the scopes ask for."""
    user: dict[str, object] = {}
    if "name" in scopes:
        first, _, last = person.name.partition(" ")
        user["name"] = {"firstName": first, "lastName": last}
    if "email" in scopes and person.email is not None:
        user["email"] = person.email
    return json.dumps(user)
