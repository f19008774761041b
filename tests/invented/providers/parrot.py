"""The invented provider: OpenID Connect whose callback is a form, with a client secret that is signed when needed."""

from collections.abc import Mapping
from time import time
from typing import Any

from nextarget.errors import AccessDenied, InvalidRequest, ProblemError, ProviderFailed, ProviderRefused
from nextarget.model import NO_WISHES, Identity, Millis, Provider, Wishes
from nextarget.providers.base import CallbackMethod, IdentityProvider, NativeIdentity, SubjectTokenType, with_parameters
from nextarget.providers.error_words import oauth_note
from nextarget.providers.http.client import ProviderHttp
from nextarget.providers.jwks import JwksCache
from nextarget.tokens.client_assertions import sign_client_assertion
from nextarget.tokens.login import LoginSecrets
from nextarget.tokens.provider_tokens import (
    MAX_TOKEN_LENGTH,
    check_nonce,
    identity_of,
    issued_nonce,
)
from tests.invented.providers.settings.parrot import ParrotSettings

SECRET_SECONDS = 300


class Parrot(IdentityProvider):
    """A provider that answers every sign-in with a form."""

    name = Provider("parrot")
    callback_method = CallbackMethod.FORM_POST
    asks_person = False
    error_words = frozenset({"user_cancelled_authorize"})
    meanings: Mapping[str, type[ProblemError]] = {"user_cancelled_authorize": AccessDenied}

    def __init__(self, settings: ParrotSettings, http: ProviderHttp) -> None:
        self._settings = settings
        self.http = http
        self.issuers: tuple[str, ...] = (settings.issuer,)
        self._keys = JwksCache(http, settings.jwks_uri)

    def authorization_url(self, secrets: LoginSecrets, *, ask_person: bool, wishes: Wishes = NO_WISHES) -> str:
        query = {
            "client_id": self._settings.client_id,
            "redirect_uri": self._settings.redirect_uri,
            "response_type": "code",
            "response_mode": "form_post",
            "scope": "openid email",
            "cage": "open",
            "state": secrets.state,
            "nonce": secrets.nonce,
        }
        return with_parameters(self._settings.authorization_endpoint, query)

    async def identify(self, code: str, secrets: LoginSecrets, now: Millis) -> Identity:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self._settings.client_id,
            "client_secret": self._client_secret(),
            "redirect_uri": self._settings.redirect_uri,
        }
        answer = await self.http.post(self._settings.token_endpoint, form)
        if not answer.ok:
            error = answer.text("error")
            note = f"parrot token: status {answer.status}, {oauth_note(error, None, known=self.error_words)}"
            raise ProviderRefused(note=note) if error == "invalid_grant" else ProviderFailed(note=note)
        id_token = answer.text("id_token", length=MAX_TOKEN_LENGTH)
        if id_token is None:
            raise ProviderFailed(note="parrot: no id_token")
        claims = await self._verified(id_token, (self._settings.client_id,), now)
        check_nonce(claims, secrets.nonce)
        return identity_of(self.name, claims)

    async def identify_native(
        self, token: str, kind: SubjectTokenType, *, raw_nonce: str | None, now: Millis
    ) -> NativeIdentity:
        if kind is not SubjectTokenType.ID_TOKEN:
            raise InvalidRequest("Of Parrot, present the id_token.")
        claims = await self._verified(token, (self._settings.client_id, *self._settings.client_ids), now)
        return NativeIdentity(identity_of(self.name, claims), issued_nonce(claims, raw_nonce))

    async def _verified(self, id_token: str, audiences: tuple[str, ...], now: Millis) -> Mapping[str, Any]:
        return await self._keys.verified(id_token, audiences=audiences, issuers=self.issuers, now=now)

    def _client_secret(self) -> str:
        now = int(time())
        claims = {
            "iss": self._settings.client_id,
            "aud": self._settings.issuer,
            "iat": now,
            "exp": now + SECRET_SECONDS,
        }
        settings = self._settings
        return sign_client_assertion(claims, settings.private_key, key_id=settings.key_id, algorithm="ES256")
