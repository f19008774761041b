"""Settings about the outside of the server: proxies that name the client, and web pages that call the server."""

import pytest

from tests.serving import SECRET
from tests.test_settings import problems, settings


@pytest.mark.parametrize("text", ["Forwarded", "forwarded", "FORWARDED"])
def test_one_header_of_proxies_is_believed_and_its_name_is_written_in_any_case(tmp_path, text):
    """Names of header fields ignore case (RFC 9110, 5.1). The default is the header that most proxies set."""
    assert settings(tmp_path, TRUSTED_PROXY_HEADER=text).trusted_proxy_header == "Forwarded"
    assert settings(tmp_path, TRUSTED_PROXY_HEADER=f"x-{text}-for").trusted_proxy_header == "X-Forwarded-For"
    assert settings(tmp_path).trusted_proxy_header == "X-Forwarded-For"


@pytest.mark.parametrize("text", ["X-Real-IP", "X-Forwarded-For, Forwarded", "Forwarded-For"])
def test_no_other_header_of_proxies_is_read(tmp_path, text):
    """Both headers together are refused too: a client could write the one that its proxy does not set."""
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, "TRUSTED_PROXY_HEADER": text})
    assert found.keys() == {"TRUSTED_PROXY_HEADER"}
    assert "X-Forwarded-For or Forwarded" in found["TRUSTED_PROXY_HEADER"].remedy


@pytest.mark.parametrize(
    ("origin", "accepted", "in_production"),
    [
        ("https://app.example.org", True, True),
        ("https://app.example.org:8443", True, True),
        ("capacitor://localhost", True, True),
        ("ionic://localhost", True, True),
        ("tauri://localhost", True, True),
        ("https://tauri.localhost", True, True),
        ("capacitor://my-app.example", True, True),
        ("http://tauri.localhost", True, True),
        ("http://localhost:5173", True, True),
        ("http://[::1]:5173", True, True),
        ("http://app.example.org", True, False),
        ("http://10.0.0.1:5173", True, False),
        ("http://localhost.example.org", True, False),
        ("https://app.example.org, http://app.example.org", True, False),
        ("*", True, False),
        ("https://app.example.org:443", False, False),
        ("http://localhost:80", False, False),
        ("capacitor://localhost/", False, False),
        ("capacitor://localhost:80", False, False),
        ("capacitor://Localhost", False, False),
        ("capacitor://", False, False),
        ("capacitor:localhost", False, False),
        ("CAPACITOR://localhost", False, False),
        ("htps://app.example.org", False, False),
        ("file://", False, False),
        ("null", False, False),
        ("https://[::1", False, False),
        ("http://[::1", False, False),
        ("http://[fe80::1%25e]", True, False),
    ],
)
def test_origins_are_what_browsers_and_apps_send(tmp_path, origin, accepted, in_production):
    """Origins are compared byte for byte. Production refuses origins at which someone on the network could place a
    page."""
    listed = {"JWT_SECRET_KEY": SECRET, "PUBLIC_URL": "https://auth.example.org", "CORS_ALLOW_ORIGINS": origin}
    assert problems(tmp_path, listed).keys() == (set() if accepted else {"CORS_ALLOW_ORIGINS"})
    production = problems(tmp_path, {**listed, "ENVIRONMENT": "production"})
    assert production.keys() == (set() if in_production else {"CORS_ALLOW_ORIGINS"})
