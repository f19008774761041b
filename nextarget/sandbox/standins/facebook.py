"""The stand-in Facebook, for one app.

It has the Login dialog and the code exchange (https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow),
and the keys of Limited Login. With the scope `openid`, it also follows
https://developers.facebook.com/docs/facebook-login/guides/advanced/oidc-token. The Graph API is in
`facebook_graph.py`, and the SDK inside an app in `facebook_sdk.py`.

A program can append `&person=KEY[&fault=NAME]` to the dialog's URL, and is redirected without a page.
"""

import hmac
import secrets
from collections.abc import Mapping
from typing import ClassVar

from aiohttp import web

from nextarget.sandbox.clients.facebook import FacebookClient
from nextarget.sandbox.mishaps import mishap
from nextarget.sandbox.parameters import RefusedError, query_of
from nextarget.sandbox.people import TOKEN_ENDPOINT_FAULTS, Fault, faults_of
from nextarget.sandbox.standins.chooser import Choice, account_page, choice_in, redirect, refusal_page
from nextarget.sandbox.standins.facebook_graph import (
    OTHER_APP_ID,
    USER_TOKEN_SECONDS,
    VERSION,
    Graph,
    GraphError,
    UserTokens,
    graph_error,
    params_of,
)
from nextarget.sandbox.standins.facebook_sdk import FACEBOOK, FacebookSdk, limited_login_claims
from nextarget.sandbox.standins.grants import PROVIDER_CODE_SECONDS, BoundedStore, Clock, Grant
from nextarget.sandbox.standins.id_tokens import IdTokens
from nextarget.sandbox.standins.pkce import CHALLENGE, verifies

JWKS_CACHE_SECONDS = 3600
_PERMISSIONS = frozenset({"public_profile", "email", "openid"})
_AUTH_TYPES = frozenset({"reauthenticate", "rerequest"})
_FRAGMENT = "#_=_"
_ERROR_500 = {
    "error": {
        "message": "An unknown error has occurred.",
        "type": "OAuthException",
        "code": 1,
        "fbtrace_id": "Asandboxsandboxsandbox1",
    }
}


