"""Requests of pages from other origins, as browsers send them (Fetch standard, 3.2): what they may call and read."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nextarget.web import cors
from tests.running import Answer, Server, running
from tests.web.wire import exchange

ORIGIN, OTHER, STRANGER = "https://app.example.org", "http://localhost:5173", "https://stranger.example"
OPEN = {
    ("POST", "/auth/token"),
    ("POST", "/auth/revoke"),
    ("POST", "/auth/nonce"),
    ("GET", "/auth/providers"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/.well-known/openid-configuration"),
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/openapi.json"),
    ("GET", "/users/me"),
    ("DELETE", "/users/me"),
    ("POST", "/users/me/delete"),
    ("GET", "/users/me/data"),
    ("GET", "/users/me/sessions"),
    ("DELETE", "/users/me/sessions"),
    ("DELETE", "/users/me/sessions/{session_id}"),
}
OPEN |= {("HEAD", path) for method, path in OPEN if method == "GET"}
SHUT = (
    "/health", "/docs", "/auth/authorize", "/auth/google/start", "/auth/google/callback", "/static/pages.css",
    "/auth/facebook/deletion", f"/deletion/{'0' * 32}", "/account", "/account/delete",
)  # fmt: skip


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with two allowed origins."""
    async with running(tmp_path, CORS_ALLOW_ORIGINS=f"{ORIGIN},{OTHER}", RATE_LIMIT_ENABLED="true") as server:
        yield server


async def preflight(
    server: Server, path: str, method: str, *, origin: str = ORIGIN, headers: str = "authorization"
) -> Answer:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = headers
    return await server.ask("OPTIONS", path, headers=asked)


def grants(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


def exposed(answer: Answer) -> set[str]:
    return set(answer.headers["Access-Control-Expose-Headers"].split(","))


async def test_the_open_routes_are_these_and_no_others(shared: Server) -> None:
    """The routes for other origins are a fixed list, so that a new route needs a decision."""
    routes = {(route.method, route.resource.canonical) for route in shared.app.router.routes() if route.resource}
    options = {path for method, path in routes if method == "OPTIONS"}
    assert {(method, path) for method, path in routes if path in options} - OPEN == {
        ("OPTIONS", path) for path in options
    }
    assert {(method, path) for method, path in routes if path in options and method != "OPTIONS"} == OPEN
    names = {route.name for route in shared.app.router.routes()}
    assert names >= cors.OPEN_ROUTES


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
async def test_a_preflight_of_a_listed_origin_is_granted_for_each_method_that_there_is(
    shared: Server, method: str, path: str
) -> None:
    """A preflight needs no token. The answer names origin, method and headers, and never allows credentials."""
    path = path.format(session_id="53c0ad2f-2f4b-4c39-8b43-5b5f7e3f3f10")
    asked = "authorization,baggage,content-type,sentry-trace,traceparent,tracestate,x-requested-with"
    answer = await preflight(shared, path, method, headers=asked)
    assert (answer.status, answer.text) == (200, "")
    allowed = grants(answer).pop("Access-Control-Allow-Headers")
    assert set(allowed.lower().split(",")) == set(asked.split(","))
    assert grants(answer) == {
        "Access-Control-Allow-Origin": ORIGIN,
        "Access-Control-Allow-Methods": method,
        "Access-Control-Allow-Headers": allowed,
        "Access-Control-Max-Age": "7200",
    }
    assert answer.headers["Vary"] == "Origin"
    assert "X-Request-ID" in answer.headers


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        (STRANGER, "GET", "authorization"),
        ("null", "GET", "authorization"),
        (ORIGIN + ":8443", "GET", "authorization"),
        (ORIGIN + ".evil.example", "GET", "authorization"),
        (ORIGIN.upper(), "GET", "authorization"),
        (ORIGIN, "PUT", "authorization"),
        (ORIGIN, "<script>", ""),
        (ORIGIN, "GET", "authorization,x-secret-header"),
    ],
)
async def test_any_other_preflight_is_refused_and_quoted_nowhere(
    shared: Server, log, origin: str, method: str, headers: str
) -> None:
    """After a refusal the browser does not send the request. The answer tells an operator what to do."""
    answer = await preflight(shared, "/users/me", method, origin=origin, headers=headers)
    assert (answer.status, answer.code) == (403, "cross_origin_refused")
    assert grants(answer) == {}
    assert "CORS_ALLOW_ORIGINS" in answer.text
    assert not any(quoted in answer.text for quoted in (STRANGER, "script", "x-secret-header"))
    assert not log.holds("x-secret-header")


