"""The shipped proxies' own answers, in all versions of HTTP, and the text of their logs."""

import asyncio
import json
import re
from importlib import import_module
from pkgutil import iter_modules
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from nextarget.errors import (
    HeaderFieldsTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    ProblemError,
)
from nextarget.registry import PROVIDERS
from nextarget.runtime import Runtime
from nextarget.web import routes
from nextarget.web.app_keys import RUNTIME
from nextarget.web.problems import problem_document
from tests.deploy.conftest import Site
from tests.deploy.http2 import Answer2, ask_http2
from tests.deploy.site import NAME
from tests.running import Browser

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
MARK = "hush-7rq2-do-not-repeat"


async def modern(site: Site, method: str, path: str, **options: Any) -> Answer2:
    """Send a request over HTTP/2."""
    port = site.proxy.ports.https
    return await ask_http2(port, site.certificate.trust(), f"{NAME}:{port}", method, path, **options)


async def said_raw(site: Site, octets: bytes, *, tls: bool = True) -> tuple[int, dict[str, str], str]:
    """Send these bytes. Return the status, the headers by lower-case name, and the body."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        site.proxy.ports.https,
        **({"ssl": site.certificate.trust(), "server_hostname": NAME} if tls else {}),
    )
    try:
        writer.write(octets)
        async with asyncio.timeout(30):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
    finally:
        writer.close()
    return int(lines[0].split()[1]), headers, body.decode()


async def logged(site: Site, text: str) -> str:
    """The line of the access log with this text."""
    async with asyncio.timeout(30):
        while text not in site.proxy.access_log:
            await asyncio.sleep(0)
    (line,) = [line for line in site.proxy.access_log.splitlines() if text in line]
    return line


def assert_own(status: int, headers: Any, body: str, error: ProblemError) -> str:
    """The document is the server's own for this error, with the id of the header. Return the id."""
    request_id = headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", request_id)
    assert (status, json.loads(body)) == (error.status, problem_document(error, request_id))
    assert headers["content-type"] == "application/problem+json"
    assert headers["cache-control"] == "no-store"
    return request_id


@pytest.mark.parametrize("size", [65_537, 70_000, 1_000_000])
@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
async def test_a_body_that_is_too_large_is_refused_over_http_2_too(site: Site, size: int, length: bool) -> None:
    """nginx sends the server's own document, with or without a Content-Length in the request."""
    answer = await modern(site, "POST", "/auth/token", body=b"x" * size, length=length)
    assert answer.status == 413
    if site.proxy.name == "nginx":
        assert_own(answer.status, answer.headers, answer.body.decode(), PayloadTooLarge())
    fits = await modern(site, "POST", "/auth/token", body=b"x" * 64 * 1024, length=length)
    assert (fits.status, fits.json["error"]) == (400, "invalid_request"), "the request did not reach the server"


HEAD = f"Host: {NAME}\r\nConnection: close\r\n"
OWN: dict[str, tuple[str, ProblemError]] = {
    "length": (f"POST /auth/token HTTP/1.1\r\n{HEAD}Content-Length: 70000\r\n\r\n", PayloadTooLarge()),
    "chunks": (
        f"POST /auth/token HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n"
        + f"{40_000:x}\r\n{'x' * 40_000}\r\n" * 2,
        PayloadTooLarge(),
    ),
    "metrics": (f"GET /metrics HTTP/1.1\r\n{HEAD}\r\n", NotFound()),
    "request line": (f"{MARK}\r\n\r\n", InvalidRequest()),
    "long line": (f"GET /{MARK * 4000} HTTP/1.1\r\n{HEAD}\r\n", InvalidRequest()),
    "long field": (f"GET /health HTTP/1.1\r\n{HEAD}X-Long: {MARK * 4000}\r\n\r\n", HeaderFieldsTooLarge()),
    "version": (f"GET /health HTTP/3.0\r\n{HEAD}\r\n", InvalidRequest()),
    "encoding": (f"POST /auth/token HTTP/1.1\r\n{HEAD}Transfer-Encoding: {MARK}\r\n\r\n", InvalidRequest()),
    "two hosts": (f"GET /health HTTP/1.1\r\n{HEAD}Host: {MARK}\r\n\r\n", InvalidRequest()),
    "no host": ("GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", InvalidRequest()),
    "plain": (f"GET /{MARK} HTTP/1.1\r\n{HEAD}\r\n", InvalidRequest()),
    "trace": (f"TRACE /health HTTP/1.1\r\n{HEAD}\r\n", MethodNotAllowed()),
}


