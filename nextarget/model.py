"""The types that all packages share: frozen dataclasses, and NamedTuples for what every refresh makes, because a frozen
dataclass takes four times as long to make. No I/O, no database and no provider here.

A time is an integer: UTC milliseconds since 1970. An id is a UUID as text.
"""

import hmac
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, NewType

Millis = NewType("Millis", int)
"""A point in time: milliseconds since 1970-01-01T00:00:00Z."""


@lru_cache(maxsize=1024)
def iso_time(moment: Millis) -> str:
    """ISO 8601, UTC, to the millisecond: 2026-01-31T12:00:00.000Z."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


UNSEEN = frozenset(
    [chr(code) for code in (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180F, 0x2800, 0x3164, 0xFFA0, 0x1D159)]
    + [
        chr(code)
        for first, last in ((0x180B, 0x180D), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
        for code in range(first, last + 1)
    ]
)
"""Invisible characters that Python calls printable: fillers, joiners and variation selectors."""

MAX_EMAIL_LENGTH = 254
"""The most characters in an email address (RFC 5321, 4.5.3.1.3, without the angle brackets)."""


def usable_email(value: object) -> str | None:
    """The value, if it can be an email address; else None."""
    if not isinstance(value, str) or not 3 <= len(value) <= MAX_EMAIL_LENGTH or not value.isprintable():
        return None
    local, at, domain = value.rpartition("@")
    return value if at and local and domain and " " not in value else None


class Secret:
    """Text that must not be printed by accident: `repr` and `str` return `***`. Comparison takes constant time."""

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
"""The name of a provider, as in `registry.py`: `google`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a provider tells us about a person. It has the same form for all providers.

    `subject` is the provider's own id for the person. Only its digest is stored.
    """

    provider: Provider
    subject: str = field(repr=False)
    email: str | None = field(repr=False)
    email_verified: bool


@dataclass(frozen=True, slots=True)
class RevocableGrant:
    """What a person has agreed to at the provider, as a token that revokes it there, and whose it is.

    It is kept in memory, and encrypted in the cookie of a visit of the account page. `client_id` is our client id to
    which the token was issued.
    """

    subject: str = field(repr=False)
    token: str = field(repr=False)
    client_id: str


@dataclass(frozen=True, slots=True)
class User:
    """Our row for one identity.

    `sessions_ended_at` is the last time when all sessions of the user were ended, or all but the one of the request. A
    login or code that was begun before that time cannot become a session.
    """

    id: str
    provider: Provider
    email: str = field(repr=False)
    email_verified: bool
    is_active: bool
    created_at: Millis
    sessions_ended_at: Millis = Millis(0)

    def may_begin(self, begun_at: Millis) -> bool:
        """Whether a login or code that was begun at this time may still become a session of this user."""
        return self.is_active and begun_at > self.sessions_ended_at

    def profile(self) -> dict[str, object]:
        """The data of a user that apps, exports and the terminal show."""
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
    """An app's logo that this server serves. `digest` is part of its URL, so that browsers may cache it for ever."""

    content: bytes = field(repr=False)
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class ClientLinks:
    """The URLs of an app's privacy policy and terms of service."""

    privacy: str | None = None
    terms: str | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """An app: an OAuth 2.0 public client. `logo` is a file that this server serves, or an https URL elsewhere.

    `android_app_links` (`package.name=fingerprint`) and `apple_app_ids` (`TEAMID.bundle.id`) name the app's programs.
    `bounce_page` is whether a page with a button is shown before a redirect that opens one of these programs.
    """

    id: str
    redirects: tuple[str, ...]
    name: str | None = None
    logo: LogoFile | str | None = None
    links: ClientLinks = ClientLinks()
    android_app_links: tuple[str, ...] = ()
    apple_app_ids: tuple[str, ...] = ()
    bounce_page: bool = False


class Prompt(StrEnum):
    """What an app can ask the provider to do with the person (OpenID Connect Core, 3.1.2.1)."""

    LOGIN = "login"
    CONSENT = "consent"
    SELECT_ACCOUNT = "select_account"


@dataclass(frozen=True, slots=True)
class Wishes:
    """How the app wants the provider to ask the person. A provider ignores what it does not support.

    `login_hint` is personal data, usually an email. It goes only into the provider's URL: it is not stored or logged.
    """

    prompts: frozenset[Prompt] = frozenset()
    login_hint: str | None = field(default=None, repr=False)


NO_WISHES = Wishes()


class LoginMode(StrEnum):
    """How a login was begun. It decides how the callback answers."""

    JSON = "json"
    REDIRECT = "redirect"
    APP = "app"
    ACCOUNT = "account"
    """At the account page: it opens a visit there, and never becomes a session or a code."""


@dataclass(frozen=True, slots=True)
class AppRequest:
    """An app's request to the authorization endpoint (RFC 6749, 4.1.1; RFC 7636, 4.3), after it was checked."""

    client_id: str
    redirect_uri: str
    code_challenge: str = field(repr=False)
    state: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """One attempt to sign in. The state is never stored. Its digest is stored when the login succeeds.

    `app` is the app's request; only the mode APP has one. In the other modes, `client_id` is the app of the login; None
    is the first app.
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
    """Our code for an app. Only its digest is stored, never the code."""

    digest: str
    expires_at: Millis


@dataclass(frozen=True, slots=True)
class AuthorizationGrant:
    """What we store about an authorization code. `session_id` is None until the code is redeemed."""

    login_id: str
    user_id: str
    app: AppRequest
    begun_at: Millis
    expires_at: Millis
    session_id: str | None


class Generations(NamedTuple):
    """Which refresh tokens of a session are valid, by their generation.

    `previous` is the token that was used last. `oldest` to `current` are the tokens that were issued after it and are
    not used yet. `rotated_at` is the time when a token was last used; within the reuse window after it, tokens from
    `floor` on get an answer. `recovered_at` is the last time since then when `previous` got another successor. A time
    of 0 means never.
    """

    previous: int
    oldest: int
    current: int
    floor: int
    rotated_at: Millis
    recovered_at: Millis


class Session(NamedTuple):
    """One signed-in device. `expires_at` is the time when the session expires, `revoked_at` the time when it was ended
    before that."""

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
    """A signed access token, and its lifetime in seconds."""

    token: str = field(repr=False)
    expires_in: int


GRANTED_SCOPE = "email"
"""The scope of all our tokens, whatever scope the app asked for (RFC 6749, 3.3)."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """The tokens of a session, an access token and a refresh token, with the user and the session."""

    user: User
    session: Session
    access: AccessToken
    refresh_token: str = field(repr=False)

    def document(self) -> dict[str, object]:
        """The token response (RFC 6749, 5.1), with the data of the user."""
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
    """One event in the audit record. It never contains a token, a code or an email."""

    at: Millis
    event: str
    _: KW_ONLY
    login_id: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    detail: str | None = None
