"""Facebook: OAuth 2.0, then one question to the Graph API.

https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from urllib.parse import urlencode

from nextarget.errors import IdentityRejected, ProviderFailed, ProviderRefused, ProviderUnavailable
from nextarget.model import Identity, Millis, Provider, Secret
from nextarget.providers.base import Answer, ProviderHttp
from nextarget.telemetry import scrubbed
from nextarget.tokens.foreign import usable_email
from nextarget.tokens.login import LoginSecrets

SCOPE = "email"

_TEMPORARY = frozenset({2, 4, 17, 32, 341, 613})
"""Graph error codes that mean: later. https://developers.facebook.com/docs/graph-api/guides/error-handling"""
_CODE_REFUSED = 100
"""At the token endpoint: the code is used, expired or not ours (subcodes 36007, 36008, 36009)."""
_SUBJECT = re.compile(r"[0-9]{1,32}")


@dataclass(frozen=True, slots=True)
class FacebookConfig:
    client_id: str
    client_secret: Secret = field(repr=False)
    redirect_uri: str
    graph_url: str
    graph_version: str
    authorization_endpoint: str


class Facebook:
    name = Provider.FACEBOOK
    issuers: tuple[str, ...] = ("https://www.facebook.com",)

    def __init__(self, config: FacebookConfig, http: ProviderHttp) -> None:
        self._config = config
        self._http = http
        self._graph = f"{config.graph_url}/{config.graph_version}"

    def authorization_url(self, secrets: LoginSecrets) -> str:
        query = {
            "client_id": self._config.client_id,
            "redirect_uri": self._config.redirect_uri,
            "response_type": "code",
            "scope": SCOPE,
            "state": secrets.state,
        }
        return f"{self._config.authorization_endpoint}?{urlencode(query)}"

    async def identify(self, code: str, secrets: LoginSecrets, now: Millis) -> Identity:
        access_token = await self._redeem(code)
        # The token goes into a header: a query string ends up in logs on the way.
        answer = await self._http.get(
            f"{self._graph}/me",
            params={"fields": "id,email", "appsecret_proof": self._appsecret_proof(access_token)},
            headers={"Authorization": f"Bearer {access_token}"},
        )
        if not answer.ok:
            raise _failure(answer, "me")
        subject = answer.text("id")
        if subject is None or not _SUBJECT.fullmatch(subject):
            raise IdentityRejected(note="facebook: profile without a usable id")
        # Facebook does not say whether it checked the address, so it never counts as verified.
        return Identity(self.name, subject, usable_email(answer.document.get("email")), email_verified=False)

    async def _redeem(self, code: str) -> str:
        answer = await self._http.post(
            f"{self._graph}/oauth/access_token",
            {
                "code": code,
                "client_id": self._config.client_id,
                "client_secret": self._config.client_secret.reveal(),
                "redirect_uri": self._config.redirect_uri,
            },
        )
        if not answer.ok:
            raise _failure(answer, "oauth/access_token", refused_by=_CODE_REFUSED)
        access_token = answer.text("access_token")
        if access_token is None or not re.fullmatch(r"[\x21-\x7e]+", access_token):
            raise ProviderFailed(note="facebook: no usable access_token in the token answer")
        return access_token

    def _appsecret_proof(self, access_token: str) -> str:
        """Proof that the caller holds the app secret. https://developers.facebook.com/docs/graph-api/securing-requests"""
        return hmac.new(self._config.client_secret.encode(), access_token.encode(), hashlib.sha256).hexdigest()


def _failure(
    answer: Answer, where: str, *, refused_by: int | None = None
) -> ProviderRefused | ProviderFailed | ProviderUnavailable:
    """What a Graph API error object means for us."""
    error = answer.document.get("error")
    error = error if isinstance(error, dict) else {}
    code = error.get("code")
    code = code if isinstance(code, int) else None
    text = f"{error.get('type')} {code}/{error.get('error_subcode')}: {error.get('message')}"
    note = f"facebook {where}: status {answer.status}, {scrubbed(text)}"
    if code in _TEMPORARY or error.get("is_transient") is True:
        return ProviderUnavailable(note=note)
    if code is not None and code == refused_by:
        return ProviderRefused(note=note)
    return ProviderFailed(note=note)
