"""What the product talks about, as frozen dataclasses. No I/O, and nothing here knows a database or a provider.

Every time is an integer: UTC milliseconds since 1970. Every id is a UUID as text.
"""

import hmac
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NewType

Millis = NewType("Millis", int)
"""A moment: milliseconds since 1970-01-01T00:00:00Z."""


@lru_cache(maxsize=1024)
def iso_time(moment: Millis) -> str:
    """ISO 8601, UTC, to the millisecond: 2026-01-31T12:00:00.000Z."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


MAX_EMAIL_LENGTH = 254
"""Characters in an email address (RFC 5321, 4.5.3.1.3, less the angle brackets)."""


class Secret:
    """Text that never shows itself by accident: `repr` and `str` are `***`; comparison takes constant time."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def encode(self) -> bytes:
        return self._text.encode()

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.encode(), other.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __len__(self) -> int:
        return len(self._text)


Provider = NewType("Provider", str)
"""Who vouches for a person, by the name that `registry.py` gives: `google`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a provider tells us about a person, whichever provider it is.

    `subject` is the provider's own id for the person: it is digested before it is stored.
    """

    provider: Provider
    subject: str = field(repr=False)
    email: str | None = field(repr=False)
    email_verified: bool


@dataclass(frozen=True, slots=True)
class User:
    """Our row for one identity.

    `sessions_ended_at` is when all sessions but one at the most were last ended: what began before, a login or a code,
    opens none.
    """

    id: str
    provider: Provider
    email: str = field(repr=False)
    email_verified: bool
    is_active: bool
    created_at: Millis
    sessions_ended_at: Millis = Millis(0)

    def may_begin(self, begun_at: Millis) -> bool:
        """Whether what began then may still become a session of this user."""
        return self.is_active and begun_at > self.sessions_ended_at

    def profile(self) -> dict[str, object]:
        """What an app, an export and the terminal show of a user."""
        return {
            "id": self.id,
            "email": self.email,
            "email_verified": self.email_verified,
            "provider": self.provider,
            "is_active": self.is_active,
            "created_at": iso_time(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class LogoFile:
    """An app's logo that this server serves. `digest` names its content, so that browsers may keep it for ever."""

    content: bytes = field(repr=False)
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class ClientLinks:
    """Where an app tells people what it does with their data, and on what terms."""

    privacy: str | None = None
    terms: str | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """An app: an OAuth 2.0 public client. `logo` is a file of ours or an https URL.

    `android_app_links` and `apple_app_ids` are kept as they were written; no route publishes them yet.
    """

    id: str
    redirects: tuple[str, ...]
    name: str | None = None
    logo: LogoFile | str | None = None
    links: ClientLinks = ClientLinks()
    android_app_links: tuple[str, ...] = ()
    apple_app_ids: tuple[str, ...] = ()


class Prompt(StrEnum):
    """What an app may have a person do at the provider (OpenID Connect Core, 3.1.2.1)."""

    LOGIN = "login"
    CONSENT = "consent"
    SELECT_ACCOUNT = "select_account"


@dataclass(frozen=True, slots=True)
class Wishes:
    """How an app would have the person asked; a provider does what it can of it.

    `login_hint` is personal, an email as a rule: it goes into the provider's address, and is neither kept nor logged.
    """

    prompts: frozenset[Prompt] = frozenset()
    login_hint: str | None = field(default=None, repr=False)


NO_WISHES = Wishes()


class LoginMode(StrEnum):
    """How a login was begun, and so how its callback answers."""

    JSON = "json"
    REDIRECT = "redirect"
    APP = "app"


@dataclass(frozen=True, slots=True)
class AppRequest:
    """What an app asked for at the authorization endpoint (RFC 6749, 4.1.1; RFC 7636, 4.3), once it is checked."""

    client_id: str
    redirect_uri: str
    code_challenge: str = field(repr=False)
    state: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """One attempt to sign in. The state itself is never stored, only its digest, once the login has succeeded.

    `app` is what the app asked for, in the mode APP alone. In the other modes `client_id` is whose login it is; None is
    the first app.
    """

    id: str
    state_digest: str
    provider: Provider
    mode: LoginMode
    begun_at: Millis
    expires_at: Millis
    app: AppRequest | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """A code of ours for an app, by its digest; the code itself is never stored."""

    digest: str
    expires_at: Millis


@dataclass(frozen=True, slots=True)
class AuthorizationGrant:
    """What an authorization code stands for. `session_id` is set once the code has been redeemed."""

    login_id: str
    user_id: str
    app: AppRequest
    begun_at: Millis
    expires_at: Millis
    session_id: str | None


@dataclass(frozen=True, slots=True)
class Generations:
    """Which refresh tokens of a session are good: the one used last, and those handed out since and not used yet.

    `previous` was used last; `oldest` to `current` were handed out after it. From `floor` on a token is answered within
    the reuse window of `rotated_at`, when a token was last used. `recovered_at` is when another successor of `previous`
    was last handed out since. A time of 0 means never.
    """

    previous: int
    oldest: int
    current: int
    floor: int
    rotated_at: Millis
    recovered_at: Millis


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in device. `expires_at` is when it ends by itself; `revoked_at` when somebody ended it."""

    id: str
    user_id: str
    client_id: str
    label: str | None
    created_at: Millis
    expires_at: Millis
    revoked_at: Millis | None
    generations: Generations


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed access token and how long it lives, in seconds."""

    token: str = field(repr=False)
    expires_in: int


GRANTED_SCOPE = "email"
"""What every token of ours is good for, whatever the app asked for (RFC 6749, 3.3)."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What an app gets for a session: an access token for now, a refresh token for later, and whose they are."""

    user: User
    session: Session
    access: AccessToken
    refresh_token: str = field(repr=False)

    def document(self) -> dict[str, object]:
        """The token response (RFC 6749, 5.1), with who signed in."""
        return {
            "access_token": self.access.token,
            "token_type": "bearer",
            "expires_in": self.access.expires_in,
            "refresh_token": self.refresh_token,
            "email": self.user.email,
            "email_verified": self.user.email_verified,
            "provider": self.user.provider,
            "user_id": self.user.id,
            "scope": GRANTED_SCOPE,
        }


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that happened, for `explain` and for the record. Never a token, a code or an email."""

    at: Millis
    event: str
    _: KW_ONLY
    login_id: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    detail: str | None = None