@pytest.mark.parametrize("what", OWN)
async def test_what_nginx_answers_by_itself_is_what_the_server_would(site: Site, what: str) -> None:
    """The answer is the same document with an id, which nginx logs too, and quotes nothing of the request."""
    if site.proxy.name == "nginx":
        octets, error = OWN[what]
        status, headers, body = await said_raw(site, octets.encode(), tls=what != "plain")
        line = await logged(site, assert_own(status, headers, body, error))
        assert MARK not in repr(headers) + body + line
        assert ("allow" in headers) is (status == 405)  # RFC 9110, 15.5.6


def paths() -> dict[tuple[str, str], str]:
    """Every route of the server by its name in the server's log, with an example path."""
    app = web.Application()
    app[RUNTIME] = cast(Runtime, SimpleNamespace(offered=tuple(PROVIDERS)))
    for group in iter_modules(routes.__path__, f"{routes.__name__}."):
        import_module(group.name).add(app)
    named = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    return {(method, route): re.sub(r"{\w+}", MARK, of_google(route)) for method, route in named}


def of_google(route: str) -> str:
    return route.replace("{provider}", "google")


async def test_nginx_logs_each_route_by_the_name_that_the_server_has_for_it(site: Site, visitor: Browser) -> None:
    """A line has the route's name, and from the path only the provider's name."""
    if site.proxy.name == "nginx":
        for (method, route), path in paths().items():
            answer = await visitor.ask(method, f"{path}?{MARK}")
            line = await logged(site, answer.headers["X-Request-ID"])
            assert f'"{method} {of_google(route)} HTTP/1.1"' in line


STRANGE = {
    "path": ("GET", f"/{MARK}"),
    "below a route": ("GET", f"/auth/token/{MARK}"),
    "before a route": ("GET", f"/{MARK}/auth/token"),
    "session": ("DELETE", f"/users/me/sessions/{MARK}"),
    "below a session": ("DELETE", f"/users/me/sessions/x/{MARK}"),
    "static": ("GET", f"/static/{MARK}.css"),
    "provider": ("GET", f"/auth/{MARK}/start"),
    "callback": ("GET", f"/auth/{MARK}/callback"),
    "deletion": ("GET", f"/deletion/{MARK}"),
    "escaped": ("GET", f"/%61uth/token%2f{MARK}"),
    "parameters": ("GET", f"/health;{MARK}"),
    "dots": ("GET", f"/{MARK}/../health"),
    "query": ("GET", f"/health?{MARK}"),
    "method": (MARK.upper(), "/health"),
}


@pytest.mark.parametrize("kind", STRANGE)
async def test_no_log_of_a_proxy_holds_what_somebody_wrote_into_a_request(
    site: Site, visitor: Browser, kind: str
) -> None:
    """A person may paste a token into a wrong place. The log has no part of the path, the method or a header."""
    method, path = STRANGE[kind]
    headers = dict.fromkeys(
        ("X-Request-ID", "X-Forwarded-For", "Forwarded", "X-Real-IP", "User-Agent", "Referer", "Authorization"), MARK
    )
    for url in (visitor.url, f"http://{NAME}:{site.proxy.ports.http}"):
        await visitor.ask(method, f"{url}{path}", headers=headers)
        await visitor.ask(method, f"{url}{path}", headers=headers | {"Host": MARK})
    await modern(site, method, path, headers=headers)
    await logged(
        site, (await visitor.get("/health")).headers["X-Request-ID"]
    )  # then the earlier lines are in the log too
    assert MARK not in site.proxy.all_logs
    assert MARK.upper() not in site.proxy.all_logs


async def test_no_client_names_its_request_itself(site: Site, visitor: Browser) -> None:
    """The answer and both logs have the same id, and ignore an id that the client sent."""
    forged = "ab" * 16
    for path in ("/auth/providers", "/nothing/here"):
        request_id = (await visitor.get(path, headers={"X-Request-ID": forged})).headers["X-Request-ID"]
        assert request_id != forged
        await logged(site, request_id)
        await site.servers[0].say(request_id)
    assert forged not in site.proxy.all_logs + "".join(site.servers[0].lines)
