"""Facebook: OAuth 2.0, then one request to the Graph API.

https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow

In that flow, nothing binds a code to its login. The setting `pkce` turns OpenID Connect on, which binds it by a nonce
and a PKCE challenge: https://developers.facebook.com/docs/facebook-login/guides/advanced/oidc-token. That page says
that the feature is still in testing. Facebook uses the challenge only if the scope contains `openid`.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from nextarget.errors import (
    AccessDenied,
    IdentityRejected,
    ProblemError,
    ProviderFailed,
    ProviderRefused,
    ProviderUnavailable,
)
from nextarget.model import NO_WISHES, Identity, Millis, Prompt, Provider, Wishes, usable_email
from nextarget.providers.base import (
    NativeIdentity,
    RemovalRequest,
    SubjectTokenType,
    TellsRemovals,
    with_parameters,
)
from nextarget.providers.facebook_graph import (
    ERROR_WORDS,
    LATER,
    TOKEN_ENDED,
    TokenDebugger,
    failure,
    id_text,
    whole_number,
)
from nextarget.providers.facebook_removals import read_signed_request
from nextarget.providers.http.client import Answer, ProviderHttp
from nextarget.providers.jwks import JwksCache
from nextarget.providers.settings.facebook import FacebookSettings
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

SCOPE = "email"
_AUTH_TYPES = {Prompt.LOGIN: "reauthenticate", Prompt.CONSENT: "rerequest"}

_CANCELLED = ("4201", "200", "user_denied")
"""A cancelled login has `error_reason=user_denied` and `error_code=200`
(https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow). A closed dialog has only
`error_code=4201`."""
_CODE_REFUSED = frozenset({100})
"""Error code of the token endpoint: the code was used, has expired, or is not ours (subcodes 36007, 36008, 36009)."""
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_SUBJECT = re.compile(r"[0-9]{1,32}")


class Facebook(TellsRemovals):
    name = Provider("facebook")
    asks_person = False
    error_words = ERROR_WORDS
    meanings: Mapping[str, type[ProblemError]] = {
        **dict.fromkeys(map(str, LATER), ProviderUnavailable),
        **dict.fromkeys(_CANCELLED, AccessDenied),
    }
    issuers: tuple[str, ...] = ("https://www.facebook.com",)

    def __init__(self, config: FacebookSettings, http: ProviderHttp) -> None:
        self._config = config
        self.http = http
        self._keys = JwksCache(http, config.jwks_uri)
        permissions = _permissions(config)
        # With a configuration, all permissions are granted or none: no single permission can be asked for again.
        self._prompts = tuple(_AUTH_TYPES) if "scope" in permissions else (Prompt.LOGIN,)
        query = {"client_id": config.client_id, "redirect_uri": config.redirect_uri, "response_type": "code"}
        self._dialog = with_parameters(config.login_dialog, query | permissions)
        self._debugger = TokenDebugger(http, self._graph("debug_token"), config.client_id, config.client_secret)

    def authorization_url(self, secrets: LoginSecrets, *, ask_person: bool, wishes: Wishes = NO_WISHES) -> str:
        """Facebook can ask for the password again, or for a permission that was refused. It has no parameter for a
        choice of accounts, and none for a login hint.

        https://developers.facebook.com/docs/facebook-login/guides/advanced/re-authentication
        https://developers.facebook.com/docs/facebook-login/guides/permissions/request-revoke
        """
        query = {"state": secrets.state}
        if asked := [_AUTH_TYPES[prompt] for prompt in self._prompts if prompt in wishes.prompts]:
            query["auth_type"] = ",".join(asked)
        if self._config.pkce:
            query |= {
                "nonce": secrets.nonce,
                "code_challenge": secrets.code_challenge,
                "code_challenge_method": "S256",
            }
        return with_parameters(self._dialog, query)

    async def identify(self, code: str, secrets: LoginSecrets, now: Millis) -> Identity:
        answer = await self._redeem(code, secrets)
        access_token = _access_token_in(answer)
        if not self._config.pkce:
            return await self._profile(access_token)
        bound = await self._bound_identity(answer, secrets, now)
        identity = await self._profile(access_token)
        if identity.subject != bound.subject:
            raise IdentityRejected("id_token and access token speak of two people")
        return identity

    async def identify_native(
        self, token: str, kind: SubjectTokenType, *, raw_nonce: str | None, now: Millis
    ) -> NativeIdentity:
        if kind is SubjectTokenType.ID_TOKEN:
            claims = await self._verified(token, now)
            identity = identity_of(self.name, claims, trusts_email=False)
            return NativeIdentity(identity, issued_nonce(claims, raw_nonce))
        if not _TOKEN.fullmatch(token):
            raise IdentityRejected("access token malformed")
        user_id, issued_at = await self._check_token(token, now)
        try:
            identity = await self._profile(token)
        except ProviderRefused as error:
            raise IdentityRejected("access token not valid any more", note=error.note) from None
        if identity.subject != user_id:
            raise IdentityRejected("access token speaks of two people")
        return NativeIdentity(identity, None, issued_at)

    def removal_request(self, text: str) -> RemovalRequest:
        return read_signed_request(text, self._config.client_secret)

    def probes(self, asker: "Asker", secrets: LoginSecrets, now: Millis) -> "Checks":
        from nextarget.providers.probes.facebook import checks

        today = datetime.fromtimestamp(now / 1000, UTC).date()
        return checks(self._config, self._graph, asker, today=today)

    async def _bound_identity(self, answer: Answer, secrets: LoginSecrets, now: Millis) -> Identity:
        """The identity in the id_token that came with the access token. Its nonce has to be the nonce of this login."""
        id_token = answer.text("id_token", length=MAX_TOKEN_LENGTH)
        if id_token is None:
            raise ProviderFailed(note="facebook: no id_token of a sane length in the token answer")
        claims = await self._verified(id_token, now)
        check_nonce(claims, secrets.nonce)
        return identity_of(self.name, claims, trusts_email=False)

    async def _verified(self, id_token: str, now: Millis) -> Mapping[str, Any]:
        claims = await self._keys.verified(id_token, audiences=(self._config.client_id,), issuers=self.issuers, now=now)
        subject = claims.get("sub")
        return {**claims, "sub": id_text(subject) if type(subject) is int else subject}

    async def _check_token(self, token: str, now: Millis) -> tuple[str, Millis | None]:
        """Ask Facebook whether an access token was made for our app. Returns the id of its user, and the time when it
        was made; None if Facebook does not give the time.

        Raises what `TokenDebugger.facts` raises, and IdentityRejected.
        """
        data = await self._debugger.facts(token)
        user_id, expires_at = id_text(data.get("user_id")), whole_number(data.get("expires_at"))
        if data.get("is_valid") is not True or data.get("type") != "USER" or user_id is None:
            raise IdentityRejected("access token not valid", note=_token_error(data))
        if str(data.get("app_id")) != self._config.client_id:
            raise IdentityRejected("access token made for another app")
        if expires_at is None or 0 < expires_at <= now // 1000:  # 0 means that it does not expire
            raise IdentityRejected("access token expired")
        issued_at = whole_number(data.get("issued_at"))
        # Facebook gives whole seconds. The last millisecond of the second is used, so that nobody is wrongly refused.
        return user_id, Millis(issued_at * 1000 + 999) if issued_at is not None else None

    async def _profile(self, access_token: str) -> Identity:
        # The token is in a header, because proxies on the way may log the query string.
        answer = await self.http.get(
            self._graph("me"),
            params={"fields": "id,email", "appsecret_proof": self._appsecret_proof(access_token)},
            headers={"Authorization": f"Bearer {access_token}"},
        )
        if not answer.ok:
            raise failure(answer, "me", refused_by=TOKEN_ENDED)
        subject = id_text(answer.document.get("id"))
        if subject is None or not _SUBJECT.fullmatch(subject):
            raise IdentityRejected("facebook: profile without a usable id")
        # Facebook does not say whether it checked the address, so it never counts as verified.
        return Identity(self.name, subject, usable_email(answer.document.get("email")), email_verified=False)

    async def _redeem(self, code: str, secrets: LoginSecrets) -> Answer:
        """Exchange the code for tokens. Facebook's page on OIDC shows this request without the client secret, for apps
        that have none. We have one, and so we have to send it (RFC 6749, 3.2.1)."""
        form = {
            "code": code,
            "client_id": self._config.client_id,
            "client_secret": self._config.client_secret.reveal(),
            "redirect_uri": self._config.redirect_uri,
        }
        if self._config.pkce:
            form["code_verifier"] = secrets.code_verifier
        answer = await self.http.post(self._graph("oauth/access_token"), form)
        if not answer.ok:
            raise failure(answer, "oauth/access_token", refused_by=_CODE_REFUSED)
        return answer

    def _graph(self, path: str) -> str:
        """The URL of a path of the Graph API. If the setting has a query, it is put after the path."""
        base, mark, query = self._config.graph_url.partition("?")
        return f"{base.rstrip('/')}/{self._config.graph_version}/{path}{mark}{query}"

    def _appsecret_proof(self, access_token: str) -> str:
        """Proof that the caller holds the app secret. https://developers.facebook.com/docs/graph-api/securing-requests"""
        return hmac.new(self._config.client_secret.encode(), access_token.encode(), hashlib.sha256).hexdigest()


def _permissions(config: FacebookSettings) -> dict[str, str]:
    """The parameters that ask for permissions: `scope`, or a configuration, which contains the permissions.

    With a configuration, Facebook ignores `response_type` unless `override_default_response_type` is set
    (https://developers.facebook.com/docs/facebook-login/facebook-login-for-business). The query of the endpoint may
    also contain `config_id`.
    """
    if "config_id" in parse_qs(urlsplit(config.login_dialog).query):
        return {"override_default_response_type": "true"}
    if config.config_id is not None:
        return {"config_id": config.config_id, "override_default_response_type": "true"}
    return {"scope": f"openid,{SCOPE}" if config.pkce else SCOPE}


def _access_token_in(answer: Answer) -> str:
    access_token = answer.text("access_token")
    if access_token is None or not _TOKEN.fullmatch(access_token):
        raise ProviderFailed(note="facebook: no usable access_token in the token answer")
    return access_token


def _token_error(data: Mapping[str, Any]) -> str | None:
    """The error code and subcode that `debug_token` gives for a token that is not valid, as text for the log."""
    error = data.get("error")
    if not isinstance(error, dict):
        return None
    return f"facebook debug_token: {whole_number(error.get('code'))}/{whole_number(error.get('subcode'))}"
