"""Apple: OpenID Connect, authorization code flow, with a form as callback and a client secret that we sign.

https://developer.apple.com/documentation/signinwithapplerestapi
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from nextarget.errors import (
    AccessDenied,
    InvalidRequest,
    ProblemError,
    ProviderFailed,
    ProviderRefused,
    ProviderUnavailable,
)
from nextarget.model import NO_WISHES, Identity, Millis, Provider, RevocableGrant, Secret, Wishes
from nextarget.providers.apple_events import read_notification
from nextarget.providers.base import (
    CallbackMethod,
    NativeIdentity,
    Revokes,
    SecurityEvent,
    SubjectTokenType,
    TellsEvents,
    with_parameters,
)
from nextarget.providers.error_words import oauth_note
from nextarget.providers.http.client import Answer, ProviderHttp
from nextarget.providers.jwks import JwksCache
from nextarget.providers.settings.apple import AppleSettings
from nextarget.tokens.client_assertions import sign_client_assertion
from nextarget.tokens.login import LoginSecrets
from nextarget.tokens.provider_tokens import (
    MAX_TOKEN_LENGTH,
    check_nonce,
    identity_of,
    issued_nonce,
)

if TYPE_CHECKING:
    from nextarget.providers.probes.asking import Asker
    from nextarget.providers.probes.findings import Checks

SECRET_SECONDS = 600
"""How long a client secret is valid. Apple allows up to six months."""
RENEW_SECONDS = 300
"""How long a client secret is used, so that it is still valid on the way and towards a clock that is not exact."""
_AUDIENCE = "https://appleid.apple.com"
_LATER = frozenset({"server_error", "temporarily_unavailable"})
"""Temporary errors (RFC 6749, 4.1.2.1). Apple's page on errors of the token endpoint does not list them."""


