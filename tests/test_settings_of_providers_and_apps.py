"""Settings of providers' endpoints and of the app's redirects: their valid values and combinations."""

import pytest

from tests.serving import SECRET
from tests.test_settings import FACEBOOK, GOOGLE, OURS, problems, settings, value_of


@pytest.mark.parametrize(
    ("name", "query", "twice"),
    [
        ("GOOGLE_AUTHORIZATION_ENDPOINT", "hd=example.org&prompt=consent", ["prompt"]),
        ("GOOGLE_AUTHORIZATION_ENDPOINT", "scope=profile&state=", ["scope", "state"]),
        ("FACEBOOK_AUTHORIZATION_ENDPOINT", "client%5Fid=1", ["client_id"]),
        ("FACEBOOK_AUTHORIZATION_ENDPOINT", "auth_type=rerequest", ["auth_type"]),
    ],
)
def test_the_query_of_an_endpoint_holds_nothing_that_the_server_sends(tmp_path, name, query, twice):
    """A parameter must not occur twice (RFC 6749, 3.1), so a provider would refuse every sign-in."""
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, name: f"https://idp.example/auth?{query}"})
    assert set(found) == {name}
    assert all(f"'{parameter}'" in found[name].problem for parameter in twice)
    url = "https://idp.example/auth?hd=example.org&display=page"
    assert value_of(settings(tmp_path, **OURS, **GOOGLE, **FACEBOOK, **{name: url}), name) == url


@pytest.mark.parametrize("value", ["987654321", "9"])
def test_a_configuration_of_login_for_business_is_a_number(tmp_path, value):
    """The dashboard shows a number. Another value was copied from a wrong place."""
    made = settings(tmp_path, **OURS, **FACEBOOK, FACEBOOK_CONFIG_ID=value)
    assert value_of(made, "FACEBOOK_CONFIG_ID") == value
    for wrong in (f"{value}x", "your-config-id", f"https://x.example/?config_id={value}", "9" * 41):
        assert set(problems(tmp_path, {"JWT_SECRET_KEY": SECRET, "FACEBOOK_CONFIG_ID": wrong})) == {
            "FACEBOOK_CONFIG_ID"
        }


def test_a_configuration_of_login_for_business_comes_once_and_without_openid(tmp_path):
    """The configuration replaces `scope`. Without the scope `openid`, Facebook ignores PKCE (its page on OIDC)."""
    endpoint = {"FACEBOOK_AUTHORIZATION_ENDPOINT": "https://idp.example/dialog/oauth?config_id=1"}
    secret, config_id = {"JWT_SECRET_KEY": SECRET}, {"FACEBOOK_CONFIG_ID": "1"}
    assert set(problems(tmp_path, secret | endpoint | config_id)) == {"FACEBOOK_AUTHORIZATION_ENDPOINT"}
    for business in (endpoint, config_id):
        assert problems(tmp_path, secret | business) == {}
        for on in ("true", "1", "Yes", "ON"):
            assert set(problems(tmp_path, secret | business | {"FACEBOOK_PKCE": on})) == {"FACEBOOK_PKCE"}
        assert problems(tmp_path, secret | business | {"FACEBOOK_PKCE": "false"}) == {}


@pytest.mark.parametrize(
    "uri", ["http://localhost/callback", "http://localhost", "http://localhost:3000/callback?x=1", "http://LOCALHOST/"]
)
def test_localhost_may_be_a_redirect_in_development_alone(tmp_path, uri):
    """The name localhost may lead elsewhere (RFC 8252, 8.3), so production wants the address. The remedy names it."""
    listed = f"nextarget://callback, {uri}"
    assert settings(tmp_path, APP_REDIRECT_URIS=listed).app_redirect_uris == ("nextarget://callback", uri)
    production = {"ENVIRONMENT": "production", "PUBLIC_URL": "https://auth.example.org", "JWT_SECRET_KEY": SECRET}
    found = problems(tmp_path, production | {"APP_REDIRECT_URIS": listed})
    assert set(found) == {"APP_REDIRECT_URIS"}
    assert "http://127.0.0.1" in found["APP_REDIRECT_URIS"].remedy
    for other in ("https://localhost.example/callback", "http://127.0.0.1/localhost", "localhost://callback"):
        assert problems(tmp_path, production | {"APP_REDIRECT_URIS": other}) == {}


@pytest.mark.parametrize(
    "uri",
    ["http://localhost./", "http://app.localhost/", "http://localhost.example/", "http://127.0.0.2/", "http://x/"],
)
def test_no_other_name_on_plain_http_may_be_a_redirect(tmp_path, uri):
    """A redirect with plain http must be a loopback address (RFC 8252, 7.3)."""
    assert set(problems(tmp_path, {"JWT_SECRET_KEY": SECRET, "APP_REDIRECT_URIS": uri})) == {"APP_REDIRECT_URIS"}


@pytest.mark.parametrize("url", ["https:callback", "https:/callback", "https:///x", "https://:443/x", "https://?x"])
@pytest.mark.parametrize(
    "name",
    [
        "APP_REDIRECT_URIS",
        "APP_PRIVACY_URL",
        "APP_TERMS_URL",
        "CORS_ALLOW_ORIGINS",
        "GOOGLE_REDIRECT_URI",
        "GOOGLE_TOKEN_ENDPOINT",
        "HTTPS_PROXY",
        "PUBLIC_URL",
    ],
)
def test_a_url_needs_a_host(tmp_path, name, url):
    """RFC 9110, 4.2.2: a URL with an empty host is invalid. Browsers would read some as relative to our own pages."""
    assert name in problems(tmp_path, {"JWT_SECRET_KEY": SECRET, name: url})
