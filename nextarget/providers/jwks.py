"""A cache of a provider's public keys.

It fetches without blocking the event loop, follows Cache-Control, and uses old keys while they cannot be fetched.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from math import ceil
from time import monotonic
from typing import Any

from nextarget.errors import ProviderFailed, ProviderUnavailable
from nextarget.model import Millis
from nextarget.providers.http.client import MAX_ASKING, Answer, ProviderHttp
from nextarget.telemetry import get_logger
from nextarget.tokens.provider_tokens import Keys, keys_of, read_id_token, verify_id_token

REFETCH_SECONDS = 60
"""The shortest time between two fetches for an unknown `kid`, and after a fetch that failed."""
RETRY_SECONDS = 5
"""The time after a failed fetch when there are no usable keys. It is shorter, because nobody can sign in meanwhile."""
DEFAULT_AGE_SECONDS = 3600
MAX_STALE_SECONDS = 24 * 3600

_MAX_AGE = re.compile(r"(?:^|[, \t])max-age=([0-9]{1,9})", re.I)
log = get_logger()


class JwksCache:
    """The keys of one `jwks_uri` (RFC 7517). `clock` returns seconds that never go back."""

    def __init__(self, http: ProviderHttp, uri: str, *, clock: Callable[[], float] = monotonic) -> None:
        self._http = http
        self._uri = uri
        self._clock = clock
        self._keys: Keys = {}
        self._fetching = asyncio.Lock()
        self._waiting = 0
        self._fetched_at = self._fresh_until = self._missed_at = self._failed_at = float("-inf")
        self._retry_at = float("-inf")

    async def keys_for(self, kid: str) -> Keys:
        """The current keys. They are fetched again when they are too old, or when `kid` is not among them.

        Raises ProviderUnavailable if there are no usable keys, or if MAX_ASKING sign-ins already wait for a fetch.
        """
        if self._needs_fetch(kid):
            if self._waiting < MAX_ASKING:
                await self._refetch(kid)
            elif kid not in self._keys:
                raise ProviderUnavailable(
                    note=f"{self._http.named('keys')}: {MAX_ASKING} sign-ins wait for them already"
                )
        if not self._can_serve():
            raise ProviderUnavailable(note=f"{self._http.named('keys')}: none usable", retry_after=self._seconds_left())
        return self._keys

    async def verified(
        self, id_token: str, *, audiences: tuple[str, ...], issuers: tuple[str, ...], now: Millis
    ) -> Mapping[str, Any]:
        """The claims of an id_token. Raises what `verify_id_token` and `keys_for` raise."""
        token = read_id_token(id_token)
        keys = await self.keys_for(token.key_id)
        return verify_id_token(token, keys, audiences=audiences, issuers=issuers, now=now)

    async def keys_after(self, kid: str) -> Keys:
        """As `keys_for`, for a message that its sender repeats when we ask for that.

        Raises ProviderUnavailable also if `kid` is not among the keys, and they could not be fetched since this call:
        the key may be a new one.
        """
        began = self._clock()
        keys = await self.keys_for(kid)
        if kid not in keys and self._fetched_at < began:
            error = ProviderUnavailable(
                note=f"{self._http.named('keys')}: one is unknown, and they were not fetched again",
                retry_after=REFETCH_SECONDS,
            )
            error.counts_as_refusal = True  # anybody can name a key
            raise error
        return keys

    async def _refetch(self, kid: str) -> None:
        """Wait for a fetch in progress, if there is one. Then fetch, if that is still necessary."""
        self._waiting += 1
        try:
            async with self._fetching:
                if self._needs_fetch(kid):
                    await self._fetch()
                    if kid not in self._keys:
                        self._missed_at = self._clock()
        finally:
            self._waiting -= 1

    def _seconds_left(self) -> int | None:
        """The seconds left of the provider's Retry-After from the last failed fetch; None if there are none."""
        seconds = self._retry_at - self._clock()
        return ceil(seconds) if seconds > 0 else None

    def _can_serve(self) -> bool:
        return bool(self._keys) and self._clock() - self._fetched_at <= MAX_STALE_SECONDS

    def _needs_fetch(self, kid: str) -> bool:
        now = self._clock()
        if now - self._failed_at < (REFETCH_SECONDS if self._can_serve() else RETRY_SECONDS):
            return False
        return now >= self._fresh_until or (kid not in self._keys and now - self._missed_at >= REFETCH_SECONDS)

    async def _ask(self) -> Answer:
        """The provider's answer with the keys. Raises ProviderFailed or ProviderUnavailable."""
        return await self._http.get_keys(self._uri)

    async def _fetch(self) -> None:
        try:
            answer = await self._ask()
            keys = keys_of(answer.document)
            if not answer.ok or not keys:
                raise ProviderFailed(note=f"{self._http.named('keys')}: status {answer.status}, {len(keys)} usable")
        except (ProviderFailed, ProviderUnavailable) as error:
            self._failed_at = self._clock()
            self._retry_at = self._failed_at + (error.retry_after or 0)
            log.warning("jwks_fetch_failed", reason=error.note, stale_keys=len(self._keys))
            return
        self._keys = keys
        self._fetched_at = self._clock()
        self._fresh_until = self._fetched_at + _lifetime(answer.headers.get("Cache-Control", ""))


def _lifetime(cache_control: str) -> float:
    """The seconds for which an answer is fresh (RFC 9111, 5.2.2.1): from REFETCH_SECONDS to MAX_STALE_SECONDS."""
    found = _MAX_AGE.search(cache_control)
    allowed = float(found[1]) if found else DEFAULT_AGE_SECONDS
    return min(max(allowed, REFETCH_SECONDS), MAX_STALE_SECONDS)
