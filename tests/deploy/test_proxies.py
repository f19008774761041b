"""The shipped proxy files in front of a production server. The real proxies prove every rule."""

import asyncio
import json
import socket
import ssl
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from aiohttp import hdrs
from yarl import URL

from tests.apps import App, refresh
from tests.deploy.conftest import Site
from tests.deploy.proxies import Ports, nginx_program, write_nginx
from tests.deploy.site import NAME, certificate, started
from tests.running import Answer, Browser

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
MARK = "hush-7rq2-do-not-repeat"


async def test_nginx_takes_the_example(tmp_path: Path) -> None:
    """`nginx -t` reports no problem."""
    main = write_nginx(tmp_path, Ports(8080, 8443), [8000], certificate(tmp_path))
    async with started(nginx_program(), "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(main), cwd=tmp_path) as it:
        await it.process.wait()
        assert await it.end() == 0, it.lines
    # nginx prefers `http2 on` from version 1.25 on. Earlier versions do not know it.
    assert not [line for line in it.lines if "warn" in line and "http2" not in line]


async def test_a_person_signs_in_through_the_proxy(visitor: Browser) -> None:
    """The browser flow and the app flow work over https with the public name."""
    begun = await visitor.get("/auth/google/start?mode=redirect")
    back = await visitor.approve(begun.headers["Location"])
    assert back.startswith(f"{visitor.url}/auth/google/callback?")
    tokens = (await visitor.get(back)).json
    me = await visitor.me(tokens["access_token"])
    assert (me.status, me.json["email"]) == (200, "ada@lovelace.example")
    of_app = await App(visitor).sign_in()
    assert (await refresh(visitor, of_app["refresh_token"])).status == 200
    assert (await visitor.sign_in("facebook")).json["provider"] == "facebook"


async def test_the_login_cookie_is_for_https_and_this_host_alone(visitor: Browser) -> None:
    """The server sets this cookie for its public https URL, and the proxy does not change it."""
    answer = await visitor.get("/auth/google/start?mode=redirect")
    ((name, morsel),) = SimpleCookie(answer.headers["Set-Cookie"]).items()
    assert name.startswith("__Host-")
    assert (morsel["secure"], morsel["httponly"], morsel["path"], morsel["domain"]) == (True, True, "/", "")


async def test_a_forged_forwarded_address_changes_nothing(site: Site) -> None:
    """The proxy removes a client's own headers, even from an address that the server trusts."""
    async with site.visitor("127.0.0.1") as neighbour:
        for number in range(31):
            forged = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
            answer = await neighbour.get("/auth/google/start", headers=forged)
            assert answer.status == (200 if number < 30 else 429), number


async def test_the_proxy_tells_clients_apart(site: Site) -> None:
    """A client that used up its quota does not affect the next client."""
    async with site.visitor() as greedy:
        assert [(await greedy.get("/auth/google/start")).status for _ in range(31)] == [200] * 30 + [429]
    async with site.visitor() as modest:
        answer = await modest.get("/auth/google/start")
    assert answer.headers["RateLimit"] == '"start";r=29'


@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics?x=1", "/%6detrics", "/%6Detrics", "/./metrics", "/health/../metrics"]
)
async def test_metrics_are_not_reachable_from_outside(visitor: Browser, path: str) -> None:
    """The proxy's address may read the metrics, so the proxy must not forward such a request."""
    async with visitor.session.get(URL(visitor.url + path, encoded=True), allow_redirects=False) as answer:
        assert answer.status == 404
        assert hdrs.STRICT_TRANSPORT_SECURITY not in answer.headers, "the request reached the server"


async def test_the_access_log_tells_an_operator_what_happened(site: Site, visitor: Browser) -> None:
    """A line has the method, the status, the server, and the request id of the server's own log."""
    request_id = (await visitor.get("/auth/google/start")).headers["X-Request-ID"]
    async with asyncio.timeout(30):
        while request_id not in site.proxy.access_log:
            await asyncio.sleep(0)
    (line,) = [line for line in site.proxy.access_log.splitlines() if request_id in line]
    assert "GET" in line, "in Traefik's log the router's name has the method"
    assert "200" in line
    assert f"127.0.0.1:{site.ports[0]}" in line
    if site.proxy.name == "traefik":
        assert json.loads(line)["ClientHost"].startswith("127.0.")


