"""Providers that can be reached through a proxy only: complete sign-ins of a real server, over TLS in a CONNECT
tunnel."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
from aiohttp import web

from nextarget.model import Provider
from nextarget.providers.settings.apple import AppleSettings
from nextarget.registry import PROVIDERS
from tests.deploy.site import certificate
from tests.running import Server, free_port, open_browser, running
from tests.serving import Served, served

USER, PASSWORD = "nextarget", "pa/ss:w@rd of the proxy"
DOMAIN = "provider.example"
EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_issuer": "facebook",
    "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
}


@dataclass
class Tunnel:
    """A proxy that supports only CONNECT (RFC 9110, 9.3.6), requires a password, and connects every name to one local
    port."""

    destination: int
    port: int = 0
    tls_port: int = 0
    asked_for: list[str] = field(default_factory=list)
    refused: int = 0

    def url(self, password: str = PASSWORD) -> str:
        return f"http://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://{USER}:{quote(PASSWORD, safe='')}@localhost:{self.tls_port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _version = head.partition("\r\n")[0].split()
            credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if method != "CONNECT" or f"Proxy-Authorization: Basic {credentials}\r\n" not in head:
                self.refused += 1
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            else:
                self.asked_for.append(target)
                there, back = await asyncio.open_connection("127.0.0.1", self.destination)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class Outside:
    """The network beyond the proxy: the stand-in providers over TLS, under names that do not exist elsewhere."""

    sandbox: Server
    tunnel: Tunnel
    trusted: Path

    @contextmanager
    def server(self, folder: Path, **settings: str) -> Iterator[Served]:
        """A server process whose providers are beyond the proxy."""
        known, url = self.sandbox.runtime.settings, f"https://{{}}.{DOMAIN}/sandbox"
        assert known.providers["google"].client_secret is not None
        assert known.providers["facebook"].client_secret is not None
        own = {
            "SSL_CERT_FILE": str(self.trusted),
            "HTTPS_PROXY": self.tunnel.url(),
            "GOOGLE_CLIENT_ID": str(known.providers["google"].client_id),
            "GOOGLE_CLIENT_SECRET": known.providers["google"].client_secret.reveal(),
            "GOOGLE_REDIRECT_URI": str(known.providers["google"].redirect_uri),
            "GOOGLE_ISSUER": known.providers["google"].issuer,
            "GOOGLE_AUTHORIZATION_ENDPOINT": known.providers["google"].authorization_endpoint,
            "GOOGLE_TOKEN_ENDPOINT": f"{url.format('token')}/google/token",
            "GOOGLE_JWKS_URI": f"{url.format('keys')}/google/jwks",
            "FACEBOOK_CLIENT_ID": str(known.providers["facebook"].client_id),
            "FACEBOOK_CLIENT_SECRET": known.providers["facebook"].client_secret.reveal(),
            "FACEBOOK_REDIRECT_URI": str(known.providers["facebook"].redirect_uri),
            "FACEBOOK_AUTHORIZATION_ENDPOINT": str(known.providers["facebook"].authorization_endpoint),
            "FACEBOOK_GRAPH_URL": f"{url.format('graph')}/facebook",
            "FACEBOOK_GRAPH_VERSION": known.providers["facebook"].graph_version,
            **self._settings_of_apple(url),
        }
        with served(folder, **(own | settings)) as server:
            yield server

    def _settings_of_apple(self, url: str) -> dict[str, str]:
        own = self.sandbox.runtime.settings.providers[Provider("apple")]
        assert isinstance(own, AppleSettings)
        return {
            "APPLE_CLIENT_ID": own.client_id,
            "APPLE_TEAM_ID": own.team_id,
            "APPLE_KEY_ID": own.key_id,
            "APPLE_PRIVATE_KEY": own.private_key.reveal(),
            "APPLE_REDIRECT_URI": own.redirect_uri,
            "APPLE_ISSUER": own.issuer,
            "APPLE_AUTHORIZATION_ENDPOINT": own.authorization_endpoint,
            "APPLE_TOKEN_ENDPOINT": f"{url.format('token')}/apple/auth/token",
            "APPLE_JWKS_URI": f"{url.format('keys')}/apple/auth/keys",
        }

    async def sign_in(self, server: Served, provider: Provider) -> aiohttp.ClientResponse:
        """The answer to the callback, completely read."""
        async with open_browser(server.url) as browser:
            back = await self.sandbox.approve((await browser.begin(provider))["auth_url"])
            path = f"{urlsplit(back).path}?{urlsplit(back).query}"
            async with browser.session.get(f"{server.url}{path}") as answer:
                await answer.read()
                return answer


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    folder = tmp_path / "outside"
    provider, proxy = (_certified(folder / name, name) for name in (f"*.{DOMAIN}", "localhost"))
    trusted = folder / "trusted.pem"
    trusted.write_bytes(b"".join(path.read_bytes() for path in folder.glob("*/fullchain.pem")))
    async with running(folder) as sandbox, _front(sandbox, provider) as port:
        tunnel = Tunnel(port)
        plain = await asyncio.start_server(tunnel.serve, "127.0.0.1", 0)
        tls = await asyncio.start_server(tunnel.serve, "127.0.0.1", 0, ssl=proxy)
        tunnel.port, tunnel.tls_port = (server.sockets[0].getsockname()[1] for server in (plain, tls))
        try:
            yield Outside(sandbox, tunnel, trusted)
        finally:
            plain.close()
            tls.close()


def _certified(folder: Path, host: str) -> ssl.SSLContext:
    folder.mkdir(parents=True)
    made = certificate(folder, host)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.chain, made.key)
    return context


@asynccontextmanager
async def _front(sandbox: Server, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A TLS front for the stand-in providers, which accept requests to their own name only."""

    async def forward(request: web.Request) -> web.Response:
        kept = {name: text for name, text in request.headers.items() if name in {"Authorization", "Content-Type"}}
        url = f"{sandbox.url}{request.path_qs}"
        async with sandbox.session.request(request.method, url, headers=kept, data=await request.read()) as answer:
            body, kind = await answer.read(), answer.headers["Content-Type"]
            return web.Response(body=body, status=answer.status, headers={"Content-Type": kind})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def assert_secret(server: Served, *more: str) -> None:
    """No log line contains the proxy's password in any form."""
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for text in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), basic, *more):
        assert text not in str(server.lines)
        assert text not in str(server.broken)


