"""The cache of a provider's keys: it sends few requests, keeps keys fresh, and serves while the provider is down."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from nextarget.errors import ProviderUnavailable
from nextarget.model import Provider as Name
from nextarget.providers import jwks
from nextarget.providers.http.breaker import FAILURES
from nextarget.providers.http.client import ProviderHttp
from nextarget.providers.jwks import DEFAULT_AGE_SECONDS, MAX_STALE_SECONDS, REFETCH_SECONDS, RETRY_SECONDS, JwksCache
from tests.providers.conftest import Clock, Wire, http_answer

HOUR = 3600


@dataclass
class Published:
    """The keys that the provider publishes, and a count of requests: in total and at the same time."""

    document: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fetches: int = 0
    most_at_once: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    _at_once: int = 0

    async def handle(self, _request: web.Request) -> web.Response:
        self.fetches += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await self.open.wait()
        self._at_once -= 1
        return web.json_response(self.document, status=self.status, headers=self.headers)


@pytest.fixture
def published(jwks_of: Callable[..., Any]) -> Published:
    published = Published(jwks_of("key-1"))
    published.open.set()
    return published


@pytest.fixture
async def cache(
    aiohttp_server: Callable[..., Any], http: aiohttp.ClientSession, published: Published, clock: Clock
) -> JwksCache:
    app = web.Application()
    app.router.add_get("/certs", published.handle)
    server = await aiohttp_server(app)
    return JwksCache(ProviderHttp(http, Name("google")), str(server.make_url("/certs")), clock=clock)


async def asking(cache: JwksCache, kid: str, times: int = 1) -> set[str]:
    """The kids that many sign-ins get at the same time."""
    answers = await asyncio.gather(*(cache.keys_for(kid) for _ in range(times)))
    assert len({frozenset(keys) for keys in answers}) == 1
    return set(answers[0])


async def test_a_hundred_sign_ins_at_once_fetch_once(cache: JwksCache, published: Published) -> None:
    """Sign-ins that begin while the keys are being fetched wait for the same answer."""
    published.open.clear()
    waiting = asyncio.gather(*(cache.keys_for("key-1") for _ in range(100)))
    while published.fetches == 0:
        await asyncio.sleep(0)
    published.open.set()
    answers = await waiting
    assert published.fetches == 1
    assert all("key-1" in keys for keys in answers)


async def test_one_that_hangs_up_while_it_fetches_does_not_harm_the_others(
    cache: JwksCache, published: Published
) -> None:
    """The next waiting sign-in fetches the keys instead."""
    published.open.clear()
    first, second = (asyncio.create_task(cache.keys_for("key-1")) for _ in range(2))
    while published.fetches == 0:
        await asyncio.sleep(0)
    first.cancel()
    published.open.set()
    assert "key-1" in await second


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        ("public, max-age=22000, must-revalidate, no-transform", 22000),
        ("max-age=7200", 7200),
        ("MAX-AGE=7200", 7200),
        ("no-cache,max-age=7200", 7200),
        ("s-maxage=10, max-age=7200", 7200),
        ("s-maxage=10", DEFAULT_AGE_SECONDS),
        ("max-age=0", REFETCH_SECONDS),
        ("max-age=5", REFETCH_SECONDS),
        ("max-age=-5", DEFAULT_AGE_SECONDS),
        ("max-age=soon", DEFAULT_AGE_SECONDS),
        ("max-age=\u0667\u0662\u0660\u0660", DEFAULT_AGE_SECONDS),
        ("max-age=999999999", MAX_STALE_SECONDS),
        ("max-age=" + "9" * 30, MAX_STALE_SECONDS),
        (None, DEFAULT_AGE_SECONDS),
    ],
)
async def test_keys_are_kept_as_long_as_cache_control_allows(
    cache: JwksCache, published: Published, clock: Clock, cache_control: str | None, seconds: int
) -> None:
    """max-age counts (RFC 9111, 5.2.2.1), but within the limits of a minute and a day."""
    published.headers = {"Cache-Control": cache_control} if cache_control else {}
    await cache.keys_for("key-1")
    clock.seconds += seconds - 1
    await cache.keys_for("key-1")
    assert published.fetches == 1
    clock.seconds += 1
    await cache.keys_for("key-1")
    assert published.fetches == 2


@given(st.text(max_size=60))
def test_no_cache_control_breaks_anything(value: str) -> None:
    """With any value of the header, the keys are kept between a minute and a day."""
    assert REFETCH_SECONDS <= jwks._lifetime(value) <= MAX_STALE_SECONDS


async def test_a_key_published_just_now_is_found(
    cache: JwksCache, published: Published, jwks_of: Callable[..., Any]
) -> None:
    """A token with a new kid makes the cache fetch again, although its keys are fresh."""
    assert await asking(cache, "key-1") == {"key-1"}
    published.document = jwks_of("key-1", "key-2")
    assert await asking(cache, "key-2") == {"key-1", "key-2"}
    assert published.fetches == 2


async def test_a_key_that_was_withdrawn_is_forgotten(
    cache: JwksCache, published: Published, clock: Clock, jwks_of: Callable[..., Any]
) -> None:
    """A key that the provider no longer publishes verifies nothing after its age limit."""
    await cache.keys_for("key-1")
    published.document = jwks_of("key-2")
    clock.seconds += DEFAULT_AGE_SECONDS
    assert await asking(cache, "key-1") == {"key-2"}


async def test_made_up_kids_ask_at_most_once_a_minute(cache: JwksCache, published: Published, clock: Clock) -> None:
    """Tokens with invented kids do not cause a request for every token."""
    await cache.keys_for("key-1")
    for number in range(50):
        await cache.keys_for(f"made up {number}")
    assert published.fetches == 2
    clock.seconds += REFETCH_SECONDS - 1
    await cache.keys_for("made up")
    assert published.fetches == 2
    clock.seconds += 1
    await asyncio.gather(*(cache.keys_for(f"made up again {number}") for number in range(50)))
    assert published.fetches == 3
    assert published.most_at_once == 1


async def test_keys_are_fetched_by_one_at_a_time(cache: JwksCache, published: Published, clock: Clock) -> None:
    """At most one request is under way, for any number of sign-ins and keys."""
    for _ in range(5):
        await asyncio.gather(*(cache.keys_for(f"key-{number % 3}") for number in range(30)))
        clock.seconds += HOUR
    assert published.most_at_once == 1
    assert published.fetches <= 10


DOWN: list[tuple[int, Any]] = [
    (500, {}),
    (404, {"error": "gone"}),
    (200, {"keys": []}),
    (200, {}),
    (200, []),
    (302, {}),
]


@pytest.mark.parametrize(("status", "document"), DOWN)
async def test_stale_keys_serve_while_the_provider_is_down(
    cache: JwksCache, published: Published, clock: Clock, status: int, document: object
) -> None:
    """While the provider is down or publishes nothing usable, sign-ins work for a day. After the day they fail."""
    await cache.keys_for("key-1")
    published.status, published.document = status, document
    clock.seconds += 2 * HOUR
    assert await asking(cache, "key-1", times=20) == {"key-1"}
    clock.seconds += MAX_STALE_SECONDS - 2 * HOUR
    assert await asking(cache, "key-1") == {"key-1"}
    clock.seconds += 1
    with pytest.raises(ProviderUnavailable):
        await cache.keys_for("key-1")


async def test_a_provider_that_redeems_no_codes_publishes_keys_all_the_same(
    wire: Wire, cache: JwksCache, published: Published
) -> None:
    """The breaker is only about redeeming codes: while it is open, native sign-ins work, and fetch fresh keys."""
    wire.answer = http_answer(b"{}", status="503 Service Unavailable")
    for _ in range(FAILURES):
        with pytest.raises(ProviderUnavailable):
            await cache._http.post(wire.url, {})
    assert cache._http.breaker.open
    assert await asking(cache, "key-1") == {"key-1"}
    assert published.fetches == 1


async def test_keys_that_cannot_be_fetched_stop_no_redeeming(
    wire: Wire, cache: JwksCache, published: Published, clock: Clock
) -> None:
    """While only the keys are out of reach, stale keys serve and codes are redeemed."""
    await cache.keys_for("key-1")
    published.status = 503
    wire.answer = http_answer(b"{}")
    for _ in range(FAILURES + 1):
        clock.seconds += 2 * HOUR
        assert await asking(cache, "key-1") == {"key-1"}
    assert published.fetches == FAILURES + 2
    assert not cache._http.breaker.open
    assert (await cache._http.post(wire.url, {})).ok


async def test_a_failing_provider_is_not_hammered(cache: JwksCache, published: Published, clock: Clock) -> None:
    """After a failure the provider gets no request for a minute, whichever key is needed. The old keys are used."""
    await cache.keys_for("key-1")
    clock.seconds += 2 * HOUR
    published.status = 503
    for number in range(20):
        assert await asking(cache, f"key-{number}") == {"key-1"}
    assert published.fetches == 2
    clock.seconds += REFETCH_SECONDS - 1
    assert await asking(cache, "key-1") == {"key-1"}
    assert published.fetches == 2
    clock.seconds += 1
    published.status = 200
    assert await asking(cache, "key-1", times=20) == {"key-1"}
    assert published.fetches == 3


async def test_without_any_keys_a_failing_provider_is_asked_again_soon(
    cache: JwksCache, published: Published, clock: Clock
) -> None:
    """If the cache has no keys, nobody can sign in. So the pause after a failure is five seconds, not a minute."""
    published.status = 503
    for number in range(20):
        with pytest.raises(ProviderUnavailable):
            await cache.keys_for(f"key-{number}")
    assert published.fetches == 1
    clock.seconds += RETRY_SECONDS - 1
    with pytest.raises(ProviderUnavailable):
        await cache.keys_for("key-1")
    assert published.fetches == 1
    clock.seconds += 1
    published.status = 200
    assert await asking(cache, "key-1", times=20) == {"key-1"}
    assert published.fetches == 2


async def test_a_provider_that_comes_back_is_noticed(
    cache: JwksCache, published: Published, clock: Clock, jwks_of: Callable[..., Any]
) -> None:
    """A minute after the last failure, the cache fetches fresh keys in place of the stale ones."""
    await cache.keys_for("key-1")
    clock.seconds += 2 * HOUR
    published.status = 500
    await cache.keys_for("key-1")
    published.status, published.document = 200, jwks_of("key-1", "key-2")
    assert await asking(cache, "key-1") == {"key-1"}
    clock.seconds += REFETCH_SECONDS
    assert await asking(cache, "key-1") == {"key-1", "key-2"}
    clock.seconds += DEFAULT_AGE_SECONDS - 1
    assert await asking(cache, "key-1") == {"key-1", "key-2"}
    assert published.fetches == 3


async def test_nothing_is_fetched_before_the_first_sign_in(cache: JwksCache, published: Published) -> None:
    """A server starts without a request to the provider."""
    assert cache is not None
    assert published.fetches == 0
