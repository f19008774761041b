"""The scope that an app gets, whatever it requests (RFC 6749, 3.3 and 5.1)."""

from collections.abc import AsyncIterator

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from tests.apps import App, refresh
from tests.running import Server, open_browser, query_of

ASKED = [
    "openid email offline_access",
    "openid",
    "email",
    "profile",
    "  openid   email ",
    "openid,email",
    "https://www.googleapis.com/auth/userinfo.email !#[]~",
    "x" * 3000,
]
"""Scopes that client libraries send, and others that RFC 6749, 3.3, allows, with additional white space."""


@pytest.fixture
async def app(server: Server) -> AsyncIterator[App]:
    async with open_browser(server.url) as browser:
        yield App(browser)


@pytest.mark.parametrize("scope", [None, "", *ASKED])
async def test_the_token_answer_says_that_email_was_granted(app: App, scope: str | None) -> None:
    """RFC 6749, 3.3: unknown scopes are ignored, and the answer contains the granted scope."""
    answer = await app.redeem(await app.code(scope=scope))
    assert answer.status == 200
    assert answer.json["scope"] == "email"


async def test_a_scope_that_is_asked_for_at_a_refresh_is_ignored(server: Server, app: App) -> None:
    """RFC 6749, 5.1: the answer has the session's scope. A library that sends its scope again with a refresh gets no
    error."""
    tokens = await app.sign_in()
    for scope in (*ASKED, "", '"', "\u00e9", "\n"):
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "scope": scope}
        answer = await server.ask("POST", "/auth/token", data=form)
        assert answer.status == 200
        assert answer.json["scope"] == "email"
    assert (await refresh(server, tokens["refresh_token"])).json["scope"] == "email"


async def test_native_sign_in_says_that_email_was_granted(server: Server) -> None:
    """RFC 8693, 2.2.1: a token exchange grants the same scope, whatever was requested."""
    nonce = (await server.ask("POST", "/auth/nonce")).json["nonce"]
    sdk = await server.get(f"/sandbox/google/sdk?person=ada&nonce={nonce}")
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_issuer": "google",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": sdk.json["id_token"],
        "scope": "openid profile",
    }
    answer = await server.ask("POST", "/auth/token", data=form)
    assert (answer.status, answer.json["scope"]) == (200, "email")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_flow_without_an_app_says_that_email_was_granted(server: Server, provider: Provider) -> None:
    """RFC 6749, 5.1: the flow without an app has the same token response."""
    assert (await server.sign_in(provider)).json["scope"] == "email"


@pytest.mark.parametrize("provider", [*PROVIDERS, None])
@pytest.mark.parametrize("scope", ['openid "email"', "open\\id", "openid\temail", "openid\n", "\u00e9", "x" * 4097])
async def test_a_malformed_scope_is_told_to_the_app(app: App, provider: Provider | None, scope: str) -> None:
    """RFC 6749, 3.3 and 4.1.2.1: the app gets `invalid_scope`, and no login begins."""
    answer = await app.browser.get(app.request(provider=provider, scope=scope))
    assert answer.status == 302
    told = query_of(answer.headers["Location"])
    assert (told["error"], told["state"]) == ("invalid_scope", app.state)
    assert "Set-Cookie" not in answer.headers


async def test_a_scope_that_is_sent_twice_is_told_to_the_app(app: App) -> None:
    """RFC 6749, 3.1: a parameter must not be repeated."""
    answer = await app.browser.get(app.request(scope="openid") + "&scope=email")
    assert query_of(answer.headers["Location"])["error"] == "invalid_request"


async def test_the_metadata_lists_the_scope_that_there_is(server: Server) -> None:
    """RFC 8414, 2: `openid` is not listed, because the server issues no id_token."""
    metadata = (await server.get("/.well-known/openid-configuration")).json
    assert metadata["scopes_supported"] == ["email"]
