"""Routes with a fixed path are found without aiohttp's router, and nothing else differs."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from nextarget.web.routing import Routes
from tests.running import Server, running
from tests.web.conftest import Log
from tests.web.guarding import guarded
from tests.web.wire import wire

BEARER = "Authorization: Bearer TOKEN"
FORM = ("Content-Type: application/x-www-form-urlencoded", "Content-Length: 40")
PREFLIGHT = ("Origin: https://a.example", "Access-Control-Request-Method: GET")
REQUESTS: dict[str, tuple[str, ...]] = {
    # what is special: start line and header fields. A POST has a form of 40 bytes.
    "profile": ("GET /users/me HTTP/1.1", BEARER),
    "no token": ("GET /users/me HTTP/1.1",),
    "wrong token": ("GET /users/me HTTP/1.1", "Authorization: Bearer x"),
    "HEAD": ("HEAD /users/me HTTP/1.1", BEARER),
    "HTTP/1.0": ("GET /users/me HTTP/1.0", BEARER),
    "HTTP/1.0, kept open": ("GET /users/me HTTP/1.0", "Connection: keep-alive", BEARER),
    "closes": ("GET /users/me HTTP/1.1", "Connection: close", BEARER),
    "upgrade": ("GET /health HTTP/1.1", "Connection: upgrade", "Upgrade: x"),
    "other method": ("PUT /users/me HTTP/1.1",),
    "unknown method": ("BREW /users/me HTTP/1.1",),
    "preflight": ("OPTIONS /users/me HTTP/1.1", *PREFLIGHT),
    "origin": ("GET /users/me HTTP/1.1", "Origin: https://a.example", BEARER),
    "query": ("GET /users/me?a=b HTTP/1.1", BEARER),
    "query with a fragment": ("GET /users/me?a=/#?b HTTP/1.1", BEARER),
    "callback": ("GET /auth/google/callback?code=a&state=b HTTP/1.1",),
    "callback of another provider": ("GET /auth/facebook/callback?error=access_denied&state=b HTTP/1.1",),
    "callback of nobody": ("GET /auth/nobody/callback?code=a&state=b HTTP/1.1",),
    "provider percent-encoded": ("GET /auth/%67oogle/callback?code=a&state=b HTTP/1.1",),
    "variable in braces": ("GET /users/me/sessions/{session_id} HTTP/1.1", BEARER),
    "slash at the end": ("GET /users/me/ HTTP/1.1", BEARER),
    "two slashes": ("GET //users/me HTTP/1.1", BEARER),
    "percent-encoding": ("GET /users/%6de HTTP/1.1", BEARER),
    "absolute target": ("GET http://localhost/users/me HTTP/1.1", BEARER),
    "fragment": ("GET /users/me#x HTTP/1.1", BEARER),
    "unknown path": ("GET /nothing HTTP/1.1",),
    "variable path": ("DELETE /users/me/sessions/x HTTP/1.1", BEARER),
    "expectation": ("GET /health HTTP/1.1", "Expect: 100-continue"),
    "unknown expectation": ("GET /health HTTP/1.1", "Expect: x"),
    "refresh": ("POST /auth/token HTTP/1.1", *FORM),
    "refresh after 100": ("POST /auth/token HTTP/1.1", "Expect: 100-continue", *FORM),
    "malformed": ("GET /users/me HTTP/1.1", "Bad Name: x"),
}
OWN = re.compile(rb"[0-9a-f]{32}|(?<=Date: )[^\r]+")
"""What differs in every answer: the request id and the time."""


@pytest.fixture(params=["", "https://a.example"], ids=["no CORS", "CORS"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, CORS_ALLOW_ORIGINS=request.param) as server:
        yield server


def routes_of(server: Server) -> Routes:
    handler: Any = guarded(server).request_handler
    return handler.args[0]


async def told(server: Server, log: Log, octets: bytes) -> tuple[bytes, list[dict[str, Any]]]:
    """The answer, and the lines that the log has about it, without what is new in every answer."""
    known = len(log.lines)
    async with wire(server) as connection:
        await connection.send(octets)
        answer = await connection.answer(head=octets.startswith(b"HEAD"))
        assert answer is not None
    own = {"time", "ms", "request_id"}
    lines = [{name: value for name, value in line.items() if name not in own} for line in log.lines[known:]]
    return OWN.sub(b"", answer.octets), lines


@pytest.mark.parametrize("special", REQUESTS)
async def test_a_fixed_path_is_answered_as_the_router_would(server: Server, log: Log, special: str) -> None:
    """Status, header fields, body and log line are the same when no path is looked up. The metrics have the labels of
    the log line."""
    token = (await server.sign_in()).json["access_token"]
    start, *fields = REQUESTS[special]
    body = "grant_type=refresh_token&refresh_token=x" if start.startswith("POST") else ""
    text = "\r\n".join([start, "Host: localhost", *fields, "", body])
    octets = text.replace("TOKEN", token).encode()
    found = await told(server, log, octets)
    routes_of(server).fixed.clear()
    assert found == await told(server, log, octets)


async def test_fixed_paths_are_those_of_the_router(server: Server) -> None:
    """Every handler is registered once, with the application. The table has the same route for every fixed path."""
    fixed = routes_of(server).fixed
    assert {("GET", "/users/me"), ("POST", "/auth/token"), ("GET", "/auth/google/callback")} <= fixed.keys()
    for (method, path), found in fixed.items():
        resolved = await server.app.router.resolve(make_mocked_request(method, path))
        assert found.match_info.route is resolved.route
        assert dict(found.match_info) == dict(resolved)