class StandInFacebook:
    """The Login dialog, the code exchange, `/me` and `/debug_token` of the Graph API, and the keys of Limited Login."""

    people: ClassVar[Mapping[str, str]] = {
        "ada": "10224601733318501",
        "katherine": "10158844207715503",
        "augusta": "3917624885011205",
        "zoe": "2481063305172808",
        "bobby": "1640287753319909",
        "max": "4120998316620410",
    }
    """Facebook's own id of a person has 15 to 17 digits. A person has a different id in another app."""
    faults: ClassVar[tuple[Fault, ...]] = (
        *TOKEN_ENDPOINT_FAULTS,
        Fault.MISSING_TOKEN,
        Fault.MISSING_ID,
        Fault.ODD_TYPES,
        Fault.GRAPH_ERROR,
        Fault.RATE_LIMITED,
        Fault.GRAPH_UNKNOWN,
        Fault.GRAPH_DOWN,
        Fault.BLOCKED,
        Fault.SESSION_ENDED,
        Fault.DIALOG_CLOSED,
        Fault.FOREIGN_APP,
        Fault.OTHER_APP,
        Fault.OTHER_USER,
        Fault.INVALID_TOKEN,
    )
    sdk: ClassVar[tuple[str, ...]] = ("person=ada&kind=limited&nonce=$NONCE", "person=ada&kind=classic")

    def __init__(self, client: FacebookClient, *, now: Clock, slow_seconds: float) -> None:
        self._client = client
        self._now = now
        self._slow_seconds = slow_seconds
        self._grants: BoundedStore[Grant] = BoundedStore(lifetime=PROVIDER_CODE_SECONDS, now=now)
        self._tokens = UserTokens(now)
        self._graph = Graph(client, self._tokens)
        self._id_tokens = IdTokens(client.private_key, other_audience=OTHER_APP_ID)
        self._sdk = FacebookSdk(client, self._id_tokens, self._tokens, now)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add all routes. As at Facebook, the dialog and the Graph API answer with and without a Graph version in the
        path. Routes that make a code or a token do not answer HEAD."""
        router.add_get("/sandbox/facebook/limited/jwks", self.jwks, name="sandbox-facebook-jwks")
        router.add_get("/sandbox/facebook/sdk", self._sdk.sign_in, name="sandbox-facebook-sdk", allow_head=False)
        for base, suffix in ((f"/sandbox/facebook/{VERSION}", ""), ("/sandbox/facebook", "-unversioned")):
            names = f"sandbox-facebook-{{}}{suffix}"
            router.add_get(f"{base}/dialog/oauth", self.dialog, name=names.format("dialog"), allow_head=False)
            exchange = router.add_resource(f"{base}/oauth/access_token", name=names.format("access-token"))
            exchange.add_route("GET", self.access_token)
            exchange.add_route("POST", self.access_token)
            router.add_get(f"{base}/me", self._graph.me, name=names.format("me"))
            router.add_get(f"{base}/debug_token", self._graph.debug_token, name=names.format("debug-token"))

    async def dialog(self, request: web.Request) -> web.Response:
        """The Login dialog ("Invoking the Login Dialog and Setting the Redirect URL")."""
        try:
            params = query_of(request)
            scopes = self._requested(params)
            oidc = "openid" in scopes
            playable = [script.fault for script in faults_of(FACEBOOK, with_id_token=oidc)]
            choice = choice_in(params, FACEBOOK, faults=playable)
        except RefusedError as refusal:
            return refusal_page(FACEBOOK, refusal)
        if choice is None:
            return account_page(FACEBOOK, request, params, with_id_token=oidc)
        return self._decided(params, choice, scopes)

    async def access_token(self, request: web.Request) -> web.Response:
        """The code exchange ("Exchanging Code for an Access Token"), by GET or by POST."""
        try:
            params = await params_of(request)
            self._check_client(params)
            grant = self._redeemable(params)
            instead = await mishap(request, grant.fault, slow_seconds=self._slow_seconds, error_body=_ERROR_500)
            if instead is not None:
                return instead
            _spend(grant)
        except GraphError as error:
            return graph_error(error)
        answer: dict[str, object] = {"token_type": "bearer", "expires_in": USER_TOKEN_SECONDS}
        if grant.fault is not Fault.MISSING_TOKEN:
            answer = {"access_token": self._tokens.issue(grant.person, grant.fault, grant.scopes), **answer}
        if "openid" in grant.scopes and grant.fault is not Fault.MISSING_ID_TOKEN:
            answer["id_token"] = await self._id_token(grant)
        return web.json_response(answer, headers={"Cache-Control": "private, no-cache, no-store"})

    async def jwks(self, _request: web.Request) -> web.Response:
        """The keys of Limited Login (limited.facebook.com/.well-known/oauth/openid/jwks/)."""
        cache = f"public, max-age={JWKS_CACHE_SECONDS}"
        return web.json_response(self._id_tokens.jwks(), headers={"Cache-Control": cache})

    def _requested(self, params: Mapping[str, str]) -> frozenset[str]:
        """The permissions of the request, after Facebook's checks. `public_profile` is always one of them."""
        if params.get("client_id") != self._client.client_id:
            raise RefusedError("Invalid App ID", "The provided app ID does not look like a valid app ID.")
        if params.get("redirect_uri") != self._client.redirect_uri:
            raise RefusedError(
                "URL Blocked", "This redirect failed because the redirect URI is not among the app's own."
            )
        if params.get("response_type", "code") != "code":
            raise RefusedError("Invalid response_type", "The sandbox knows response_type=code alone.")
        if set(params.get("auth_type", "rerequest").split(",")) - _AUTH_TYPES:
            raise RefusedError("Invalid auth_type", "The sandbox knows reauthenticate and rerequest, comma-separated.")
        scopes = frozenset(params.get("scope", "").replace(",", " ").split())
        if "config_id" in params:
            return _configured(params)
        if scopes - _PERMISSIONS:
            raise RefusedError("Invalid Scopes", "The sandbox knows the permissions public_profile, email and openid.")
        if "code_challenge" in params:
            _check_challenge(params)
        return scopes | {"public_profile"}

    def _decided(self, params: Mapping[str, str], choice: Choice, scopes: frozenset[str]) -> web.Response:
        """Redirect to the app. Facebook appends `#_=_` to the redirect; a browser keeps it in the redirects that
        follow."""
        redirect_uri, state = params["redirect_uri"], params.get("state")
        if choice.person is None:
            denied = {
                "error": "access_denied",
                "error_code": "200",
                "error_description": "Permissions error",
                "error_reason": "user_denied",
                "state": state,
            }
            return redirect(redirect_uri, denied, fragment=_FRAGMENT)
        if choice.fault is Fault.DIALOG_CLOSED:
            closed = {"error_code": "4201", "error_message": "User canceled the Dialog flow", "state": state}
            return redirect(redirect_uri, closed, fragment=_FRAGMENT)
        code = f"AQ{secrets.token_urlsafe(180)}"
        grant = Grant(
            person=choice.person,
            fault=choice.fault,
            redirect_uri=redirect_uri,
            scopes=scopes,
            # Facebook ignores the challenge if the scope does not contain `openid`.
            code_challenge=params.get("code_challenge") if "openid" in scopes else None,
            nonce=params.get("nonce"),
            spent=choice.fault is Fault.CODE_USED,
        )
        self._grants.put(code, grant)
        return redirect(redirect_uri, {"code": code, "state": state}, fragment=_FRAGMENT)

    def _check_client(self, params: Mapping[str, str]) -> None:
        if not params.get("client_id"):
            raise GraphError("Missing client_id parameter.", 101)
        if params["client_id"] != self._client.client_id:
            raise GraphError("Error validating application. Invalid application ID.", 101)
        secret = self._client.client_secret.encode()
        if not hmac.compare_digest(params.get("client_secret", "").encode(), secret):
            raise GraphError("Error validating client secret.", 1)

    def _redeemable(self, params: Mapping[str, str]) -> Grant:
        """The grant of the code. The redirect URI must be exactly the one of the dialog's request."""
        if not params.get("redirect_uri"):
            raise GraphError("Missing redirect_uri parameter.", 191)
        if not params.get("code"):
            raise GraphError("Missing authorization code", 1)
        grant = self._grants.get(params["code"])
        if grant is None:
            raise GraphError("Invalid verification code format.", 100)
        if params["redirect_uri"] != grant.redirect_uri:
            raise GraphError(
                "Error validating verification code. Please make sure your redirect_uri is identical to the one "
                "you used in the OAuth dialog request",
                100,
                subcode=36008,
            )
        _check_verifier(params, grant)
        if grant.spent:
            raise _used()
        return grant

    async def _id_token(self, grant: Grant) -> str:
        """An id_token with the issuer, audience and keys of Limited Login. It has a nonce if the dialog's request had
        one."""
        claims = limited_login_claims(self._client, grant.person, nonce=grant.nonce)
        return await self._id_tokens.issue(claims, grant.fault, int(self._now()))


