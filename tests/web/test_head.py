"""HEAD, which monitors and link checkers use: the answer to GET, without its body (RFC 9110, 9.3.2)."""

from pathlib import Path

import pytest

from nextarget.web.rate_limits import LISTING_PER_MINUTE
from nextarget.web.server.readiness import READINESS
from tests.running import Server, running
from tests.web.test_removals import send, signed
from tests.web.wire import RawAnswer, wire

CHANGING = {
    "/auth/{provider}/start",
    "/auth/{provider}/callback",
    "/auth/authorize",
    "/account",
    "/account/delete",
    "/sandbox/google/authorize",
    "/sandbox/google/sdk",
    "/sandbox/apple/auth/authorize",
    "/sandbox/apple/sdk",
    "/sandbox/facebook/sdk",
}
"""GET routes that begin or end a login, or make a code or a token. The same is true below `/sandbox/facebook` of the
dialog and the exchange of codes, whose paths may have a version."""
OWN = {"x-request-id", "date"}
"""Header fields that differ for every answer."""
APP_LINKS = {
    "ANDROID_APP_LINKS": f"org.example.app={':'.join(['AB'] * 32)}",
    "APPLE_APP_IDS": "ABCDE12345.org.example.app",
}
READ = (
    "/", "/health", "/health/ready", "/auth/providers", "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration", "/.well-known/jwks.json", "/openapi.json", "/docs", "/static/pages.css",
    "/static/swagger-ui.css", "/users/me", "/users/me/sessions", "/users/me/data", "/metrics", "/sandbox/style.css",
    "/sandbox/google/jwks", "/sandbox/facebook/limited/jwks", "/.well-known/assetlinks.json",
    "/.well-known/apple-app-site-association",
)  # fmt: skip
REFUSED = {
    "/users/me": (401, "Authorization: Bearer nonsense"),
    "/users/me/data": (401, "Accept: */*"),
    "/static/no-such-file": (404, "Accept: */*"),
    "/static/pages.css": (400, "If-Modified-Since: Sun, 06 Nov 99999999999 08:49:37 GMT"),
    "/no-such-page": (404, "Accept: text/html"),
    "/metrics": (403, "Via: 1.1 proxy"),
    "/auth/token": (405, "Accept: */*"),
    "/auth/facebook/deletion": (405, "Accept: */*"),
    f"/deletion/{'0' * 32}": (404, "Accept: text/html"),
    "/.well-known/assetlinks.json": (404, "Accept: */*"),
    "/health": (417, "Expect: the-moon"),
}


async def asked(server: Server, method: str, path: str, *fields: str) -> RawAnswer:
    """The answer to a request. After a HEAD, a second request on the same connection shows that no body was sent."""
    lines = "".join(f"{field}\r\n" for field in ("Host: 127.0.0.1", *fields))
    async with wire(server) as connection:
        await connection.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
        answer = await connection.answer(head=method == "HEAD")
        assert answer is not None
        if method == "HEAD":
            await connection.send(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            rest = await connection.rest()
            ends = answer.headers.get("connection") == "close"
            assert not rest if ends else rest.startswith(b"HTTP/1.1 200 OK\r\n")
        return answer


def told(answer: RawAnswer, *, leave_out: set[str]) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in leave_out}


@pytest.mark.parametrize("path", READ)
async def test_head_is_answered_like_get_without_a_body(tmp_path: Path, path: str) -> None:
    """HEAD has the status and header fields of GET, its length included, on every route that changes nothing."""
    async with running(tmp_path, **APP_LINKS) as server:
        token = (await server.sign_in()).json["access_token"]
        field = f"Authorization: Bearer {token}"
        whole, head = [await asked(server, method, path, field) for method in ("GET", "HEAD")]
    assert (whole.status, head.status) == (200, 200)
    streamed = "transfer-encoding" in whole.headers
    assert streamed == (path == "/users/me/data")
    varying = {"transfer-encoding"} if streamed else {"content-length"} if path == "/metrics" else set()
    assert told(head, leave_out=OWN | varying) == told(whole, leave_out=OWN | varying)
    if not streamed:
        assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize("path", REFUSED)
async def test_what_get_is_refused_head_is_refused_in_the_same_way(server: Server, path: str) -> None:
    """An error has the same header fields and length for HEAD as for GET."""
    status, field = REFUSED[path]
    whole, head = [await asked(server, method, path, field) for method in ("GET", "HEAD")]
    assert (whole.status, head.status) == (status, status)
    assert told(head, leave_out=OWN) == told(whole, leave_out=OWN)
    assert len(whole.body) == int(head.headers["content-length"]) > 0