class Apple(TellsEvents, Revokes):
    """The name that Apple may send in the form of the first sign-in is not read: no part of this server needs it. Nor
    is `is_private_email`: an address of Apple's that forwards mail is an email like any other."""

    name = Provider("apple")
    callback_method = CallbackMethod.FORM_POST
    asks_person = False
    error_words = frozenset({"user_cancelled_authorize"})
    meanings: Mapping[str, type[ProblemError]] = {"user_cancelled_authorize": AccessDenied}
    """https://developer.apple.com/documentation/signinwithapple/incorporating-sign-in-with-apple-into-other-platforms"""

    def __init__(self, settings: AppleSettings, http: ProviderHttp) -> None:
        self._settings = settings
        self.http = http
        # A request for a scope must ask for a form as answer. There is no PKCE: Apple's page on the request does not
        # have its parameters, and the nonce binds the code to the login.
        # https://developer.apple.com/documentation/signinwithapplerestapi/request-an-authorization-to-the-sign-in-with-apple-server.
        query = {
            "client_id": settings.client_id,
            "redirect_uri": settings.redirect_uri,
            "response_type": "code",
            "response_mode": "form_post",
            "scope": "email",
        }
        self._authorize = with_parameters(settings.authorization_endpoint, query)
        self._secrets: dict[str, tuple[int, str]] = {}
        self._client_ids = (settings.client_id, *settings.client_ids)
        self._keys = JwksCache(http, settings.jwks_uri)
        self.issuers: tuple[str, ...] = (settings.issuer,)

    def authorization_url(self, secrets: LoginSecrets, *, ask_person: bool, wishes: Wishes = NO_WISHES) -> str:
        """Apple has no parameters for prompts and login hints."""
        return f"{self._authorize}&{urlencode({'state': secrets.state, 'nonce': secrets.nonce})}"

    async def identify(self, code: str, secrets: LoginSecrets, now: Millis) -> Identity:
        identity, _ = await self.identify_to_revoke(code, secrets, now)
        return identity

    async def identify_to_revoke(
        self, code: str, secrets: LoginSecrets, now: Millis
    ) -> tuple[Identity, RevocableGrant | None]:
        form = {"code": code, "redirect_uri": self._settings.redirect_uri}
        answer, claims = await self._redeem(form, self._settings.client_id, now)
        check_nonce(claims, secrets.nonce)
        identity = identity_of(self.name, claims)
        return identity, _grant(answer, identity, self._settings.client_id)

    async def identify_native(
        self, token: str, kind: SubjectTokenType, *, raw_nonce: str | None, now: Millis
    ) -> NativeIdentity:
        if kind is not SubjectTokenType.ID_TOKEN:
            raise InvalidRequest("Of Apple, present the id_token (identityToken): it has no other token for an app.")
        claims = await self._verified(token, self._client_ids, now)
        return NativeIdentity(identity_of(self.name, claims), issued_nonce(claims, raw_nonce))

    async def redeem_to_revoke(self, code: str, now: Millis) -> RevocableGrant:
        """A code belongs to the bundle id of the app that got it, and has no redirect. It does not say which app that
        is, so the client ids are tried in turn: `invalid_grant` may mean another client id."""
        refusal: ProviderRefused | ProviderFailed = ProviderFailed(note="apple: APPLE_CLIENT_IDS names no app")
        for client_id in self._settings.client_ids:
            try:
                answer, claims = await self._redeem({"code": code}, client_id, now)
            except (ProviderRefused, ProviderFailed) as error:
                refusal = error
                continue
            grant = _grant(answer, identity_of(self.name, claims), client_id)
            if grant is None:
                raise ProviderFailed(note="apple: no refresh_token in the token answer")
            return grant
        raise refusal

    async def revoke(self, grant: RevocableGrant, now: Millis) -> None:
        """https://developer.apple.com/documentation/signinwithapplerestapi/revoke-tokens"""
        form = {
            "client_id": grant.client_id,
            "client_secret": self._client_secret(grant.client_id, now // 1000),
            "token": grant.token,
            "token_type_hint": "refresh_token",
        }
        answer = await self.http.revoke(self._settings.revocation_endpoint, form)
        if not answer.ok:
            raise ProviderFailed(note=_note("revocation", answer))

    def probes(self, asker: "Asker", secrets: LoginSecrets, now: Millis) -> "Checks":
        from nextarget.providers.probes.apple import checks

        secret = Secret(self._client_secret(self._settings.client_id, now // 1000))
        return checks(self._settings, secret, self.authorization_url(secrets, ask_person=False), asker)

    async def security_event(self, body: str) -> SecurityEvent:
        return await read_notification(body, self._keys, client_ids=self._client_ids, issuers=self.issuers)

    async def _verified(self, id_token: str, audiences: tuple[str, ...], now: Millis) -> Mapping[str, Any]:
        return await self._keys.verified(id_token, audiences=audiences, issuers=self.issuers, now=now)

    async def _redeem(self, form: Mapping[str, str], client_id: str, now: Millis) -> tuple[Answer, Mapping[str, Any]]:
        """Exchange a code that was issued to this client id. Returns the answer, and the verified claims in it.
        https://developer.apple.com/documentation/signinwithapplerestapi/generate-and-validate-tokens"""
        secret = self._client_secret(client_id, now // 1000)
        ours = {"grant_type": "authorization_code", "client_id": client_id, "client_secret": secret}
        answer = await self.http.post(self._settings.token_endpoint, {**ours, **form})
        if not answer.ok:
            raise _refusal(answer)
        id_token = answer.text("id_token", length=MAX_TOKEN_LENGTH)
        if id_token is None:
            raise ProviderFailed(note="apple: no id_token of a sane length in the token answer")
        return answer, await self._verified(id_token, (client_id,), now)

    def _client_secret(self, client_id: str, now: int) -> str:
        """The client secret for a client id, a signed JWT. `now` is in seconds. It is signed again after RENEW_SECONDS,
        and when the clock was set back.
        https://developer.apple.com/documentation/accountorganizationaldatasharing/creating-a-client-secret"""
        made_at, secret = self._secrets.get(client_id, (0, ""))
        if not made_at <= now < made_at + RENEW_SECONDS:
            own = self._settings
            claims: dict[str, str | int] = {
                "iss": own.team_id,
                "iat": now,
                "exp": now + SECRET_SECONDS,
                "aud": _AUDIENCE,
                "sub": client_id,
            }
            secret = sign_client_assertion(claims, own.private_key, key_id=own.key_id, algorithm="ES256")
            self._secrets[client_id] = now, secret
        return secret


def _grant(answer: Answer, identity: Identity, client_id: str) -> RevocableGrant | None:
    """What revokes the grant: its refresh token, which revokes the whole of it."""
    token = answer.text("refresh_token", length=MAX_TOKEN_LENGTH)
    return RevocableGrant(identity.subject, token, client_id) if token is not None else None


def _refusal(answer: Answer) -> ProviderRefused | ProviderFailed | ProviderUnavailable:
    """Our error for an error of the token endpoint. `invalid_grant` means that the code is not valid. Some errors are
    temporary (_LATER). All others mean that our configuration is wrong: `invalid_client` for example that the key, the
    team or the redirect is not the one of this client id.
    https://developer.apple.com/documentation/signinwithapplerestapi/errorresponse"""
    error = answer.text("error")
    note = _note("token", answer)
    if error in _LATER:
        return ProviderUnavailable(note=note, retry_after=answer.retry_after)
    return ProviderRefused(note=note) if error == "invalid_grant" else ProviderFailed(note=note)


def _note(operation: str, answer: Answer) -> str:
    words = oauth_note(answer.text("error"), answer.text("error_description"))
    return f"apple {operation}: status {answer.status}, {words}"
