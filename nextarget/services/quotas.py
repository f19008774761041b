"""Counts how often something happened within a minute, in memory or in Redis, and compares the counts with quotas."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

WINDOW_SECONDS = 60
_OWN_COUNTS = 50_000
"""Clients that have a count of their own in memory. Later ones share counts, which are found by a hash."""
_SHARED_COUNTS = 50_000
"""Shared counts. Honest clients ask a few times a minute, so that several of them stay below one quota together."""
_REDIS_CONNECTIONS = 50
"""Connections of one worker to Redis, at most."""
_REDIS_SECONDS = 1
"""Time limit for connecting to Redis and for one answer. A busy event loop can be late by less than that."""
_TURN_SECONDS = 5
"""How long a request waits for a free connection. While Redis is fast, a burst of requests takes far less."""
_PAUSE_SECONDS = 5
"""After a failure, Redis is not asked for this time."""


class Share(NamedTuple):
    """A count that a request is added to, and its quota for a minute."""

    key: str
    quota: int


class Verdict(NamedTuple):
    """Whether a request may pass: `left` is what remains of its first quota, `refused_for` the seconds to wait, if any.

    A refused request is not counted. Otherwise one client that goes on asking would use up the quota of its network.
    """

    left: int
    refused_for: float | None


class Counts(Protocol):
    """Where requests are counted."""

    async def count(self, shares: Sequence[Share]) -> Verdict:
        """Count a request, unless one of its quotas is used up. Raises Unavailable."""

    async def close(self) -> None:
        """Close the connections, if there are any."""


class Unavailable(Exception):
    """Redis did not count. The text is the name of the error's class."""


class MemoryCounts:
    """Counts in the memory of this process. All counts start again together, every minute.

    A minute does not begin with a request: a client that was refused would learn from the time to wait when that
    request came. It could be the refresh of an app. The memory that the counts take is bounded.
    """

    def __init__(self) -> None:
        self._hits: dict[str | tuple[int, int], int] = {}
        self._began = time.time()
        self._ends = 0.0

    async def close(self) -> None:
        """Nothing to close."""

    async def count(self, shares: Sequence[Share]) -> Verdict:
        now = time.time()
        hits = self._hits
        if not now < self._ends <= now + WINDOW_SECONDS:  # the minute has ended, or the clock was set back
            hits.clear()
            self._ends = now + WINDOW_SECONDS - (now - self._began) % WINDOW_SECONDS
        counts, refused = [], False
        for width, (key, quota) in enumerate(shares):
            place = self._place(width, key)
            count = hits.get(place, 0)
            counts.append((place, count))
            refused = refused or count >= quota
        left = shares[0].quota - counts[0][1]
        if refused:
            return Verdict(max(0, left), self._ends - now)
        for place, count in counts:
            hits[place] = count + 1
        return Verdict(left - 1, None)

    def _place(self, width: int, key: str) -> str | tuple[int, int]:
        """The count of a key. Wide networks have higher quotas, so they share counts with wide networks alone."""
        if key in self._hits or len(self._hits) < _OWN_COUNTS:
            return key
        return width, hash(key) % _SHARED_COUNTS


_COUNT = """
local left
for place, key in ipairs(KEYS) do
  local quota, hits = tonumber(ARGV[place + 1]), tonumber(redis.call("GET", key) or 0)
  left = left or quota - hits
  if hits >= quota then return {left, redis.call("PTTL", key)} end
end
for _, key in ipairs(KEYS) do
  if redis.call("INCR", key) == 1 then redis.call("EXPIRE", key, ARGV[1]) end
end
return {left - 1}
"""
"""Compares and counts all shares of a request in one call. Returns what remains of the first quota, and for a refused
request also the milliseconds to wait."""


class RedisCounts:
    """Counts in Redis, for several workers and servers together.

    A request that finds every connection in use waits for one. After a failure, requests pass without being counted
    until a pause has ended; then one request tries Redis again, while the others still pass.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        from redis.asyncio import ConnectionPool, Redis
        from redis.exceptions import RedisError

        self._pool = ConnectionPool.from_url(
            url,
            max_connections=_REDIS_CONNECTIONS,
            socket_connect_timeout=_REDIS_SECONDS,
            socket_timeout=_REDIS_SECONDS,
        )
        self._turns = asyncio.Semaphore(self._pool.max_connections)
        self._script = Redis(connection_pool=self._pool).register_script(_COUNT)
        self._error = RedisError
        self._clock = clock
        self._failure: str | None = None
        self._pause_ends = 0.0

    async def close(self) -> None:
        await self._pool.aclose()

    async def count(self, shares: Sequence[Share]) -> Verdict:
        keys, quotas = zip(*shares, strict=True)
        await self._take_turn()
        try:
            self._check_pause()
            left, *refused_for = await self._script(keys=keys, args=(WINDOW_SECONDS, *quotas))
        except self._error as error:
            self._failure = type(error).__name__
            self._pause_ends = self._clock() + _PAUSE_SECONDS
            raise Unavailable(self._failure) from error
        finally:
            self._turns.release()
        self._failure = None
        return Verdict(max(0, left), refused_for[0] / 1000 if refused_for else None)

    async def _take_turn(self) -> None:
        """Wait for a free connection. Raises Unavailable when Redis is slower than requests come."""
        try:
            async with asyncio.timeout(_TURN_SECONDS if self._turns.locked() else None):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable("TurnTimeout") from None

    def _check_pause(self) -> None:
        """Raises Unavailable during a pause. After a pause one request may try Redis, and the next pause begins."""
        if self._failure is None:
            return
        now = self._clock()
        if now < self._pause_ends:
            raise Unavailable(self._failure)
        self._pause_ends = now + _PAUSE_SECONDS


def counts_at(url: str, clock: Callable[[], float] = time.monotonic) -> Counts:
    """`url` is memory:// or redis://…; `clock` gives seconds that never go back."""
    return RedisCounts(url, clock) if url.startswith("redis") else MemoryCounts()


async def try_counting(url: str) -> None:
    """Count once in Redis, as requests are counted, but for no client. Raises Unavailable."""
    counts = counts_at(url)
    try:
        await counts.count([Share("nextarget/trial", _SHARED_COUNTS)])
    finally:
        await counts.close()
