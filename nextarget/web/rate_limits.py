"""How many requests one client may make in a minute. `services/quotas.py` counts them.

When counting fails, requests pass: a limit protects the service and must not stop it.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from hashlib import blake2b
from typing import Literal, NamedTuple

from aiohttp import web

from nextarget.errors import ProblemError, RateLimited
from nextarget.services.quotas import WINDOW_SECONDS, Share, Unavailable, counts_at
from nextarget.settings import Network, ProxyHeader
from nextarget.telemetry import get_logger, metrics
from nextarget.web.requests.client_address import client_networks

LISTING_PER_MINUTE = 10
"""How often one user may list sessions or export data. These answers cost the server most."""
_WIDER = 16
"""One client can use many addresses of an IPv6 /48, so a /48 gets a quota too: this many times the quota of a /64."""
_COMPLAIN_SECONDS = 60
_REMEMBERED_CLIENTS = 4096
_REMEMBERED_LENGTH = 256
"""Characters in the header of a proxy. A client that sends more is not remembered, so that it cannot fill memory."""

Handler = Callable[[web.Request], Awaitable[web.Response]]
log = get_logger()


class Quotas(NamedTuple):
    """Requests in a minute: one client may begin logins or ask for nonces (`begin`), finish logins or ask for tokens
    (`finish`), and refresh one session (`refresh`)."""

    begin: int = 30
    finish: int = 60
    refresh: int = 120


_USUAL = Quotas()


class Allowance(NamedTuple):
    """A client's quota and what is left of it, for the `RateLimit` headers (draft-ietf-httpapi-ratelimit-headers)."""

    policy: str
    quota: int
    left: int


ALLOWANCE = web.RequestKey("allowance", Allowance)
"""Set on a counted request, if the client may know its quota."""


class RateLimits:
    """`storage_url` is memory:// or redis://…. A client's address is read from `header`, if a `trusted` proxy sent it.

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
        self._storage = counts_at(storage_url, clock)
        self._trusted = trusted
        self._header = header
        self._clock = clock
        self._networks: dict[tuple[str | None, ...], tuple[str, ...]] = {}
        self._complained_at = float("-inf")

    async def close(self) -> None:
        """Close the connections to Redis, if there are any."""
        await self._storage.close()

    async def count_address(
        self, request: web.Request, policy: str, per_minute: int, *, about: str = "", shows_quota: bool = True
    ) -> None:
        """Count a request against its client's address, or with `about` against the address and this text together.

        Raises RateLimited. Without `shows_quota`, the answer shows neither the rest of the quota nor the time until the
        minute ends. With `about`, a random number is added to the quota every minute, up to the quota itself. A thief
        who knew the exact limit could use up all requests but one, and learn from the last one whether another client
        at the address had sent a request.
        """
        networks = self._networks_of(request)
        # All keys of a request have the same text in braces, so that a Redis cluster keeps them on one node.
        place = f"nextarget/{policy}/{{{about}{networks[-1]}}}"
        shares = []
        for width, network in enumerate(networks):
            key, quota = place + network, per_minute * (_WIDER if width else 1)
            shares.append(Share(key, quota + self._drawn(key, quota) if about else quota))
        await self._count(request, policy, shares, shows_quota=shows_quota)

    def _networks_of(self, request: web.Request) -> tuple[str, ...]:
        """The networks of the client. Those of the last clients are remembered: a client asks several times within a
        few minutes, and to read a proxy's header takes longer than to count the request."""
        fields = request.headers.getall(self._header, ())
        known = self._networks.get((request.remote, *fields))
        if known is None:
            known = client_networks(request, self._trusted, self._header)
            if sum(map(len, fields)) <= _REMEMBERED_LENGTH:
                if len(self._networks) >= _REMEMBERED_CLIENTS:
                    self._networks.clear()
                self._networks[request.remote, *fields] = known
        return known

    def _drawn(self, key: str, below: int) -> int:
        """A secret random number below `below`. During one minute it is the same for a key on every node."""
        message = f"{key} {int(time.time()) // WINDOW_SECONDS}".encode()
        return int.from_bytes(blake2b(message, key=self._seed, digest_size=8).digest()) % below

    async def count(
        self, request: web.Request, policy: str, per_minute: int, key: str, *, shows_quota: bool = True
    ) -> None:
        """Count a request against `key`; `shows_quota` as in `count_address`. Raises RateLimited."""
        await self._count(request, policy, [Share(f"nextarget/{policy}/{key}", per_minute)], shows_quota=shows_quota)

    async def _count(
        self, request: web.Request, policy: str, shares: Sequence[Share], *, shows_quota: bool = True
    ) -> None:
        try:
            left, refused_for = await self._storage.count(shares)
        except Unavailable as error:
            metrics.count_uncounted()
            self._complain(str(error))
            return
        if shows_quota:
            request[ALLOWANCE] = Allowance(policy, shares[0].quota, left)
        if refused_for is not None:
            metrics.count_rate_limited(policy)
            raise RateLimited(seconds=max(1, round(refused_for)) if shows_quota else WINDOW_SECONDS)

    def _complain(self, reason: str) -> None:
        """Log that requests are not counted, at most once a minute."""
        now = self._clock()
        if now - self._complained_at >= _COMPLAIN_SECONDS:
            self._complained_at = now
            log.error("rate_limits_unavailable", reason=reason)


LIMITS = web.AppKey("rate_limits", RateLimits)
"""Absent when limits are off."""


def limited(policy: str, step: Literal["begin", "finish"]) -> Callable[[Handler], Handler]:
    """Limit how often a client may call the handler, with the quota for this step of a login."""

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


class CountingRefusals:
    """A context for a request of which only refusals count: one that is refused in it counts against its client's
    address, with the quota for the last step of a login."""

    __slots__ = ("_policy", "_request")

    def __init__(self, request: web.Request, policy: str) -> None:
        self._request = request
        self._policy = policy

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        limits = self._request.app.get(LIMITS)
        refused = isinstance(error, ProblemError) and (error.status < 500 or error.counts_as_refusal)
        if refused and limits is not None:
            await limits.count_address(self._request, self._policy, limits.quotas.finish)


def show_allowance(request: web.Request, response: web.StreamResponse) -> None:
    """Add headers that show the rest of the client's quota, if the request was counted."""
    if (allowance := request.get(ALLOWANCE)) is not None:
        response.headers["RateLimit-Policy"] = f'"{allowance.policy}";q={allowance.quota};w=60'
        response.headers["RateLimit"] = f'"{allowance.policy}";r={allowance.left}'


async def count_user(request: web.Request, policy: str, per_minute: int, user_id: str) -> None:
    """Count a request against the signed-in user, whatever the address. Raises RateLimited.

    The answer does not show the count. The holder of a stolen token could otherwise see when the user's own app sends
    requests.
    """
    if LIMITS in request.app:
        await request.app[LIMITS].count(request, policy, per_minute, user_id, shows_quota=False)