async def test_plain_http_is_sent_to_https_under_the_servers_own_name(site: Site, visitor: Browser) -> None:
    """Old links still work, and plain http gets nothing but a redirect."""
    answer = await visitor.get(f"http://{NAME}:{site.proxy.ports.http}/auth/providers")
    assert answer.status in (301, 308)
    assert answer.headers["Location"].startswith(f"https://{NAME}")
    assert answer.headers["Location"].endswith("/auth/providers")


async def test_nginx_answers_the_certificate_authority_over_plain_http(site: Site, visitor: Browser) -> None:
    """nginx serves the challenge as a file, without a redirect to https. Traefik uses TLS-ALPN instead, and
    redirects."""
    path = ".well-known/acme-challenge/token"
    if site.proxy.name == "nginx":
        (site.proxy.folder / "acme" / path).write_text("proof")
    answer = await visitor.get(f"http://{NAME}:{site.proxy.ports.http}/{path}")
    if site.proxy.name == "nginx":
        assert (answer.status, answer.text) == (200, "proof")
    else:
        assert answer.status in (301, 308)


async def test_browsers_get_http_2_and_nothing_older_than_tls_1_2(site: Site) -> None:
    """A browser gets HTTP/2 over TLS 1.3, and TLS 1.1 is refused."""
    modern, old = site.certificate.trust(), site.certificate.trust()
    modern.set_alpn_protocols(["h2", "http/1.1"])
    await asyncio.to_thread(_shake_hands, site, modern)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(_shake_hands, site, old)


def _shake_hands(site: Site, context: ssl.SSLContext) -> None:
    with (
        socket.create_connection(("127.0.0.1", site.proxy.ports.https)) as bare,
        context.wrap_socket(bare, server_hostname=NAME) as secured,
    ):
        assert (secured.selected_alpn_protocol(), secured.version()) == ("h2", "TLSv1.3")


async def test_a_body_that_is_too_large_is_refused_before_the_server(site: Site, visitor: Browser) -> None:
    """The answer is 413 without any part of the body. A body that the server accepts passes the proxy."""
    answer = await visitor.ask("POST", "/auth/token", data=MARK.encode() * 3000)
    assert answer.status == 413
    assert MARK not in answer.text
    assert hdrs.STRICT_TRANSPORT_SECURITY not in answer.headers, "the request reached the server"
    if site.proxy.name == "nginx":
        assert answer.code == "payload_too_large"
    fits = await visitor.ask("POST", "/auth/token", data=b"x" * 64 * 1024)
    assert (fits.status, hdrs.STRICT_TRANSPORT_SECURITY in fits.headers) == (400, True)


@pytest.mark.parametrize("kind", ["query", "header", "headers"])
async def test_a_header_that_is_too_large_is_refused_and_not_repeated(visitor: Browser, kind: str) -> None:
    """The proxy or the server refuses it, never with a 5xx, and without quoting it."""
    path, headers = "/health", {}
    if kind == "query":
        path += "?" + MARK * 500
    elif kind == "header":
        headers = {"X-Long": MARK * 500}
    else:
        headers = {f"X-{number}": MARK for number in range(100)}
    answer: Answer = await visitor.get(path, headers=headers)
    assert answer.status in (400, 414, 431)
    assert MARK not in answer.text


@pytest.mark.parametrize("size", [9_000, 28_000])
async def test_who_brings_too_many_cookies_is_told_by_the_server(visitor: Browser, size: int) -> None:
    """The proxy's limit is above the server's, so the person gets the server's page that says what to do."""
    headers = {"Cookie": f"{MARK}={'x' * size}", "Accept": "text/html"}
    answer = await visitor.get("/auth/authorize", headers=headers)
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (431, "text/html")
    assert "Delete the cookies" in answer.text
    assert MARK not in answer.text


@pytest.mark.parametrize("sizes", [[80_000], [29_000, 29_000, 29_000], [9_000] * 8])
async def test_a_header_too_large_for_the_proxy_is_431_too(site: Site, visitor: Browser, sizes: list[int]) -> None:
    """RFC 6585, 5: nginx's document has the form of the server's. One large field or many fields get an answer,
    never a closed connection."""
    headers = {f"X-{number}": f"{MARK}={'x' * size}" for number, size in enumerate(sizes)}
    answer = await visitor.get("/auth/authorize", headers=headers)
    assert answer.status == 431
    assert MARK not in answer.text
    if site.proxy.name == "nginx":
        assert answer.code == "header_fields_too_large"
