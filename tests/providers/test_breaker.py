"""The circuit breaker of a provider: it opens after failures in a row, and one successful trial closes it."""

import asyncio
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from nextarget.errors import ProviderFailed, ProviderUnavailable
from nextarget.model import Provider as Name
from nextarget.providers.http.breaker import COOL_DOWN_SECONDS, FAILURES
from nextarget.providers.http.client import ProviderHttp
from nextarget.registry import PROVIDERS
from tests.providers.conftest import Clock, Provider

URL = "https://provider.example/token"
DOWN: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 503},
    {"status": 429},
    {"exception": TimeoutError()},
    {"exception": aiohttp.ClientOSError(104, "Connection reset by peer")},
    {"exception": aiohttp.ServerDisconnectedError()},
]
"""Behaviour of a provider that is unavailable."""
THERE: list[dict[str, Any]] = [
    {"payload": {"access_token": "x"}},
    {"payload": {"error": "invalid_grant"}, "status": 400},
    {"payload": {"error": "invalid_client"}, "status": 401},
    {"payload": {}, "status": 404},
    {"body": "<html>"},
]
"""Behaviour of a provider that is available, whether it accepts or refuses the request."""


@pytest.fixture
def asking(http: aiohttp.ClientSession, clock: Clock) -> ProviderHttp:
    return ProviderHttp(http, Name("google"), clock=clock)


async def ask(asking: ProviderHttp) -> Exception | None:
    """Send one request, and return the error that it raised."""
    try:
        await asking.post(URL, {})
    except (ProviderUnavailable, ProviderFailed) as error:
        return error
    return None


async def fail(asking: ProviderHttp, provider: Provider, times: int = FAILURES) -> None:
    for _ in range(times):
        provider.answers("POST", URL, status=503)
        assert isinstance(await ask(asking), ProviderUnavailable)


@pytest.mark.parametrize("failure", DOWN, ids=repr)
async def test_failures_in_a_row_open_it_and_nobody_is_asked(
    asking: ProviderHttp, provider: Provider, failure: dict[str, Any]
) -> None:
    """While the breaker is open, a call fails at once with the same error as for the provider's own failure."""
    for number in range(FAILURES):
        assert not asking.breaker.open, number
        provider.answers("POST", URL, **failure)
        assert isinstance(await ask(asking), ProviderUnavailable)
    assert asking.breaker.open
    assert not asking.answering
    asked = len(provider.asked)
    error = await ask(asking)
    assert isinstance(error, ProviderUnavailable)
    assert error.note == "google: not asked, since it keeps failing"
    assert (error.detail, error.retry_after) == (ProviderUnavailable.sentence, COOL_DOWN_SECONDS)
    assert len(provider.asked) == asked


@pytest.mark.parametrize("answer", THERE, ids=repr)
async def test_an_answer_between_failures_starts_the_count_anew(
    asking: ProviderHttp, provider: Provider, answer: dict[str, Any]
) -> None:
    """A refusal, for example of an invented code, is an answer: bad codes cannot open the breaker."""
    for _ in range(3):
        await fail(asking, provider, FAILURES - 1)
        provider.answers("POST", URL, **answer)
        await ask(asking)
    assert not asking.breaker.open
    for _ in range(2 * FAILURES):
        provider.answers("POST", URL, **answer)
        await ask(asking)
    assert not asking.breaker.open


async def test_it_stays_open_for_the_cool_down_to_the_moment(
    asking: ProviderHttp, provider: Provider, clock: Clock
) -> None:
    """`open` tells a metric that the provider's last answer was a failure; `answering` tells apps when to try again."""
    await fail(asking, provider)
    clock.seconds += COOL_DOWN_SECONDS - 0.001
    assert not asking.answering
    assert isinstance(await ask(asking), ProviderUnavailable)
    assert len(provider.asked) == FAILURES
    clock.seconds += 0.001
    assert asking.answering
    assert asking.breaker.open


@pytest.mark.parametrize("answer", THERE, ids=repr)
async def test_one_trial_that_is_answered_closes_it(
    asking: ProviderHttp, provider: Provider, clock: Clock, answer: dict[str, Any]
) -> None:
    """After the cool-down one answered trial closes the breaker, and the count of failures starts at zero."""
    await fail(asking, provider)
    clock.seconds += COOL_DOWN_SECONDS
    provider.answers("POST", URL, **answer)
    await ask(asking)
    assert not asking.breaker.open
    await fail(asking, provider, FAILURES - 1)
    assert not asking.breaker.open


