"""Google: OpenID Connect, authorization code flow with PKCE.

https://developers.google.com/identity/openid-connect/openid-connect
"""

from dataclasses import dataclass, field
from urllib.parse import urlencode

from nextarget.errors import ProviderFailed, ProviderRefused
from nextarget.model import Identity, Millis, Provider, Secret
from nextarget.providers.base import Answer, ProviderHttp, oauth_note
from nextarget.providers.jwks import JwksCache
from nextarget.tokens.foreign import MAX_TOKEN_LENGTH, identity_of, key_id_of, verify_id_token
from nextarget.tokens.login import LoginSecrets

SCOPE = "openid email"


@dataclass(frozen=True, slots=True)
class GoogleConfig:
    client_id: str
    client_secret: Secret = field(repr=False)
    redirect_uri: str
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class Google:
    name = Provider.GOOGLE

    def __init__(self, config: GoogleConfig, http: ProviderHttp) -> None:
        self._config = config
        self._http = http
        self._keys = JwksCache(http, config.jwks_uri)
        # Google's page on validating an id_token allows both spellings.
        self.issuers: tuple[str, ...] = (config.issuer, config.issuer.partition("://")[2])

    def authorization_url(self, secrets: LoginSecrets) -> str:
        query = {
            "client_id": self._config.client_id,
            "redirect_uri": self._config.redirect_uri,
            "response_type": "code",
            "scope": SCOPE,
            "state": secrets.state,
            "nonce": secrets.nonce,
            "code_challenge": secrets.code_challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._config.authorization_endpoint}?{urlencode(query)}"

    async def identify(self, code: str, secrets: LoginSecrets, now: Millis) -> Identity:
        id_token = await self._redeem(code, secrets)
        keys = await self._keys.keys_for(key_id_of(id_token))
        claims = verify_id_token(
            id_token, keys, audiences=(self._config.client_id,), issuers=self.issuers, nonce=secrets.nonce, now=now
        )
        return identity_of(self.name, claims)

    async def _redeem(self, code: str, secrets: LoginSecrets) -> str:
        answer = await self._http.post(
            self._config.token_endpoint,
            {
                "grant_type": "authorization_code",
                "code": code,
                "client_id": self._config.client_id,
                "client_secret": self._config.client_secret.reveal(),
                "redirect_uri": self._config.redirect_uri,
                "code_verifier": secrets.code_verifier,
            },
        )
        if not answer.ok:
            raise _refusal(answer)
        id_token = answer.text("id_token", length=MAX_TOKEN_LENGTH)
        if id_token is None:
            raise ProviderFailed(note="google: no id_token of a sane length in the token answer")
        return id_token


def _refusal(answer: Answer) -> ProviderRefused | ProviderFailed:
    """The error of RFC 6749, 5.2: only `invalid_grant` is about the code, the rest is about our configuration."""
    error = answer.text("error")
    note = f"google: status {answer.status}, {oauth_note(error, answer.text('error_description'))}"
    return ProviderRefused(note=note) if error == "invalid_grant" else ProviderFailed(note=note)
