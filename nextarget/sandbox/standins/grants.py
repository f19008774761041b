"""A bounded store in memory, where stand-ins keep authorization codes and tokens."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nextarget.sandbox.people import Fault, Person

CAPACITY = 10_000
PROVIDER_CODE_SECONDS = 600
"""The lifetime of a code. RFC 6749, 4.1.2 recommends at most ten minutes."""

Clock = Callable[[], float]
"""Returns the time in seconds since 1970, UTC."""

T = TypeVar("T")


@dataclass(slots=True)
class Grant:
    """What an authorization code is bound to: the person who agreed, and the parameters of the request."""

    person: Person
    fault: Fault | None
    redirect_uri: str
    scopes: frozenset[str]
    code_challenge: str | None = field(default=None, repr=False)
    nonce: str | None = field(default=None, repr=False)
    spent: bool = False


class BoundedStore(Generic[T]):
    """Keeps a value for `lifetime` seconds. It keeps at most `capacity` values; then the oldest one is removed."""

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
        """The value, or None if the key is unknown or the value has expired."""
        expires_at, value = self._kept.get(key, (0.0, None))
        return value if expires_at > self._now() else None
