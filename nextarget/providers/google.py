"""Google: OpenID Connect, authorization code flow with PKCE.

https://developers.google.com/identity/openid-connect/openid-connect
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from nextarget.errors import (
    AccessDenied,
    InvalidRequest,
    ProblemError,
    ProviderFailed,
    ProviderRefused,
    ProviderUnavailable,
)
from nextarget.model import NO_WISHES, Identity, Millis, Prompt, Provider, Secret, Wishes
from nextarget.providers.base import (
    NativeIdentity,
    SecurityEvent,
    SubjectTokenType,
    TellsEvents,
    with_parameters,
)
from nextarget.providers.error_words import oauth_note
from nextarget.providers.google_events import GoogleEvents
from nextarget.providers.http.client import Answer, ProviderHttp
from nextarget.providers.jwks import JwksCache
from nextarget.providers.settings.google import GoogleSettings
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

SCOPE = "openid email"
_LATER = frozenset({"internal_failure", "rate_limit_exceeded", "server_error", "temporarily_unavailable"})
"""Temporary errors of Google's token endpoint. Their HTTP status does not matter."""


class Google(TellsEvents):
    name = Provider("google")
    asks_person = True
    error_words = frozenset(
        {
            "access_not_configured",
            "admin_policy_enforced",
            "app_not_configured_for_user",
            "app_not_enabled_for_user",
            "deleted_client",
            "disabled_client",
            "disallowed_useragent",
            "immediate_failed",
            "internal_failure",
            "invalid_account",
            "org_internal",
            "origin_mismatch",
            "rate_limit_exceeded",
            "redirect_uri_mismatch",
            "restricted_client",
            "unregistered_origin",
        }
    )
    """https://developers.google.com/identity/protocols/oauth2/web-server (authorization errors),
    https://support.google.com/accounts/answer/16668185 and https://support.google.com/a/answer/6301076; in practice
    also `restricted_client` (a consent screen is not set up), `disabled_client`, `invalid_account`,
    `immediate_failed`."""
    meanings: Mapping[str, type[ProblemError]] = dict.fromkeys(
        ("interaction_required", "login_required", "consent_required", "account_selection_required"), AccessDenied
    )
    """OpenID Connect Core, 3.1.2.6: the person has to do something. We never forbid Google to ask (`prompt=none`), so
    these errors mean that the person was asked and did not answer."""

    def __init__(self, config: GoogleSettings, http: ProviderHttp) -> None:
        self._config = config
        self.http = http
        query = {
            "client_id": config.client_id,
            "redirect_uri": config.redirect_uri,
            "response_type": "code",
            "scope": SCOPE,
            "code_challenge_method": "S256",
        }
        self._authorize = with_parameters(config.authorization_endpoint, query)
        redemption = {
            "grant_type": "authorization_code",
            "client_id": config.client_id,
            "client_secret": config.client_secret.reveal(),
            "redirect_uri": config.redirect_uri,
        }
        self._redemption = Secret(f"{urlencode(redemption)}&")
        self._keys = JwksCache(http, config.jwks_uri)
        self._client_ids = (config.client_id, *config.client_ids)
        self._events = GoogleEvents(http, config.risc_configuration_uri, self._client_ids)
        # With and without `https://`: Google's page on validating an id_token allows both.
        self.issuers: tuple[str, ...] = (config.issuer, config.issuer.partition("://")[2])

    def authorization_url(self, secrets: LoginSecrets, *, ask_person: bool, wishes: Wishes = NO_WISHES) -> str:
        """Google has the prompts `consent` and `select_account`, but no `login`. For `login`, we send `select_account`,
        which is closest to it."""
        asked = []
        if ask_person or wishes.prompts & {Prompt.SELECT_ACCOUNT, Prompt.LOGIN}:
            asked.append(Prompt.SELECT_ACCOUNT)
        if Prompt.CONSENT in wishes.prompts:
            asked.append(Prompt.CONSENT)
        prompt = f"&prompt={'%20'.join(asked)}" if asked else ""
        hint = f"&login_hint={quote(wishes.login_hint, safe='')}" if wishes.login_hint else ""
        # These three contain only base64url and full stops, and need no encoding.
        own = f"&state={secrets.state}&nonce={secrets.nonce}&code_challenge={secrets.code_challenge}"
        return f"{self._authorize}{own}{prompt}{hint}"

    async def identify(self, code: str, secrets: LoginSecrets, now: Millis) -> Identity:
        id_token = await self._redeem(code, secrets)
        claims = await self._verified(id_token, (self._config.client_id,), now)
        check_nonce(claims, secrets.nonce)
        return identity_of(self.name, claims)

    async def identify_native(
        self, token: str, kind: SubjectTokenType, *, raw_nonce: str | None, now: Millis
    ) -> NativeIdentity:
        if kind is not SubjectTokenType.ID_TOKEN:
            raise InvalidRequest("Of Google, present the id_token: an access token says nothing about its audience.")
        claims = await self._verified(token, self._client_ids, now)
        return NativeIdentity(identity_of(self.name, claims), issued_nonce(claims, raw_nonce))

    def probes(self, asker: "Asker", secrets: LoginSecrets, now: Millis) -> "Checks":
        from nextarget.providers.probes.google import checks

        url = self.authorization_url(secrets, ask_person=False)
        return checks(self._config, url, asker, known=self.error_words)

    async def security_event(self, body: str) -> SecurityEvent:
        return await self._events.read(body)

    async def _verified(self, id_token: str, audiences: tuple[str, ...], now: Millis) -> Mapping[str, Any]:
        return await self._keys.verified(id_token, audiences=audiences, issuers=self.issuers, now=now)

    async def _redeem(self, code: str, secrets: LoginSecrets) -> str:
        own = {"code": code, "code_verifier": secrets.code_verifier}
        answer = await self.http.post(self._config.token_endpoint, own, constant=self._redemption)
        if not answer.ok:
            raise _refusal(answer)
        id_token = answer.text("id_token", length=MAX_TOKEN_LENGTH)
        if id_token is None:
            raise ProviderFailed(note="google: no id_token of a sane length in the token answer")
        return id_token


def _refusal(answer: Answer) -> ProviderRefused | ProviderFailed | ProviderUnavailable:
    """Our error for an error of the token endpoint (RFC 6749, 5.2). `invalid_grant` means that the code is not valid.
    Some errors are temporary (_LATER). All others mean that our configuration is wrong."""
    error = answer.text("error")
    words = oauth_note(error, answer.text("error_description"), known=Google.error_words)
    note = f"google token: status {answer.status}, {words}"
    if error in _LATER:
        return ProviderUnavailable(note=note, retry_after=answer.retry_after)
    return ProviderRefused(note=note) if error == "invalid_grant" else ProviderFailed(note=note)
