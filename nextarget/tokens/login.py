"""The state of a login, and the values that derive from it. Nothing is stored until the login succeeds.

A state contains its expiry, and a MAC that shows that we made it for one provider and one mode. The app's request is
encrypted in a cookie of the browser that began the login.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from nextarget.model import AppRequest, Login, LoginMode, Millis, Provider
from nextarget.tokens import encoding, one_time
from nextarget.tokens.encoding import base64url, digest, uuid_text
from nextarget.tokens.keyring import Keyring, SigningKey

LOGIN_SECONDS = 600
"""Time that the person has to sign in at the provider."""
_USE, _COOKIE = "login state", "login cookie"


@dataclass(frozen=True, slots=True)
class LoginSecrets:
    """The values of one login that we send to the provider and check in its answers.

    `nonce` binds the id_token to the login (OpenID Connect Core, 3.1.2.1). `code_verifier` is our PKCE verifier at the
    provider (RFC 7636).
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
    """A state that we made, and the key that it was made with."""

    state: str = field(repr=False)
    key: SigningKey
    login: Login
    """The login without the app's request, which is in the cookie."""


def new_state(
    key: SigningKey, provider: Provider, mode: LoginMode, *, now: Millis, client_id: str | None = None
) -> str:
    """A new state. Its MAC covers provider, mode and app, so that it is not valid for another one.

    `client_id` is for a login without a request of the app's own, and is None where the login is of the first app.
    """
    expires_at = Millis(now + LOGIN_SECONDS * 1000)
    return one_time.issue(key, _USE, bound_to=_bound_to(provider, mode, client_id), expires_at=expires_at)


def open_state(keyring: Keyring, state: str, provider: Provider, client_ids: Iterable[str] = ()) -> OpenedState | None:
    """The state, if we made it for this provider; else None. It may be expired or used.

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
    """The id of the login with this state, in the form of a UUID. Nobody can compute the state from it."""
    return uuid_text(digest(f"login id {state}")[:32], 4)


def login_secrets(key: SigningKey, state: str) -> LoginSecrets:
    """Derive nonce and verifier from the state, so that a node can finish a login that another node began."""
    nonce = base64url(key.mac("oidc nonce", state))
    return LoginSecrets(state, nonce, base64url(key.mac("pkce verifier", state)))


def seal(key: SigningKey, state: str, app: AppRequest | None) -> str:
    """Encrypt the app's request for the login's cookie; None if no app began. Call it only once for a state."""
    asked = [app.client_id, app.redirect_uri, app.code_challenge, app.state] if app else None
    return key.seal(_COOKIE, state, orjson.dumps(asked))


def unseal(opened: OpenedState, sealed: str) -> AppRequest | None:
    """Decrypt the app's request; None if no app began. Raises ValueError if it was encrypted for another state."""
    asked = orjson.loads(opened.key.unseal(_COOKIE, opened.state, sealed))
    return AppRequest(*asked) if asked else None
