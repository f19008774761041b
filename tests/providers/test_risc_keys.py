"""Where Google's RISC configuration may send us for the keys that sign events."""

from typing import Any

import aiohttp
import pytest

from nextarget.errors import ProviderUnavailable
from nextarget.model import Provider as Name
from nextarget.providers.google_events import RiscKeys
from nextarget.providers.http.client import ProviderHttp
from tests.providers.conftest import Provider

CONFIGURATION = "https://accounts.google.example/.well-known/risc-configuration"


@pytest.mark.parametrize(
    "there", ["http://127.0.0.1:8000/metrics", "http://localhost/", "HTTP://[::1]:9/", "file:///x"]
)
async def test_the_configuration_cannot_lead_to_this_machine(
    http: aiohttp.ClientSession, provider: Provider, there: str
) -> None:
    """Plain http is for a stand-in on this machine. A document of the provider's is followed to https alone."""
    document: dict[str, Any] = {"issuer": "https://accounts.google.example/", "jwks_uri": there}
    provider.answers("GET", CONFIGURATION, document, repeat=True)
    with pytest.raises(ProviderUnavailable):
        await RiscKeys(ProviderHttp(http, Name("google")), CONFIGURATION).keys_for("k1")
    assert [asked.url for asked in provider.asked] == [CONFIGURATION]


async def test_a_redirect_in_place_of_the_configuration_is_not_followed(
    http: aiohttp.ClientSession, provider: Provider
) -> None:
    """Neither by the configuration nor by the keys."""
    keys = "https://www.google.example/certs"
    elsewhere = {"Location": "https://elsewhere.example/"}
    provider.answers("GET", CONFIGURATION, {"issuer": "https://accounts.google.example/", "jwks_uri": keys})
    provider.answers("GET", keys, {}, status=302, headers=elsewhere)
    cache = RiscKeys(ProviderHttp(http, Name("google")), CONFIGURATION)
    with pytest.raises(ProviderUnavailable):
        await cache.keys_for("k1")
    assert [asked.url for asked in provider.asked] == [CONFIGURATION, keys]
    assert cache.issuers == ()
