"""A provider's Retry-After: how it is read, and that the error of every request has it."""

from typing import Any

import aiohttp
import pytest

from nextarget.errors import ProviderUnavailable
from nextarget.model import Millis
from nextarget.model import Provider as Name
from nextarget.providers.facebook import Facebook
from nextarget.providers.google import Google
from nextarget.providers.http.breaker import COOL_DOWN_SECONDS, FAILURES
from nextarget.providers.http.client import ProviderHttp
from nextarget.providers.http.retry_after import MAX_SECONDS, retry_after
from nextarget.providers.jwks import JwksCache
from nextarget.tokens.login import LoginSecrets
from tests.providers.conftest import FACEBOOK, GOOGLE, Clock, Provider

NOW = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
"""NOW as a date."""
URL = "https://provider.example/token"
GRAPH = f"{FACEBOOK.graph_url}/{FACEBOOK.graph_version}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 1),
        ("000120", 120),
        ("300", 300),
        ("301", MAX_SECONDS),
        ("86400", MAX_SECONDS),
        ("9" * 5000, MAX_SECONDS),
        ("Sun, 06 Nov 1994 08:51:37 GMT", 120),
        ("Sunday, 06-Nov-94 08:51:37 GMT", 120),
        ("Sun Nov  6 08:51:37 1994", 120),
        (DATE, 1),
        ("Sat, 05 Nov 1994 08:49:37 GMT", 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_SECONDS),
        *[
            (odd, None)
            for odd in ("", "soon", "-5", "1.5", "12 seconds", "\u0661", "Sun, 99 Nov 1994 08:49:37 GMT", "1e3")
        ],
    ],
    ids=lambda value: repr(value)[:40],
)
def test_it_is_seconds_or_a_date_and_five_minutes_at_most(value: str, seconds: int | None) -> None:
    """Seconds and all three forms of a date are read (RFC 9110, 10.2.3 and 5.6.7). An unreadable value is ignored."""
    assert retry_after({"Retry-After": value}, now=NOW) == seconds
    assert retry_after({"Retry-After": value, "Date": DATE}, now=NOW) == seconds


def test_a_date_is_compared_with_the_providers_own_clock() -> None:
    """Our clock may be wrong by more than the wait."""
    headers = {"Retry-After": "Sun, 06 Nov 1994 08:51:37 GMT", "Date": DATE}
    assert retry_after(headers, now=NOW + 100_000) == 120
    assert retry_after({}, now=NOW) is None


async def wait_told(asking: Any) -> int | None:
    with pytest.raises(ProviderUnavailable) as caught:
        await asking
    return caught.value.retry_after


@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize("operation", ["token", "profile", "keys"])
async def test_every_question_passes_it_on(
    http: aiohttp.ClientSession, provider: Provider, operation: str, status: int
) -> None:
    """This holds for requests to the token endpoint, the profile and the keys."""
    asking = ProviderHttp(http, Name("google"))
    method = "POST" if operation == "token" else "GET"
    provider.answers(method, URL, status=status, headers={"Retry-After": "77"})
    questions = {
        "token": asking.post(URL, {}),
        "profile": asking.get(URL),
        "keys": JwksCache(asking, URL).keys_for("k"),
    }
    question = questions.pop(operation)
    for other in questions.values():
        other.close()
    assert await wait_told(question) == 77


async def test_without_it_the_wait_is_ours(http: aiohttp.ClientSession, provider: Provider) -> None:
    """Without the header, the error has our own default of half a minute."""
    provider.answers("POST", URL, status=503)
    assert await wait_told(ProviderHttp(http, Name("google")).post(URL, {})) == ProviderUnavailable.retry_after


async def test_who_waits_for_keys_is_told_what_is_left_of_it(
    http: aiohttp.ClientSession, provider: Provider, clock: Clock
) -> None:
    """During the pause after a failure, a call without a request still gets the rest of the provider's wait."""
    cache = JwksCache(ProviderHttp(http, Name("google")), URL, clock=clock)
    provider.answers("GET", URL, status=503, headers={"Retry-After": "77"})
    assert await wait_told(cache.keys_for("k")) == 77
    clock.seconds += 2
    assert await wait_told(cache.keys_for("k")) == 75
    assert len(provider.asked) == 1


@pytest.mark.parametrize(("asked_for", "told"), [("77", 67), ("20", COOL_DOWN_SECONDS - 10)])
async def test_the_breaker_tells_what_is_left_of_it_or_of_its_own_pause(
    http: aiohttp.ClientSession, provider: Provider, clock: Clock, asked_for: str, told: int
) -> None:
    """The longer of the two waits counts."""
    asking = ProviderHttp(http, Name("google"), clock=clock)
    for _ in range(FAILURES):
        provider.answers("POST", URL, status=503, headers={"Retry-After": asked_for})
        await wait_told(asking.post(URL, {}))
    clock.seconds += 10
    assert await wait_told(asking.post(URL, {})) == told
    assert len(provider.asked) == FAILURES


@pytest.mark.parametrize("code", [4, 368, 80004])
async def test_a_limit_of_the_graph_passes_it_on_whatever_its_status(
    http: aiohttp.ClientSession, provider: Provider, secrets: LoginSecrets, code: int
) -> None:
    """Facebook answers a limit with 400 or 403, where other providers use 429."""
    facebook = Facebook(FACEBOOK, ProviderHttp(http, Name("facebook")))
    error = {"error": {"code": code}}
    provider.answers("POST", f"{GRAPH}/oauth/access_token", error, status=403, headers={"Retry-After": "77"})
    assert await wait_told(facebook.identify("code", secrets, Millis(NOW * 1000))) == 77


@pytest.mark.parametrize(
    "error", ["rate_limit_exceeded", "internal_failure", "temporarily_unavailable", "server_error"]
)
async def test_an_error_of_googles_token_endpoint_that_passes_means_later(
    http: aiohttp.ClientSession, provider: Provider, secrets: LoginSecrets, error: str
) -> None:
    """This holds for any status of the answer."""
    google = Google(GOOGLE, ProviderHttp(http, Name("google")))
    provider.answers("POST", GOOGLE.token_endpoint, {"error": error}, status=403, headers={"Retry-After": "77"})
    assert await wait_told(google.identify("code", secrets, Millis(NOW * 1000))) == 77