@pytest.mark.slow
async def test_every_question_to_providers_goes_through_the_proxy(outside: Outside, tmp_path: Path) -> None:
    """Requests for token, keys, profile and debug_token use the proxy. It sees hosts and ports only, and its password
    is not logged."""
    with outside.server(tmp_path) as server:
        for provider in PROVIDERS:
            answer = await outside.sign_in(server, provider)
            assert answer.status == 200
        native = await outside.sandbox.get("/sandbox/facebook/sdk?kind=classic&person=ada")
        async with open_browser(server.url) as browser:
            form = EXCHANGE | {"subject_token": native.json["access_token"]}
            assert (await browser.ask("POST", "/auth/token", data=form)).status == 200
        asked = set(outside.tunnel.asked_for)
        assert asked == {f"{name}.{DOMAIN}:443" for name in ("token", "keys", "graph")}
        assert outside.tunnel.refused == 0
        assert_secret(server)


@pytest.mark.slow
async def test_the_proxy_itself_may_speak_tls(outside: Outside, tmp_path: Path) -> None:
    """With TLS to the proxy, its password is not sent in clear text."""
    with outside.server(tmp_path, HTTPS_PROXY=outside.tunnel.tls_url) as server:
        for provider in PROVIDERS:
            assert (await outside.sign_in(server, provider)).status == 200
        assert outside.tunnel.asked_for
        assert_secret(server)


@pytest.mark.slow
async def test_the_proxy_may_be_set_in_dotenv(outside: Outside, tmp_path: Path) -> None:
    """The setting may be in .env, in lower case too."""
    (tmp_path / ".env").write_text(f"https_proxy={outside.tunnel.url()}\n", encoding="utf-8")
    with outside.server(tmp_path, HTTPS_PROXY="") as server:
        assert (await outside.sign_in(server, Provider("google"))).status == 200
        assert outside.tunnel.asked_for


@pytest.mark.slow
async def test_who_is_exempt_is_asked_directly(outside: Outside, tmp_path: Path) -> None:
    """Hosts in NO_PROXY are not reached through the proxy. Here they do not exist without it."""
    with outside.server(tmp_path, NO_PROXY=f"keys.{DOMAIN}, elsewhere.example") as server:
        assert (await outside.sign_in(server, Provider("google"))).status == 503
        assert (await outside.sign_in(server, Provider("facebook"))).status == 200
        assert set(outside.tunnel.asked_for) == {f"token.{DOMAIN}:443", f"graph.{DOMAIN}:443"}


@pytest.mark.slow
async def test_a_proxy_that_refuses_us_is_named_in_the_log(outside: Outside, tmp_path: Path) -> None:
    """After a 407, for example because of a wrong password, apps get a 503 with Retry-After. The password is not
    logged."""
    wrong = "an old password"
    with outside.server(tmp_path, HTTPS_PROXY=outside.tunnel.url(wrong)) as server:
        answer = await outside.sign_in(server, Provider("google"))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        (failed,) = server.wait_for("login_failed")
        assert failed["reason"] == "google token: the proxy answered 407"
        assert outside.tunnel.asked_for == []
        assert_secret(server, wrong, quote(wrong))


@pytest.mark.slow
async def test_a_proxy_that_nobody_listens_on_is_named_in_the_log(outside: Outside, tmp_path: Path) -> None:
    """The log names the failed connection to the proxy, and not its URL."""
    port = free_port()
    with outside.server(tmp_path, HTTPS_PROXY=f"http://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}") as server:
        assert (await outside.sign_in(server, Provider("facebook"))).status == 503
        (failed,) = server.wait_for("login_failed")
        assert failed["reason"].startswith("facebook token: ClientProxyConnectionError: Connect")
        assert_secret(server)


async def test_this_machine_is_asked_directly_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sandbox works with a proxy in the settings, and no library reads the environment by itself."""
    nobody = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, nobody)
    async with running(tmp_path, HTTPS_PROXY=nobody) as server:
        for provider in PROVIDERS:
            assert (await server.sign_in(provider)).status == 200
