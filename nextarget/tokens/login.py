"""One login's state, and what follows from it: nothing of a login is stored until it has succeeded.

The state says of itself that we made it, for which provider and mode, and until when. What an app asked for travels
beside it, sealed, in the cookie of the browser that began.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nextarget.model import AppRequest, Login, LoginMode, Millis, Provider
from nextarget.tokens import encoding, one_time
from nextarget.tokens.encoding import base64url, digest, from_base64url
from nextarget.tokens.keyring import Keyring, SigningKey

LOGIN_SECONDS = 600
"""How long the person may take at the provider."""
_USE = "login state"
_ONLY_MESSAGE = bytes(12)
"""The nonce of AES-GCM, which must not come twice under one key (NIST SP 800-38D, 8): each state has a key of its own,
and seals once."""


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


@dataclass(frozen=True, slots=True)
class OpenedState:
    """A state of ours, and the secret that it was made with."""

    state: str = field(repr=False)
    key: SigningKey
    login: Login
    """Without what an app asked for: that is in the cookie."""


def new_state(
    key: SigningKey, provider: Provider, mode: LoginMode, *, now: Millis, client_id: str | None = None
) -> str:
    """A state that begins now. Its MAC covers provider, mode and app, so that none of them can be mixed up.

    `client_id` is for a login without a request of the app's own, and is None where the login is of the first app.
    """
    expires_at = Millis(now + LOGIN_SECONDS * 1000)
    return one_time.issue(key, _USE, bound_to=_bound_to(provider, mode, client_id), expires_at=expires_at)


def open_state(keyring: Keyring, state: str, provider: Provider, client_ids: Iterable[str] = ()) -> OpenedState | None:
    """What a state of ours says at this provider, used and expired ones included; else None.

    `client_ids` are the apps that the login may be of, beside the first one.
    """
    without = [(mode, None) for mode in LoginMode]
    named = [(mode, client_id) for client_id in client_ids for mode in (LoginMode.JSON, LoginMode.REDIRECT)]
    for mode, client_id in (*without, *named):
        value = one_time.read(keyring, _USE, state, bound_to=_bound_to(provider, mode, client_id))
        if value is not None:
            begun_at = Millis(value.expires_at - LOGIN_SECONDS * 1000)
            login = Login(
                login_id(state), digest(state), provider, mode, begun_at, value.expires_at, client_id=client_id
            )
            return OpenedState(state, value.key, login)
    return None


def _bound_to(provider: Provider, mode: LoginMode, client_id: str | None) -> str:
    return f"{provider}.{mode}" if client_id is None else f"{provider}.{mode}.{client_id}"


def login_id(state: str) -> str:
    """The id of the login with this state, in the form of a UUID. It does not tell the state."""
    return str(uuid.UUID(digest(f"login id {state}")[:32], version=4))


def login_secrets(key: SigningKey, state: str) -> LoginSecrets:
    """Derive nonce and verifier from the state: any node that holds the key can finish what another began."""
    nonce = base64url(key.mac("oidc nonce", state))
    return LoginSecrets(state, nonce, base64url(key.mac("pkce verifier", state)))


def seal(key: SigningKey, state: str, app: AppRequest | None) -> str:
    """What an app asked for, for the login's own cookie: encrypted, good with this state alone. Once for each state."""
    asked = [app.client_id, app.redirect_uri, app.code_challenge, app.state] if app else None
    return base64url(_cipher(key, state).encrypt(_ONLY_MESSAGE, orjson.dumps(asked), None))


def unseal(opened: OpenedState, sealed: str) -> AppRequest | None:
    """What an app asked for, None where no app began. Raises ValueError for what was not sealed with this state."""
    try:
        plain = _cipher(opened.key, opened.state).decrypt(_ONLY_MESSAGE, from_base64url(sealed), None)
    except InvalidTag:
        raise ValueError("not sealed with this state") from None
    asked = orjson.loads(plain)
    return AppRequest(*asked) if asked else None


def _cipher(key: SigningKey, state: str) -> AESGCM:
    return AESGCM(key.mac("login cookie", state))
