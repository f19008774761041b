"""The stand-in Google, for one registered client: OpenID Connect with the authorization code flow, as on
https://developers.google.com/identity/openid-connect/openid-connect. The SDK inside an app is in `google_sdk.py`.

A program can append `&person=KEY[&fault=NAME]` to the authorization URL, and is redirected without a page.
"""

import hmac
import secrets
from collections.abc import Mapping
from typing import ClassVar

from aiohttp import web

from nextarget.sandbox.clients.google import GoogleClient
from nextarget.sandbox.mishaps import mishap
from nextarget.sandbox.parameters import RefusedError, form_of, query_of
from nextarget.sandbox.people import ID_TOKEN_FAULTS, TOKEN_ENDPOINT_FAULTS, Fault
from nextarget.sandbox.standins.chooser import Choice, account_page, choice_in, redirect, refusal_page
from nextarget.sandbox.standins.google_sdk import GOOGLE, GoogleSdk, google_claims, new_access_token
from nextarget.sandbox.standins.grants import PROVIDER_CODE_SECONDS, BoundedStore, Clock, Grant
from nextarget.sandbox.standins.id_tokens import OTHER_ISSUER, IdTokens
from nextarget.sandbox.standins.pkce import CHALLENGE, verifies

ACCESS_TOKEN_SECONDS = 3599
_OTHER_CLIENT_ID = "999999999999-somebodyelse.apps.googleusercontent.com"
JWKS_CACHE_SECONDS = 21600
_EMAIL_SCOPE = "https://www.googleapis.com/auth/userinfo.email"
_PROMPTS = frozenset({"none", "consent", "select_account"})
_NO_STORE = {"Cache-Control": "no-cache, no-store, max-age=0, must-revalidate", "Pragma": "no-cache"}
_ERROR_500 = {"error": "internal_failure", "error_description": "Backend Error"}