async def test_the_page_about_a_deletion_answers_head(server: Server) -> None:
    """The page needs a code that was given out."""
    url = (await send(server, "deletion", signed(server, user_id="999000999"))).json["url"]
    path = url.removeprefix(server.runtime.settings.public_url)
    whole, head = [await asked(server, method, path, "Accept: text/html") for method in ("GET", "HEAD")]
    assert (whole.status, head.status) == (200, 200)
    assert told(head, leave_out=OWN) == told(whole, leave_out=OWN)
    assert len(whole.body) == int(head.headers["content-length"]) > 0


async def test_a_server_that_is_not_ready_tells_head_so(server: Server) -> None:
    """Load balancers may use either method to check the readiness."""
    server.app[READINESS].draining = True
    whole, head = [await asked(server, method, "/health/ready") for method in ("GET", "HEAD")]
    assert (whole.status, head.status) == (503, 503)
    assert head.headers["retry-after"] == whole.headers["retry-after"]


async def test_what_has_not_changed_is_not_sent_with_either_method(server: Server) -> None:
    """A 304 has no body, for either method."""
    since = "If-Modified-Since: Fri, 01 Jan 2999 00:00:00 GMT"
    whole, head = [await asked(server, method, "/static/pages.css", since) for method in ("GET", "HEAD")]
    assert (whole.status, head.status) == (304, 304)
    assert told(head, leave_out=OWN) == told(whole, leave_out=OWN)


async def test_a_range_is_for_get_alone(server: Server) -> None:
    """RFC 9110, 14.2: a range is ignored for every method but GET."""
    part = await asked(server, "GET", "/static/pages.css", "Range: bytes=0-1")
    assert (part.status, part.headers["content-length"]) == (206, "2")
    whole, head = [
        await asked(server, method, "/static/pages.css", *fields)
        for method, *fields in (("GET",), ("HEAD", "Range: bytes=0-1"))
    ]
    assert (whole.status, head.status) == (200, 200)
    assert told(head, leave_out=OWN) == told(whole, leave_out=OWN)


async def test_every_get_answers_head_but_where_asking_does_something(server: Server) -> None:
    """Every GET route supports HEAD, except a fixed list of routes that change something. `Allow` contains HEAD too."""
    methods: dict[str, set[str]] = {}
    for route in server.app.router.routes():
        assert route.resource is not None
        methods.setdefault(route.resource.canonical, set()).add(route.method)
    without = {path for path, known in methods.items() if "GET" in known and "HEAD" not in known}
    facebook = {path for path in methods if path.endswith(("/dialog/oauth", "/oauth/access_token"))}
    assert len(facebook) == 4
    assert without == CHANGING | facebook
    assert not any("HEAD" in known and "GET" not in known for known in methods.values())
    refused = await server.ask("PUT", "/users/me")
    assert (refused.status, refused.headers["Allow"]) == (405, "DELETE,GET,HEAD")


async def test_head_begins_and_ends_nothing(server: Server) -> None:
    """A HEAD creates no login, no cookie and no code."""
    for path in ("/auth/google/start?mode=redirect", "/auth/google/callback?state=x&code=y", "/auth/authorize"):
        answer = await server.ask("HEAD", path)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")
        assert "Set-Cookie" not in answer.headers


async def test_head_counts_against_limits_as_get_does(tmp_path: Path) -> None:
    """Otherwise HEAD could be used to get around the limits."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true") as server:
        token = (await server.sign_in()).json["access_token"]
        field = {"Authorization": f"Bearer {token}"}
        for number in range(LISTING_PER_MINUTE):
            answer = await server.ask("HEAD" if number % 2 else "GET", "/users/me/sessions", headers=field)
            assert answer.status == 200
        for method in ("HEAD", "GET"):
            answer = await server.ask(method, "/users/me/sessions", headers=field)
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) > 0


async def test_head_is_told_in_the_log_and_in_the_metrics_by_its_name(server: Server, log) -> None:
    """Log and metrics have the method HEAD, so that the numbers for GET stay correct."""
    assert (await server.ask("HEAD", "/health")).status == 200
    (line,) = log.requests("/health")
    assert (line["method"], line["status"]) == ("HEAD", 200)
    exposed = (await server.get("/metrics")).text
    assert 'nextarget_http_request_duration_seconds_count{method="HEAD",route="/health",status="200"}' in exposed


@pytest.mark.parametrize("origin", ["https://app.example.org", "https://stranger.example"])
async def test_pages_of_other_origins_may_ask_head_where_they_may_ask_get(tmp_path: Path, origin: str) -> None:
    """HEAD has the same headers for other origins as GET."""
    async with running(tmp_path, CORS_ALLOW_ORIGINS="https://app.example.org") as server:
        for path in ("/.well-known/jwks.json", "/users/me", "/health"):
            whole, head = [await asked(server, method, path, f"Origin: {origin}") for method in ("GET", "HEAD")]
            assert told(head, leave_out=OWN) == told(whole, leave_out=OWN)
