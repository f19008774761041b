"""What the stand-in providers remember: authorization codes and access tokens, in memory and bounded."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nextarget.sandbox.people import Fault, Person

CAPACITY = 10_000
CODE_SECONDS = 600
"""RFC 6749, 4.1.2 recommends at most ten minutes."""

USER_TOKEN_SECONDS = 60 * 24 * 3600
"""User access tokens live about 60 days (docs/facebook-login/guides/access-tokens)."""

Clock = Callable[[], float]
"""Tells the time in seconds since 1970, UTC."""

T = TypeVar("T")


@dataclass(slots=True)
class Grant:
    """What a person agreed to, waiting behind an authorization code."""

    person: Person
    fault: Fault | None
    redirect_uri: str
    scopes: frozenset[str]
    code_challenge: str | None = field(default=None, repr=False)
    nonce: str | None = field(default=None, repr=False)
    spent: bool = False


@dataclass(frozen=True, slots=True)
class UserToken:
    """What stands behind a Facebook user access token. Times are seconds since 1970."""

    person: Person
    fault: Fault | None
    scopes: frozenset[str]
    issued_at: int
    expires_at: int


class BoundedStore(Generic[T]):
    """Keeps each value for `lifetime` seconds, `capacity` values at most; the oldest goes first."""

    def __init__(self, *, lifetime: float, now: Clock, capacity: int = CAPACITY) -> None:
        self._lifetime = lifetime
        self._now = now
        self._capacity = capacity
        self._kept: dict[str, tuple[float, T]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: str, value: T) -> None:
        now = self._now()
        while self._kept:
            oldest = next(iter(self._kept))
            if len(self._kept) < self._capacity and self._kept[oldest][0] > now:
                break
            del self._kept[oldest]
        self._kept[key] = (now + self._lifetime, value)

    def get(self, key: str) -> T | None:
        """The value, or None when the key is unknown or its time is over."""
        expires_at, value = self._kept.get(key, (0.0, None))
        return value if expires_at > self._now() else None


class UserTokens:
    """Facebook's user access tokens, whichever way they were handed out."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._kept: BoundedStore[UserToken] = BoundedStore(lifetime=USER_TOKEN_SECONDS, now=now)

    def issue(self, person: Person, fault: Fault | None, scopes: frozenset[str]) -> str:
        """A new token. With the fault `expired`, its time was over an hour ago."""
        issued_at = int(self._now())
        if fault is Fault.EXPIRED:
            issued_at -= USER_TOKEN_SECONDS + 3600
        token = f"EAAsandbox{secrets.token_urlsafe(120)}"
        self._kept.put(token, UserToken(person, fault, scopes, issued_at, issued_at + USER_TOKEN_SECONDS))
        return token

    def get(self, token: str) -> UserToken | None:
        """What stands behind the token, or None when it is unknown or was forgotten after 60 days."""
        return self._kept.get(token)