class TokenError(Exception):
    """An error answer of the token endpoint (RFC 6749, 5.2), with Google's texts."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status


class StandInGoogle:
    """The authorization endpoint, the token endpoint and the published keys."""

    people: ClassVar[Mapping[str, str]] = {
        "ada": "108204268033311374501",
        "grace": "110559321478230416602",
        "alan": "103317720945518836704",
        "adele": "115620099172344805806",
        "zoe": "101774300825561193307",
        "bobby": "117003518864209957708",
        "max": "105881246730017742209",
    }
    """Google's own id of a person has up to 255 characters; in practice, it has 21 digits."""
    faults: ClassVar[tuple[Fault, ...]] = (
        *TOKEN_ENDPOINT_FAULTS,
        *ID_TOKEN_FAULTS,
        Fault.WRONG_ISS_PARAMETER,
        Fault.NO_ISS_PARAMETER,
        Fault.MISSING_ID_TOKEN,
    )
    sdk: ClassVar[tuple[str, ...]] = ("person=ada&nonce=$NONCE",)

    def __init__(self, client: GoogleClient, *, now: Clock, slow_seconds: float) -> None:
        self._client = client
        self._now = now
        self._slow_seconds = slow_seconds
        self._id_tokens = IdTokens(client.private_key, other_audience=_OTHER_CLIENT_ID)
        self._grants: BoundedStore[Grant] = BoundedStore(lifetime=PROVIDER_CODE_SECONDS, now=now)
        self._sdk = GoogleSdk(client, self._id_tokens, now)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        # Routes that make a code or a token do not answer HEAD.
        router.add_get("/sandbox/google/authorize", self.authorize, name="sandbox-google-authorize", allow_head=False)
        router.add_post("/sandbox/google/token", self.token, name="sandbox-google-token")
        router.add_get("/sandbox/google/jwks", self.jwks, name="sandbox-google-jwks")
        path = "/sandbox/google/.well-known/risc-configuration"
        router.add_get(path, self.risc_configuration, name="sandbox-google-risc-configuration")
        router.add_get("/sandbox/google/sdk", self._sdk.sign_in, name="sandbox-google-sdk", allow_head=False)

    async def authorize(self, request: web.Request) -> web.Response:
        """The authorization endpoint ("Send an authentication request to Google").

        Nobody stays signed in at the sandbox. So `prompt=none` without `person=` gives `login_required` (OpenID Connect
        Core, 3.1.2.6). The other prompts change nothing, because the account page is shown anyway.
        As at Google, an error in the request is shown on a page, and never sent to the redirect.
        """
        try:
            params = query_of(request)
            self._check(params)
            choice = choice_in(params, GOOGLE)
        except RefusedError as refusal:
            return refusal_page(GOOGLE, refusal)
        if choice is None and params.get("prompt") == "none":
            return redirect(params["redirect_uri"], {"error": "login_required", "state": params.get("state")})
        if choice is None:
            return account_page(GOOGLE, request, params)
        return self._decided(params, choice)

    async def token(self, request: web.Request) -> web.Response:
        """The token endpoint ("Exchange code for access token and ID token"). The form contains the client secret."""
        try:
            form = await form_of(request)
            self._check_client(form)
            grant = self._redeemable(form)
            instead = await mishap(request, grant.fault, slow_seconds=self._slow_seconds, error_body=_ERROR_500)
            if instead is not None:
                return instead
            _spend(grant)
        except RefusedError as refusal:
            return _error(TokenError(refusal.error, refusal.sentence))
        except TokenError as error:
            return _error(error)
        access_token = new_access_token()
        now = int(self._now())
        claims = google_claims(
            self._client,
            grant.person,
            audience=self._client.client_id,
            authorized_party=self._client.client_id,
            nonce=grant.nonce,
            access_token=access_token,
            with_email="email" in grant.scopes,
        )
        answer = {
            "access_token": access_token,
            "expires_in": ACCESS_TOKEN_SECONDS,
            "scope": _granted(grant.scopes),
            "token_type": "Bearer",
        }
        if grant.fault is not Fault.MISSING_ID_TOKEN:
            answer["id_token"] = await self._id_tokens.issue(claims, grant.fault, now)
        return web.json_response(answer, headers=_NO_STORE)

    async def jwks(self, _request: web.Request) -> web.Response:
        """The published keys. As at Google, Cache-Control says how long they may be cached."""
        cache = f"public, max-age={JWKS_CACHE_SECONDS}, must-revalidate, no-transform"
        return web.json_response(self._id_tokens.jwks(), headers={"Cache-Control": cache})

    async def risc_configuration(self, _request: web.Request) -> web.Response:
        """Who signs security events, and with which keys: here with those of id_tokens. As at Google, the issuer ends
        in a slash (https://developers.google.com/identity/protocols/risc)."""
        return web.json_response({"issuer": f"{self._client.issuer}/", "jwks_uri": f"{self._client.issuer}/jwks"})

    def _check(self, params: Mapping[str, str]) -> None:
        """Google's checks, and one more: Google accepts requests without PKCE, but the sandbox does not."""
        if params.get("client_id") != self._client.client_id:
            raise RefusedError("invalid_client", "The OAuth client was not found.")
        if params.get("redirect_uri") != self._client.redirect_uri:
            raise RefusedError("redirect_uri_mismatch", "redirect_uri is not the one registered for the client.")
        if params.get("response_type") != "code":
            raise RefusedError("unsupported_response_type", "response_type must be code.")
        if "openid" not in params.get("scope", "").split():
            raise RefusedError("invalid_scope", "scope must contain openid.")
        if params.get("code_challenge_method") != "S256":
            raise RefusedError("invalid_request", "code_challenge_method must be S256 (RFC 7636, 4.3).")
        if not CHALLENGE.fullmatch(params.get("code_challenge", "")):
            raise RefusedError("invalid_request", "code_challenge must be 43 characters of base64url.")
        prompts = params.get("prompt", "").split()
        if set(prompts) - _PROMPTS or ("none" in prompts and len(prompts) > 1):
            raise RefusedError("invalid_request", "prompt must be none, or consent, select_account or both.")

    def _decided(self, params: Mapping[str, str], choice: Choice) -> web.Response:
        redirect_uri, state = params["redirect_uri"], params.get("state")
        if choice.person is None:
            return redirect(redirect_uri, {"error": "access_denied", "state": state})
        code = f"4/0A{secrets.token_urlsafe(48)}"
        grant = Grant(
            person=choice.person,
            fault=choice.fault,
            redirect_uri=redirect_uri,
            scopes=frozenset(params["scope"].split()),
            code_challenge=params["code_challenge"],
            nonce=params.get("nonce"),
            spent=choice.fault is Fault.CODE_USED,
        )
        self._grants.put(code, grant)
        return redirect(
            redirect_uri,
            {
                "state": state,
                "iss": self._iss_parameter(choice.fault),
                "code": code,
                "scope": _granted(grant.scopes),
                "authuser": "0",
                "prompt": "none",
            },
        )

    def _iss_parameter(self, fault: Fault | None) -> str | None:
        """The parameter `iss` of the redirect, which Google sends (RFC 9207, 2;
        `authorization_response_iss_parameter_supported` in
        developers.google.com/identity/openid-connect/reference#discovery-document)."""
        match fault:
            case Fault.NO_ISS_PARAMETER:
                return None
            case Fault.WRONG_ISS_PARAMETER:
                return OTHER_ISSUER
            case _:
                return self._client.issuer

    def _check_client(self, form: Mapping[str, str]) -> None:
        if not form.get("client_id"):
            raise TokenError("invalid_request", "Could not determine client ID from request.")
        if form["client_id"] != self._client.client_id:
            raise TokenError("invalid_client", "The OAuth client was not found.", status=401)
        if not form.get("client_secret"):
            raise TokenError("invalid_request", "client_secret is missing.")
        secret = self._client.client_secret.encode()
        if not hmac.compare_digest(form["client_secret"].encode(), secret):
            raise TokenError("invalid_client", "Unauthorized", status=401)

    def _redeemable(self, form: Mapping[str, str]) -> Grant:
        """The grant of the code, after the checks of all parameters that the code is bound to (RFC 6749, 4.1.3)."""
        if "grant_type" not in form:
            raise TokenError("invalid_request", "Required parameter is missing: grant_type")
        if form["grant_type"] != "authorization_code":
            raise TokenError("unsupported_grant_type", "Invalid grant_type")
        if not form.get("code"):
            raise TokenError("invalid_request", "Missing required parameter: code")
        grant = self._grants.get(form["code"])
        if grant is None:
            raise TokenError("invalid_grant", "Malformed auth code.")
        if form.get("redirect_uri") != grant.redirect_uri:
            raise TokenError("redirect_uri_mismatch", "Bad Request")
        verifier = form.get("code_verifier")
        if not verifier:
            raise TokenError("invalid_grant", "Missing code verifier.")
        if not verifies(verifier, grant.code_challenge or ""):
            raise TokenError("invalid_grant", "Invalid code verifier.")
        if grant.spent:
            raise TokenError("invalid_grant", "Bad Request")
        return grant


def _spend(grant: Grant) -> None:
    """Use the code up. It is checked again, because another request may have used it during the fault `slow`."""
    if grant.spent:
        raise TokenError("invalid_grant", "Bad Request")
    grant.spent = True


def _granted(scopes: frozenset[str]) -> str:
    """The granted scope. Google writes `email` as a URL too. Scopes that are unknown here are not granted."""
    email = ("email", _EMAIL_SCOPE) if scopes & {"email", _EMAIL_SCOPE} else ()
    return " ".join((*email, "openid"))


def _error(error: TokenError) -> web.Response:
    body = {"error": error.error, "error_description": error.description}
    return web.json_response(body, status=error.status, headers=_NO_STORE)
