"""Endpoint settings with a query of their own, and Facebook Login for Business."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from nextarget.errors import ConfigurationError, ProblemError
from nextarget.model import Identity, Millis, Prompt, Wishes
from nextarget.model import Provider as Name
from nextarget.providers.base import SubjectTokenType
from nextarget.providers.facebook import Facebook
from nextarget.providers.google import Google
from nextarget.providers.http.client import ProviderHttp
from nextarget.registry import PROVIDERS
from nextarget.settings import read_values
from nextarget.tokens.login import LoginSecrets
from tests.apps import App
from tests.providers.conftest import FACEBOOK, GOOGLE, Provider
from tests.running import free_listener, open_browser, query_of, running
from tests.serving import SECRET

NOW = Millis(1_900_000_000_000)
SUBJECT = "10224601733318501"


def changed(config: Any, **fields: object) -> Any:
    return replace(config, **fields)


def asked_for(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query, keep_blank_values=True)


@pytest.mark.parametrize("query", ["hd=example.org", "hd=example.org&", "x=%26a%3D1&hd=%2A", "", "y"])
async def test_the_authorization_endpoints_keep_their_query(
    http: aiohttp.ClientSession, secrets: LoginSecrets, query: str
) -> None:
    """Our parameters follow the endpoint's own query (RFC 6749, 3.1); the request is the same otherwise."""
    for kind, config, name in ((Google, GOOGLE, Name("google")), (Facebook, FACEBOOK, Name("facebook"))):
        asking = ProviderHttp(http, name)
        endpoint = f"{config.authorization_endpoint}?{query}"
        url = kind(changed(config, authorization_endpoint=endpoint), asking).authorization_url(secrets, ask_person=True)
        plain = kind(config, asking).authorization_url(secrets, ask_person=True)
        assert url.startswith(endpoint)
        assert url.count("?") == 1
        assert asked_for(url) == parse_qs(query, keep_blank_values=True) | asked_for(plain)


async def test_token_and_key_endpoints_keep_their_query(
    http: aiohttp.ClientSession, provider: Provider, secrets: LoginSecrets
) -> None:
    """Every request keeps the query of its endpoint's URL, for a stand-in or a gateway (RFC 6749, 3.2)."""
    config = changed(GOOGLE, token_endpoint=f"{GOOGLE.token_endpoint}?tenant=1", jwks_uri=f"{GOOGLE.jwks_uri}?tenant=1")
    provider.answers("POST", config.token_endpoint, {"id_token": "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.e30"})
    provider.answers("GET", config.jwks_uri, {"keys": []}, repeat=True)
    with pytest.raises(ProblemError):
        await Google(config, ProviderHttp(http, Name("google"))).identify("code", secrets, NOW)
    assert [(asked.method, asked.url) for asked in provider.asked] == [
        ("POST", config.token_endpoint),
        ("GET", config.jwks_uri),
    ]


@pytest.mark.parametrize(
    "graph_url", ["https://graph.facebook.example/?tenant=1", "https://graph.facebook.example?tenant=1"]
)
async def test_the_graph_url_keeps_its_query(
    http: aiohttp.ClientSession, provider: Provider, secrets: LoginSecrets, graph_url: str
) -> None:
    """In every request to Graph, the version and the path come before the query."""
    facebook = Facebook(changed(FACEBOOK, graph_url=graph_url), ProviderHttp(http, Name("facebook")))
    base = "https://graph.facebook.example/v26.0"
    proof = facebook._appsecret_proof("token")
    valid = {"is_valid": True, "type": "USER", "user_id": SUBJECT, "app_id": FACEBOOK.client_id, "expires_at": 0}
    provider.answers("POST", f"{base}/oauth/access_token?tenant=1", {"access_token": "token"})
    me = f"{base}/me?tenant=1&fields=id,email&appsecret_proof={proof}"
    provider.answers("GET", me, {"id": SUBJECT}, repeat=True)
    provider.answers("GET", f"{base}/debug_token?tenant=1&input_token=token", {"data": valid})
    ada = Identity(Name("facebook"), SUBJECT, None, email_verified=False)
    assert await facebook.identify("code", secrets, NOW) == ada
    native = await facebook.identify_native("token", SubjectTokenType.ACCESS_TOKEN, raw_nonce=None, now=NOW)
    assert native.identity == ada


