"""How often one client may ask, counted in memory or in Redis.

When the storage fails, requests pass: a limit protects the service, and must not be what stops it.
"""

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Literal, NamedTuple

from aiohttp import web

from nextarget.errors import RateLimited
from nextarget.settings import Network, ProxyHeader
from nextarget.telemetry import get_logger, metrics
from nextarget.web.requests.client_address import client_networks

LISTING_PER_MINUTE = 10
"""How often one user may have sessions listed, and data exported: no other answer costs as much."""
_WIDER = 16
"""How often the quota of one client a network has from which a client can take many addresses."""
_WINDOW_SECONDS = 60
_COMPLAIN_SECONDS = 60
_OWN_COUNTS = 50_000
_SHARED_COUNTS = 50_000
"""So many that honest clients, who ask a few times a minute, stay below a quota that some of them share."""
_REDIS_CONNECTIONS = 50
"""How many connections to Redis one worker opens at most."""
_REDIS_SECONDS = 1
"""How long a connection to Redis may take, and an answer of it: longer than a busy loop stands still."""
_TURN_SECONDS = 5
"""How long a request waits until it may ask Redis: far longer than a burst takes, while Redis is quick."""
_PAUSE_SECONDS = 5
"""How long Redis is left alone after it failed."""

Handler = Callable[[web.Request], Awaitable[web.Response]]
log = get_logger()


class Quotas(NamedTuple):
    """How often a minute one client may begin a login or ask for a nonce, finish a login or ask for tokens, and refresh
    one session."""

    begin: int = 30
    finish: int = 60
    refresh: int = 120


_USUAL = Quotas()


class Allowance(NamedTuple):
    """What is left to a client: shown in the `RateLimit` headers (draft-ietf-httpapi-ratelimit-headers)."""

    policy: str
    quota: int
    left: int


ALLOWANCE = web.RequestKey("allowance", Allowance)
"""Set on a request that was counted, if its client is to be told."""


class Share(NamedTuple):
    """What a request counts against, and how often in a minute it may."""

    key: str
    quota: int


class Verdict(NamedTuple):
    """What became of a request: how much is left of its first share, and for how many seconds it is refused, if it is.

    A refused request counts against nothing: whoever goes on asking takes nothing away from the neighbours in a wider
    network.
    """

    left: int
    refused_for: float | None


class _Minute:
    """Counts in memory, all of which end at once, a minute after the first.

    Past a number of clients, newcomers share counts by their hash: it never grows further.
    """

    def __init__(self) -> None:
        self._hits: Counter[str | tuple[int, int]] = Counter()
        self._ends = 0.0

    async def close(self) -> None:
        """Nothing is open."""

    async def count(self, shares: Sequence[Share]) -> Verdict:
        now = time.time()
        hits = self._hits
        if not now < self._ends <= now + _WINDOW_SECONDS:  # over, or the clock went back
            hits.clear()
            self._ends = now + _WINDOW_SECONDS
        places = [self._place(width, share.key) for width, share in enumerate(shares)]
        refused = any(hits[place] >= share.quota for place, share in zip(places, shares, strict=True))
        if not refused:
            hits.update(places)
        return Verdict(max(0, shares[0].quota - hits[places[0]]), self._ends - now if refused else None)

    def _place(self, width: int, key: str) -> str | tuple[int, int]:
        """Where a share is counted. Wide ones, of which many requests are expected, share with each other alone."""
        if key in self._hits or len(self._hits) < _OWN_COUNTS:
            return key
        return width, hash(key) % _SHARED_COUNTS


class Unavailable(Exception):
    """Redis did not count; the text is the kind of its failure."""


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
"""Judges and counts all shares of a request in one journey: what is left of the first, and when refused, for how many
milliseconds."""


