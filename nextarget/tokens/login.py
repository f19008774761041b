"""The secrets of one login. Only the state travels; its digest alone is stored, and the rest derives from it."""

import secrets
from dataclasses import dataclass, field

from nextarget.tokens import encoding
from nextarget.tokens.encoding import base64url
from nextarget.tokens.keyring import SigningKey

STATE_LENGTH = 43
"""Characters: 32 bytes, base64url without padding. A PKCE verifier has at least as many (RFC 7636, 4.1)."""


@dataclass(frozen=True, slots=True)
class LoginSecrets:
    """What a login sends to the provider and must see again.

    `nonce` binds the id_token to the login (OpenID Connect Core, 3.1.2.1); `code_verifier` is our PKCE verifier
    towards the provider (RFC 7636).
    """

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)

    @property
    def code_challenge(self) -> str:
        """The S256 challenge for `code_verifier` (RFC 7636, 4.2)."""
        return encoding.code_challenge(self.code_verifier)


def new_state() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def login_secrets(key: SigningKey, state: str) -> LoginSecrets:
    """Derive nonce and verifier from the state: any node that holds the key can finish what another began."""
    nonce = base64url(key.mac("oidc nonce", state))
    return LoginSecrets(state, nonce, base64url(key.mac("pkce verifier", state)))