@pytest.mark.parametrize("name", ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"])
async def test_a_preflight_of_odd_bytes_is_refused(shared: Server, name: str) -> None:
    """These fields must be ASCII. Otherwise the request is refused before the origin is checked."""
    fields = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x"}
    lines = "".join(f"{each}: {value}\r\n" for each, value in (fields | {name: "x\xff"}).items())
    answer = await exchange(shared, f"OPTIONS /users/me HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode("latin-1"))
    assert answer is not None
    assert (answer.status, answer.code) == (400, "invalid_request")


@pytest.mark.parametrize("path", SHUT)
async def test_pages_and_what_operators_read_are_for_no_other_origin(shared: Server, path: str) -> None:
    """Pages and operators' routes are not available to other origins, not even to listed ones."""
    assert (await preflight(shared, path, "GET")).status == 405
    answer = await shared.get(path, headers={"Origin": ORIGIN})
    assert grants(answer) == {}
    assert "Origin" not in answer.headers.get("Vary", "")


@pytest.mark.parametrize("origin", [ORIGIN, OTHER])
async def test_a_page_of_a_listed_origin_reads_answers_and_their_headers(shared: Server, origin: str) -> None:
    """A page can read the answer and all headers that an app needs."""
    token = (await shared.sign_in()).json["access_token"]
    answer = await shared.get("/users/me", headers={"Origin": origin, "Authorization": f"Bearer {token}"})
    assert answer.json["email"] == "ada@lovelace.example"
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert exposed(answer) == {"X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy", "WWW-Authenticate"}
    assert answer.headers["Vary"] == "Origin"


async def test_what_caches_may_keep_varies_with_the_origin(shared: Server) -> None:
    """Cacheable answers have `Vary: Origin`, because they differ for requests with and without an allowed origin."""
    for headers in ({}, {"Origin": ORIGIN}, {"Origin": STRANGER}):
        answer = await shared.get("/.well-known/jwks.json", headers=headers)
        assert answer.headers["Cache-Control"].startswith("public")
        assert answer.headers["Vary"] == "Origin"
        assert answer.headers.get("Access-Control-Allow-Origin") == (
            ORIGIN if headers.get("Origin") == ORIGIN else None
        )


async def test_errors_can_be_read_too(shared: Server) -> None:
    """Errors from every part of the server can be read. Otherwise a browser app would take them for network
    failures."""
    here = {"Origin": ORIGIN}
    answers = {
        "no token": await shared.get("/users/me", headers=here),
        "bad token": await shared.get("/users/me", headers=here | {"Authorization": "Bearer x"}),
        "bad grant": await shared.ask("POST", "/auth/token", headers=here, data={"grant_type": "x"}),
        "too large": await shared.ask("POST", "/auth/token", headers=here, data={"x": "y" * 70_000}),
        "not found": await shared.ask("DELETE", "/users/me/sessions/x", headers=here),
        "wrong method": await shared.ask("OPTIONS", "/users/me", headers={"Origin": STRANGER}),
    }
    while (limited := await shared.ask("POST", "/auth/nonce", headers=here)).status == 200:
        pass
    answers["limited"] = limited
    refused = answers.pop("wrong method")
    assert {what: answer.status for what, answer in answers.items()} == {
        "no token": 401, "bad token": 401, "bad grant": 400, "too large": 413, "not found": 401, "limited": 429,
    }  # fmt: skip
    for what, answer in answers.items():
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN, what
        assert exposed(answer) >= {"X-Request-ID", "Retry-After", "WWW-Authenticate"}, what
    assert "Access-Control-Allow-Origin" not in refused.headers


async def test_an_error_of_ours_can_be_read_too(shared: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen error is a 500 that a page of a listed origin can read."""

    async def fail(_token: str) -> None:
        raise LookupError

    monkeypatch.setattr(shared.runtime.sessions, "authenticate", fail)
    answer = await shared.get("/users/me", headers={"Origin": ORIGIN, "Authorization": "Bearer x"})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (500, ORIGIN)


async def test_preflights_are_counted_against_nobody(shared: Server) -> None:
    """Browsers send preflights by themselves, so they do not count against a limit."""
    for _ in range(100):
        assert (await preflight(shared, "/auth/nonce", "POST", headers="")).status == 200
    answer = await shared.ask("POST", "/auth/nonce", headers={"Origin": ORIGIN})
    assert answer.headers["RateLimit"] == '"nonce";r=29'


@pytest.mark.parametrize(
    "origin", ["capacitor://localhost", "ionic://localhost", "tauri://localhost", "https://tauri.localhost"]
)
async def test_pages_that_an_app_carries_may_be_listed(tmp_path: Path, origin: str) -> None:
    """Origins of hybrid apps are compared byte for byte, like any other."""
    async with running(tmp_path, CORS_ALLOW_ORIGINS=origin) as server:
        assert (await preflight(server, "/auth/token", "POST", origin=origin)).status == 200
        answer = await server.get("/users/me", headers={"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        for other in (f"{origin}:80", f"{origin}/", f"{origin}.evil.example", origin.upper(), "http://localhost"):
            assert (await preflight(server, "/auth/token", "POST", origin=other)).status == 403, other


async def test_a_star_lets_every_origin_in_but_no_cookie(tmp_path: Path) -> None:
    """A star, for development, allows every origin, also `null` for files and sandboxed frames, but no credentials."""
    async with running(tmp_path, CORS_ALLOW_ORIGINS="*") as server:
        for origin in (ORIGIN, STRANGER, "null"):
            answer = await server.get("/users/me", headers={"Origin": origin})
            assert grants(answer).keys() == {"Access-Control-Allow-Origin", "Access-Control-Expose-Headers"}
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert (await preflight(server, "/users/me", "DELETE", origin=origin)).status == 200


async def test_allow_names_options_where_preflights_are_answered(shared: Server) -> None:
    """RFC 9110, 10.2.1: Allow contains OPTIONS on routes with preflights."""
    answer = await shared.ask("PUT", "/users/me")
    assert (answer.status, answer.headers["Allow"]) == (405, "DELETE,GET,HEAD,OPTIONS")


async def test_without_the_setting_nothing_is_shared(server: Server) -> None:
    """Without the setting, no route answers a preflight, and no answer has headers for other origins."""
    for method, path in OPEN:
        answer = await preflight(server, path.format(session_id="x"), method)
        assert (answer.status, grants(answer)) == (405, {})
        assert "OPTIONS" not in answer.headers["Allow"]
    answer = await server.get("/users/me", headers={"Origin": ORIGIN})
    assert (grants(answer), answer.headers.get("Vary")) == ({}, None)
    assert not server.app.on_response_prepare


@pytest.mark.slow
def test_without_the_setting_the_library_is_not_imported(tmp_path: Path) -> None:
    """The library for other origins is imported only if the setting is used."""
    script = """
import sys
from pathlib import Path
from nextarget.runtime import Runtime
from nextarget.settings import read_values
from nextarget.web.app import create_app
environ = {"JWT_SECRET_KEY": "nVq7TzX2_wKf83hLr-Yc5PmBd0sJgUaE4oRtZi6NlHxQ", "CORS_ALLOW_ORIGINS": sys.argv[2]}
create_app(Runtime(read_values(Path(sys.argv[1]), environ=environ).settings()))
print("aiohttp_cors" in sys.modules)
"""
    for origins, imported in (("", "False"), ("*", "True")):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), origins],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == imported
