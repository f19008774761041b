"""Headers in every answer that restrict browsers, and in production the one that demands https."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.running import Server, running
from tests.web.wire import exchange

HTTPS = "https://id.example.org"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "PUBLIC_URL": HTTPS,
    "GOOGLE_REDIRECT_URI": f"{HTTPS}/auth/google/callback",
    "FACEBOOK_REDIRECT_URI": f"{HTTPS}/auth/facebook/callback",
}
EVERYWHERE = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "nextarget",
    "X-Content-Type-Options": "nosniff",
}
PATHS = (
    "/health",
    "/users/me",
    "/docs",
    "/static/pages.css",
    "/openapi.json",
    "/.well-known/jwks.json",
    "/auth/google/start",
    "/auth/google/start?mode=redirect",
    "/auth/authorize",
    "/nowhere",
)
MALFORMED = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nExpect: magic\r\n\r\n",
    b"PUT /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
)


@pytest.fixture
async def production(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, **PRODUCTION) as server:
        yield server


@pytest.mark.parametrize("path", [*PATHS, "/static/google.css", "/static/swagger-ui.css", "/metrics"])
async def test_every_text_says_its_charset(server: Server, path: str) -> None:
    """A browser never has to guess it. JSON has none, since it is always UTF-8 (RFC 8259, 8.1 and 11)."""
    kind = (await server.get(path)).headers.get("Content-Type", "")
    assert kind.endswith("; charset=utf-8") is kind.startswith("text/"), kind


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_carries_the_security_headers(server: Server, path: str) -> None:
    """Pages, data, files and errors have these headers, with a policy that allows nothing by default."""
    answer = await server.get(path)
    assert {name: answer.headers.get(name) for name in EVERYWHERE} == EVERYWHERE
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", PATHS)
async def test_in_production_every_answer_insists_on_https(production: Server, path: str) -> None:
    """RFC 6797: the header is valid for two years and for this host only, because other hosts are the operator's
    decision."""
    answer = await production.get(path)
    assert answer.headers.getall("Strict-Transport-Security") == ["max-age=63072000"]


@pytest.mark.parametrize("octets", MALFORMED, ids=range(len(MALFORMED)))
async def test_in_production_what_is_answered_outside_the_application_insists_too(
    production: Server, octets: bytes
) -> None:
    """Malformed requests, refused expectations and methods without a route have the headers too."""
    answer = await exchange(production, octets)
    assert answer is not None
    assert answer.headers["strict-transport-security"] == "max-age=63072000"
    assert {name: answer.headers.get(name.lower()) for name in EVERYWHERE} == EVERYWHERE


@pytest.mark.parametrize("path", PATHS)
async def test_in_development_nothing_insists_on_https(production: Server, tmp_path: Path, path: str) -> None:
    """In development the header is missing, because a browser would then no longer open http://localhost. Another
    server of the same process keeps its own settings."""
    other = tmp_path / "development"
    other.mkdir()
    async with running(other) as server:
        assert "Strict-Transport-Security" not in (await server.get(path)).headers
        assert "Strict-Transport-Security" in (await production.get(path)).headers


async def test_pages_ask_for_no_device_and_leave_windows_alone(server: Server) -> None:
    """Pages of a login request no devices. A browser app may open one in its own window and wait for it, unlike the
    documentation."""
    html = {"Accept": "text/html"}
    for path in ("/auth/authorize", "/auth/google/callback?state=x"):
        page = await server.get(path, headers=html)
        assert page.headers["Content-Type"].startswith("text/html")
        assert "camera=()" in page.headers["Permissions-Policy"]
        assert "Cross-Origin-Opener-Policy" not in page.headers
    assert (await server.get("/docs")).headers["Cross-Origin-Opener-Policy"] == "same-origin"