async def test_a_trial_that_fails_starts_the_cool_down_anew(
    asking: ProviderHttp, provider: Provider, clock: Clock
) -> None:
    """After a cool-down, one failed trial is enough to start the next cool-down."""
    await fail(asking, provider)
    clock.seconds += COOL_DOWN_SECONDS
    for _ in range(3):
        await fail(asking, provider, 1)
        asked = len(provider.asked)
        clock.seconds += COOL_DOWN_SECONDS - 1
        assert isinstance(await ask(asking), ProviderUnavailable)
        assert len(provider.asked) == asked
        clock.seconds += 1
        assert asking.answering


async def test_only_one_call_is_on_trial(asking: ProviderHttp, clock: Clock) -> None:
    """Calls during a trial are refused at once: a hanging provider delays one person, not all."""
    breaker = asking.breaker
    for _ in range(FAILURES):
        with pytest.raises(ProviderUnavailable), breaker.call():
            raise ProviderUnavailable
    clock.seconds += COOL_DOWN_SECONDS
    with breaker.call():
        for _ in range(3):
            with pytest.raises(ProviderUnavailable), breaker.call():
                pytest.fail("two calls are on trial")
    assert not breaker.open


async def test_a_trial_that_is_cancelled_leaves_the_next_call_to_try(asking: ProviderHttp, clock: Clock) -> None:
    """A cancelled trial proves nothing, and the next call is a trial again."""
    breaker = asking.breaker
    for _ in range(FAILURES):
        with pytest.raises(ProviderUnavailable), breaker.call():
            raise ProviderUnavailable
    clock.seconds += COOL_DOWN_SECONDS
    with pytest.raises(asyncio.CancelledError), breaker.call():
        raise asyncio.CancelledError
    assert breaker.open
    with breaker.call():
        pass
    assert not breaker.open


async def test_what_was_under_way_when_it_opened_does_not_prolong_it(asking: ProviderHttp, clock: Clock) -> None:
    """Calls that began before the breaker opened do not restart the cool-down when they fail. If one succeeds, the
    breaker closes."""
    breaker = asking.breaker
    under_way = [breaker.call() for _ in range(FAILURES + 3)]
    for call in under_way:
        call.__enter__()
    *failing, late, last = under_way
    for call in failing:
        assert not call.__exit__(ProviderUnavailable, ProviderUnavailable(), None)
    clock.seconds += COOL_DOWN_SECONDS - 1
    assert not late.__exit__(ProviderUnavailable, ProviderUnavailable(), None)
    clock.seconds += 1
    assert asking.answering
    last.__exit__(None, None, None)
    assert not breaker.open


async def test_one_provider_that_fails_says_nothing_of_another(
    http: aiohttp.ClientSession, provider: Provider, clock: Clock
) -> None:
    """Every provider has its own breaker, even if providers share a session."""
    google, facebook, *_ = (ProviderHttp(http, name, clock=clock) for name in PROVIDERS)
    await fail(google, provider)
    assert google.breaker.open
    assert facebook.answering
    provider.answers("POST", URL, {})
    assert await ask(facebook) is None


async def test_the_log_says_once_that_it_opened_and_once_that_it_closed(
    asking: ProviderHttp, provider: Provider, clock: Clock
) -> None:
    """Refused calls and failed trials in between write no further lines."""
    with capture_logs() as lines:
        await fail(asking, provider)
        for _ in range(3):
            clock.seconds += COOL_DOWN_SECONDS
            await fail(asking, provider, 1)
            await ask(asking)
        clock.seconds += COOL_DOWN_SECONDS
        for _ in range(2):
            provider.answers("POST", URL, {})
            await ask(asking)
    assert lines == [
        {"event": "provider_breaker_opened", "log_level": "warning", "provider": "google", "failures": FAILURES},
        {
            "event": "provider_breaker_closed",
            "log_level": "info",
            "provider": "google",
            "open_seconds": 4 * COOL_DOWN_SECONDS,
        },
    ]