class _Redis:
    """Counts in Redis. At most as many at once as there are connections; the others wait for their turn.

    After a failure nobody asks for some seconds. Then one request does, on trial, and the others pass meanwhile.
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
        """Raises Unavailable."""
        keys, quotas = zip(*shares, strict=True)
        await self._take_turn()
        try:
            self._check_pause()
            left, *refused_for = await self._script(keys=keys, args=(_WINDOW_SECONDS, *quotas))
        except self._error as error:
            self._failure = type(error).__name__
            self._pause_ends = self._clock() + _PAUSE_SECONDS
            raise Unavailable(self._failure) from error
        finally:
            self._turns.release()
        self._failure = None
        return Verdict(max(0, left), refused_for[0] / 1000 if refused_for else None)

    async def _take_turn(self) -> None:
        """Raises Unavailable when it takes too long: Redis answers, but more slowly than requests come."""
        try:
            async with asyncio.timeout(_TURN_SECONDS if self._turns.locked() else None):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable("TurnTimeout") from None

    def _check_pause(self) -> None:
        """Raises Unavailable during a pause; lets one through after it, and begins another."""
        if self._failure is None:
            return
        now = self._clock()
        if now < self._pause_ends:
            raise Unavailable(self._failure)
        self._pause_ends = now + _PAUSE_SECONDS


async def try_counting(url: str) -> None:
    """Count once in that Redis, as requests are, against nobody. Raises Unavailable."""
    storage = _Redis(url, time.monotonic)
    try:
        await storage.count([Share("nextarget/trial", _SHARED_COUNTS)])
    finally:
        await storage.close()


class RateLimits:
    """`storage_url` is memory:// or redis://…; addresses are taken from `trusted` proxies alone, out of one `header`.

    `seed` is secret, and the same on every node. `clock` gives seconds that never go back.
    """

    def __init__(
        self,
        storage_url: str,
        trusted: tuple[Network, ...],
        *,
        header: ProxyHeader = "X-Forwarded-For",
        seed: bytes,
        quotas: Quotas = _USUAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.quotas = quotas
        self._seed = seed
        self._storage = _Redis(storage_url, clock) if storage_url.startswith("redis") else _Minute()
        self._trusted = trusted
        self._header = header
        self._clock = clock
        self._complained_at = float("-inf")

    async def close(self) -> None:
        """Let go of the connections to Redis, if there are any."""
        await self._storage.close()

    async def count_address(
        self, request: web.Request, policy: str, per_minute: int, *, about: str = "", told: bool = True
    ) -> None:
        """Count a request against its client's address; `about` something, against address and that together.

        Raises RateLimited. Unless `told`, the answer says nothing of what is left, nor when the minute began. Where it
        is about something, the limit is drawn anew each minute, up to twice as high: who knew it would spend all but
        the last, and be told by that one whether somebody else at the same address had asked.
        """
        networks = client_networks(request, self._trusted, self._header)
        # In braces what all keys of a request have in common: a cluster of Redis keeps those in one place.
        place = f"nextarget/{policy}/{{{about}{networks[-1]}}}"
        shares = [Share(place + each, per_minute * (_WIDER if width else 1)) for width, each in enumerate(networks)]
        if about:
            shares = [Share(key, quota + self._drawn(key, quota)) for key, quota in shares]
        await self._count(request, policy, shares, told=told)

    def _drawn(self, key: str, below: int) -> int:
        """A number that nobody else can know, the same for a key on every node during one minute."""
        message = f"{key} {time.time() // _WINDOW_SECONDS}".encode()
        return int.from_bytes(hmac.digest(self._seed, message, "sha256")[:8]) % below

    async def count(self, request: web.Request, policy: str, per_minute: int, key: str, *, told: bool = True) -> None:
        """Count a request against `key`; `told` as above. Raises RateLimited."""
        await self._count(request, policy, [Share(f"nextarget/{policy}/{key}", per_minute)], told=told)

    async def _count(self, request: web.Request, policy: str, shares: Sequence[Share], *, told: bool = True) -> None:
        try:
            left, refused_for = await self._storage.count(shares)
        except Unavailable as error:
            metrics.count_uncounted()
            self._complain(str(error))
            return
        if told:
            request[ALLOWANCE] = Allowance(policy, shares[0].quota, left)
        if refused_for is not None:
            metrics.count_rate_limited(policy)
            raise RateLimited(seconds=max(1, round(refused_for)) if told else _WINDOW_SECONDS)

    def _complain(self, reason: str) -> None:
        """One line a minute, however many requests pass uncounted."""
        now = self._clock()
        if now - self._complained_at >= _COMPLAIN_SECONDS:
            self._complained_at = now
            log.error("rate_limits_unavailable", reason=reason)


LIMITS = web.AppKey("rate_limits", RateLimits)
"""Absent when limits are off."""


def limited(policy: str, step: Literal["begin", "finish"]) -> Callable[[Handler], Handler]:
    """A handler that one client may call as often as the quota of this step of a login says."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def counted(request: web.Request) -> web.Response:
            if (limits := request.app.get(LIMITS)) is not None:
                await limits.count_address(request, policy, getattr(limits.quotas, step))
            response = await handler(request)
            show_allowance(request, response)
            return response

        return counted

    return decorate


def show_allowance(request: web.Request, response: web.StreamResponse) -> None:
    """Tell a counted client what is left."""
    if (allowance := request.get(ALLOWANCE)) is not None:
        response.headers["RateLimit-Policy"] = f'"{allowance.policy}";q={allowance.quota};w=60'
        response.headers["RateLimit"] = f'"{allowance.policy}";r={allowance.left}'


async def count_user(request: web.Request, policy: str, per_minute: int, user_id: str) -> None:
    """Count a request against whoever is signed in, wherever they ask from. Raises RateLimited.

    The answer tells nothing of it: who holds a copied token would learn when the person's own app asks.
    """
    if LIMITS in request.app:
        await request.app[LIMITS].count(request, policy, per_minute, user_id, told=False)
