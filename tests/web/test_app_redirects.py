"""Redirects into the app: the fragment that a provider adds to its own redirect is not passed on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from tests.apps import REDIRECT, App
from tests.running import Server, open_browser, query_of, running

REDIRECTS = (
    REDIRECT,
    "https://app.example.org/callback?from=us",
    "http://127.0.0.1:50123/callback",
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    listed = (REDIRECT, "https://app.example.org/callback?from=us", "http://127.0.0.1/callback")
    async with running(tmp_path, APP_REDIRECT_URIS=",".join(listed)) as server:
        yield server


@pytest.mark.parametrize("redirect_uri", REDIRECTS)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_redirect_into_the_app_has_an_empty_fragment_of_its_own(
    server: Server, redirect_uri: str, provider: Provider
) -> None:
    """RFC 9110, 10.2.2: a browser keeps its current fragment (`#_=_`) unless the Location contains one. So ours has an
    empty one."""
    async with open_browser(server.url) as browser:
        app = App(browser, redirect_uri)
        back = await app.approve(provider=provider)
        assert back.endswith("#_=_") is (provider == Provider("facebook"))
        answers = (
            await browser.get(back),
            await browser.get(await app.approve(person="cancel", provider=provider)),
            await browser.get(app.request(provider=provider, code_challenge=None)),
        )
        for answer in answers:
            location = answer.headers["Location"]
            assert location.startswith(f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}")
            assert location.endswith("#")
            assert location.count("#") == 1
        first, *others = (query_of(answer.headers["Location"]) for answer in answers)
        assert (await app.redeem(first["code"])).status == 200
        assert [query["error"] for query in others] == ["access_denied", "invalid_request"]
        assert {query["state"] for query in others} == {app.state}