async def test_people_sign_in_where_every_endpoint_has_a_query(tmp_path: Path) -> None:
    """A whole sign-in works with both providers over real HTTP."""
    listener = free_listener()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/sandbox"
    endpoints = {
        "GOOGLE_AUTHORIZATION_ENDPOINT": f"{url}/google/authorize?hd=lovelace.example",
        "GOOGLE_TOKEN_ENDPOINT": f"{url}/google/token?tenant=1",
        "GOOGLE_JWKS_URI": f"{url}/google/jwks?tenant=1",
        "FACEBOOK_GRAPH_URL": f"{url}/facebook?tenant=1",
        "FACEBOOK_AUTHORIZATION_ENDPOINT": f"{url}/facebook/dialog/oauth?display=page",
        "FACEBOOK_JWKS_URI": f"{url}/facebook/limited/jwks?tenant=1",
    }
    async with running(tmp_path, listener=listener, **endpoints) as server:
        begun = await server.begin("google")
        assert query_of(begun["auth_url"])["hd"] == "lovelace.example"
        for provider in PROVIDERS:
            signed_in = await server.sign_in(provider)
            assert signed_in.status == 200, signed_in.text


@pytest.mark.parametrize("in_query", [True, False])
async def test_login_for_business_is_asked_for_its_configuration_alone(
    http: aiohttp.ClientSession, secrets: LoginSecrets, in_query: bool
) -> None:
    """The configuration has the permissions and replaces `scope`, and our request asks for a code (Meta's page on
    Login for Business). The endpoint's query may name the configuration, too."""
    endpoint = f"{FACEBOOK.authorization_endpoint}?config_id=987654321"
    config = changed(FACEBOOK, **{"authorization_endpoint": endpoint} if in_query else {"config_id": "987654321"})
    url = Facebook(config, ProviderHttp(http, Name("facebook"))).authorization_url(secrets, ask_person=False)
    assert asked_for(url) == {
        "client_id": [FACEBOOK.client_id],
        "redirect_uri": [FACEBOOK.redirect_uri],
        "response_type": ["code"],
        "override_default_response_type": ["true"],
        "config_id": ["987654321"],
        "state": [secrets.state],
    }


async def test_people_sign_in_by_login_for_business(tmp_path: Path) -> None:
    """The stand-in accepts a configuration instead of permissions, but not both."""
    async with running(tmp_path, FACEBOOK_CONFIG_ID="987654321") as server, open_browser(server.url) as browser:
        app = App(browser)
        assert query_of(await app.begin(provider="facebook"))["config_id"] == "987654321"
        redeemed = await app.redeem(await app.code(provider="facebook"))
        assert redeemed.json["email"] == "ada@lovelace.example"


async def test_settings_know_everything_that_a_provider_is_sent(
    http: aiohttp.ClientSession, secrets: LoginSecrets, tmp_path: Path
) -> None:
    """None of our parameters may be in the query of an endpoint setting, where it would occur twice."""
    wishes = Wishes(frozenset(Prompt), "ada@lovelace.example")
    business = changed(FACEBOOK, config_id="1")
    bound = changed(FACEBOOK, pkce=True)
    for provider in (
        Google(GOOGLE, ProviderHttp(http, Name("google"))),
        Facebook(bound, ProviderHttp(http, Name("facebook"))),
        Facebook(business, ProviderHttp(http, Name("facebook"))),
    ):
        setting = f"{provider.name.upper()}_AUTHORIZATION_ENDPOINT"
        for sent in asked_for(provider.authorization_url(secrets, ask_person=True, wishes=wishes)):
            environ = {"JWT_SECRET_KEY": SECRET, setting: f"https://idp.example/?{sent}=x", "FACEBOOK_CONFIG_ID": "1"}
            with pytest.raises(ConfigurationError, match=f"{setting}: has '{sent}' in its query"):
                read_values(tmp_path, environ=environ).settings()
