"""How often one client may ask, counted in memory or, by the `limits` library, in Redis.

When the storage fails, requests pass: a limit protects the service, and must not be what stops it.
"""

import asyncio
import ipaddress
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from aiohttp import web

from nextarget.errors import RateLimited
from nextarget.settings import Network
from nextarget.telemetry import get_logger, metrics
from nextarget.web.grammar import OWS

BEGIN_PER_MINUTE = 30
FINISH_PER_MINUTE = 60
REFRESH_PER_MINUTE = 120
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

_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{1,45}")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Handler = Callable[[web.Request], Awaitable[web.Response]]
log = get_logger()


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left to a client: shown in the `RateLimit` headers (draft-ietf-httpapi-ratelimit-headers)."""

    policy: str
    quota: int
    left: int


ALLOWANCE = web.RequestKey("allowance", Allowance)
"""Set on a request that was counted."""


class _Minute:
    """Counts in memory, all of which end at once, a minute after the first.

    Past a number of clients, newcomers share counts by their hash: it never grows further.

    The library's own storage in memory is not used: with every hit it starts a task that walks over all its keys.
    """

    def __init__(self) -> None:
        self._hits: Counter[str | int] = Counter()
        self._ends = 0.0

    async def close(self) -> None:
        """Nothing is open."""

    async def incr(self, key: str, expiry: float) -> int:
        now = time.time()
        if not now < self._ends <= now + expiry:  # over, or the clock went back
            self._hits.clear()
            self._ends = now + expiry
        counted: str | int = key
        if len(self._hits) >= _OWN_COUNTS and key not in self._hits:
            counted = hash(key) % _SHARED_COUNTS
        self._hits[counted] += 1
        return self._hits[counted]

    async def get_expiry(self, _key: str) -> float:
        return self._ends


class _Unavailable(Exception):
    """Redis did not count; the text is the kind of its failure."""


class _Redis:
    """Counts in Redis. At most as many at once as there are connections; the others wait for their turn.

    After a failure nobody asks for some seconds. Then one request does, on trial, and the others pass meanwhile.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        from limits.errors import StorageError
        from limits.storage import storage_from_string
        from redis.asyncio import ConnectionPool

        self._pool = ConnectionPool.from_url(
            url,
            max_connections=_REDIS_CONNECTIONS,
            socket_connect_timeout=_REDIS_SECONDS,
            socket_timeout=_REDIS_SECONDS,
        )
        self._turns = asyncio.Semaphore(self._pool.max_connections)
        options: dict[str, Any] = {"implementation": "redispy", "connection_pool": self._pool}
        self._storage: Any = storage_from_string(f"async+{url}", wrap_exceptions=True, **options)
        self._storage_error = StorageError
        self._clock = clock
        self._failure: str | None = None
        self._pause_ends = 0.0

    async def close(self) -> None:
        await self._pool.aclose()

    async def incr(self, key: str, expiry: int) -> int:
        return int(await self._ask(self._storage.incr, key, expiry))

    async def get_expiry(self, key: str) -> float:
        return await self._ask(self._storage.get_expiry, key)

    async def _ask(self, question: Callable[..., Awaitable[float]], *arguments: object) -> float:
        """Raises _Unavailable."""
        await self._take_turn()
        try:
            self._check_pause()
            answer = await question(*arguments)
        except self._storage_error as error:
            self._failure = type(error.storage_error).__name__
            self._pause_ends = self._clock() + _PAUSE_SECONDS
            raise _Unavailable(self._failure) from error
        finally:
            self._turns.release()
        self._failure = None
        return answer

    async def _take_turn(self) -> None:
        """Raises _Unavailable when it takes too long: Redis answers, but more slowly than requests come."""
        try:
            async with asyncio.timeout(_TURN_SECONDS if self._turns.locked() else None):
                await self._turns.acquire()
        except TimeoutError:
            raise _Unavailable("TurnTimeout") from None

    def _check_pause(self) -> None:
        """Raises _Unavailable during a pause; lets one through after it, and begins another."""
        if self._failure is None:
            return
        now = self._clock()
        if now < self._pause_ends:
            raise _Unavailable(self._failure)
        self._pause_ends = now + _PAUSE_SECONDS


class RateLimits:
    """`storage_url` is memory:// or redis://…; addresses are taken from `trusted` proxies alone.

    `clock` gives seconds that never go back.
    """

    def __init__(
        self, storage_url: str, trusted: tuple[Network, ...], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage = _Redis(storage_url, clock) if storage_url.startswith("redis") else _Minute()
        self._trusted = trusted
        self._clock = clock
        self._complained_at = float("-inf")

    async def close(self) -> None:
        """Let go of the connections to Redis, if there are any."""
        await self._storage.close()

    async def count_address(self, request: web.Request, policy: str, per_minute: int) -> None:
        """Count a request against its client's address. Raises RateLimited."""
        await self.count(request, policy, per_minute, client_key(request, self._trusted))

    async def count(self, request: web.Request, policy: str, per_minute: int, key: str) -> None:
        """Count a request against `key`. Raises RateLimited."""
        counter = f"nextarget/{policy}/{key}"
        try:
            hits = await self._storage.incr(counter, _WINDOW_SECONDS)
            request[ALLOWANCE] = Allowance(policy, per_minute, max(0, per_minute - hits))
            if hits <= per_minute:
                return
            resets_at = await self._storage.get_expiry(counter)
        except _Unavailable as error:
            metrics.count_uncounted()
            self._complain(str(error))
            return
        metrics.count_rate_limited(policy)
        raise RateLimited(seconds=max(1, round(resets_at - time.time())))

    def _complain(self, reason: str) -> None:
        """One line a minute, however many requests pass uncounted."""
        now = self._clock()
        if now - self._complained_at >= _COMPLAIN_SECONDS:
            self._complained_at = now
            log.error("rate_limits_unavailable", reason=reason)


LIMITS = web.AppKey("rate_limits", RateLimits)
"""Absent when limits are off."""


def limited(policy: str, per_minute: int) -> Callable[[Handler], Handler]:
    """A handler that one client may call so often."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def counted(request: web.Request) -> web.Response:
            if LIMITS in request.app:
                await request.app[LIMITS].count_address(request, policy, per_minute)
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


def client_key(request: web.BaseRequest, trusted: tuple[Network, ...]) -> str:
    """The client's address; of an IPv6 address the /64, which one client has to itself."""
    address = client_address(request, trusted)
    if address is None:
        return "unknown"
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def client_address(request: web.BaseRequest, trusted: tuple[Network, ...]) -> Address | None:
    """Who asks, as far as it can be known.

    `X-Forwarded-For` is read from the right, and only as long as each hop is a trusted proxy: what a client wrote
    into it itself changes nothing.
    """
    address = address_of(request.remote or "")
    if address is not None and in_any(address, trusted):
        hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        for hop in reversed(hops):
            forwarded = forwarded_address(hop)
            if forwarded is None:
                break
            address = forwarded
            if not in_any(address, trusted):
                break
    return address


def forwarded_address(hop: str) -> Address | None:
    """The address in one item of `X-Forwarded-For`, None for anything else, a zone included: it means something on one
    machine alone (RFC 4007, 11.2), and names what it likes."""
    hop = hop.strip(OWS)
    return address_of(hop) if _ADDRESS.fullmatch(hop) else None


def in_any(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def address_of(text: str) -> Address | None:
    """The address that a text is; an IPv4 one written as IPv6 is the IPv4 one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