def _configured(params: Mapping[str, str]) -> frozenset[str]:
    """The permissions of a configuration of Facebook Login for Business. Here, any number is a configuration for user
    access tokens with `email`. The request has to ask for a code explicitly
    (docs/facebook-login/facebook-login-for-business)."""
    if not params["config_id"].isdecimal():
        raise RefusedError("Invalid config_id", "The provided configuration ID does not look like a valid one.")
    if params.get("scope"):
        raise RefusedError("Invalid Scopes", "Here a configuration takes the place of scope.")
    if params.get("override_default_response_type") != "true":
        raise RefusedError(
            "Invalid response_type", "Only override_default_response_type=true lets response_type count."
        )
    return frozenset({"public_profile", "email"})


def _check_challenge(params: Mapping[str, str]) -> None:
    """Facebook also accepts `plain`, and treats an unknown method as `plain`. The sandbox accepts only S256."""
    if params.get("code_challenge_method") != "S256":
        raise RefusedError("Invalid code_challenge_method", "The sandbox knows code_challenge_method=S256 alone.")
    if not CHALLENGE.fullmatch(params["code_challenge"]):
        raise RefusedError("Invalid code_challenge", "code_challenge must be 43 characters of base64url.")


def _check_verifier(params: Mapping[str, str], grant: Grant) -> None:
    """A challenge and a verifier must come together. Facebook's error for a verifier without a challenge is real; the
    other error text is invented in the same style."""
    verifier = params.get("code_verifier")
    if grant.code_challenge is None:
        if verifier is not None:
            raise GraphError("code_verifier param is provided without a code_challenge in authorization request.", 1)
    elif verifier is None or not verifies(verifier, grant.code_challenge):
        raise GraphError("Invalid code verifier.", 1)


def _spend(grant: Grant) -> None:
    """Use the code up. It is checked again, because another request may have used it during the fault `slow`."""
    if grant.spent:
        raise _used()
    grant.spent = True


def _used() -> GraphError:
    return GraphError("This authorization code has been used.", 100, subcode=36009)
