"""Runs the whole server in this process, on a free loopback port, beside the stand-in providers.

It is the server that `nextarget serve --sandbox` starts, with the same runner, limits and log lines.
"""

import asyncio
import dataclasses
import itertools
import json
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
from aiohttp import web

from nextarget.registry import PROVIDERS
from nextarget.runtime import Runtime, utc_now
from nextarget.sandbox.workspace import DATABASE_FILE, SECRETS_FILE, SandboxConfig, sandbox_config, sandbox_values
from nextarget.settings import Settings, Value, is_loopback, read_values
from nextarget.web.app import create_app
from nextarget.web.server.accepting import Site
from nextarget.web.server.runner import GuardedRunner
from tests.templates import put_migrated


@dataclass
class Answer:
    """An HTTP answer whose body has been read."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """The `code` of a problem document."""
        assert self.headers["Content-Type"] == "application/problem+json"
        return self.json["code"]


class Form(HTMLParser):
    """The only form of a page: its target and its fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.action = found["action"]
        elif tag == "input":
            self.fields[found["name"]] = found["value"]


async def _next_millisecond() -> None:
    """Wait until what a request ended was ended before: a login that begins in the same millisecond is ended too."""
    now = utc_now()
    while utc_now() == now:
        await asyncio.sleep(0)


class Browser:
    """An HTTP client with cookies that does not follow redirects by itself."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        url = self.url + path if path.startswith("/") else path
        async with self.session.request(method, url, allow_redirects=False, **options) as response:
            answer = Answer(response.status, response.headers, (await response.read()).decode())
        if method != "GET":
            await _next_millisecond()
        return answer

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def begin(self, provider: str = "google") -> dict[str, Any]:
        """Start a login. Return `auth_url`, `state` and `expires_in`."""
        answer = await self.get(f"/auth/{provider}/start")
        assert answer.status == 200, answer.text
        return answer.json

    async def approve(self, auth_url: str, *, person: str = "ada", fault: str | None = None) -> str:
        """Approve as a person on the provider's page. Return the URL that the page redirects to: if the page has a form
        for our callback, it is posted, and our server answers that with a redirect."""
        answer = await self.get(f"{auth_url}&person={person}" + (f"&fault={fault}" if fault else ""))
        if answer.status == 200:
            form = Form(answer.text)
            answer = await self.ask("POST", form.action, data=form.fields)
        assert answer.status in {302, 303}, answer.text
        return urljoin(self.url, answer.headers["Location"])

    async def sign_in(self, provider: str = "google", *, person: str = "ada", fault: str | None = None) -> Answer:
        """Run a whole login of the JSON flow. Return the callback's answer."""
        begun = await self.begin(provider)
        return await self.get(await self.approve(begun["auth_url"], person=person, fault=fault))

    async def me(self, access_token: str) -> Answer:
        return await self.get("/users/me", headers={"Authorization": f"Bearer {access_token}"})


@asynccontextmanager
async def open_browser(url: str) -> AsyncIterator[Browser]:
    """A browser with its own cookies. It also keeps cookies of loopback addresses."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(session, url)


@dataclass
class Server(Browser):
    """A running server, and a browser for it."""

    session: aiohttp.ClientSession
    url: str
    runtime: Runtime
    app: web.Application
    runner: GuardedRunner

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """A request to the server's public address goes to this server too, as it would through a proxy."""
        return await super().ask(method, path.removeprefix(self.runtime.settings.public_url), **options)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def free_listener(port: int | None = None) -> socket.socket:
    """A socket on a free loopback port, or on `port`: so the port is known before the server is built."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port or free_port()))
    return listener


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
_OWN_PORTS = range(20_000 + 750 * _WORKER, 20_750 + 750 * _WORKER)
_next_ports = itertools.count(random.randrange(len(_OWN_PORTS)))


def free_port() -> int:
    """A free port below the range that the system gives to clients, so that it is still free after a restart.

    Every process that runs tests has ports of its own and takes them in turn, because a server listens on its port some
    time after the port was chosen.
    """
    while True:
        port = _OWN_PORTS[next(_next_ports) % len(_OWN_PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def _redirects_below(public_url: str | None) -> dict[str, str]:
    """The redirect URIs below the public URL, unless the public URL is a loopback address."""
    if public_url is None or is_loopback(urlsplit(public_url).hostname):
        return {}
    return {f"{provider.upper()}_REDIRECT_URI": f"{public_url}/auth/{provider}/callback" for provider in PROVIDERS}


def sending_back_to(redirect_uris: Mapping[str, str], config: SandboxConfig) -> SandboxConfig:
    """The configuration of the stand-ins in which these redirect URIs of ours, by provider, are registered."""
    clients = {
        provider: dataclasses.replace(client, redirect_uri=redirect_uris.get(provider, client.redirect_uri))
        for provider, client in config.clients.items()
    }
    return dataclasses.replace(config, clients=clients)


def sandbox_settings(directory: Path, port: int, **overrides: str) -> Settings:
    """The sandbox's settings. `overrides` are by environment name; an empty one removes a setting."""
    values = sandbox_values(directory, "127.0.0.1", port) | _redirects_below(overrides.get("PUBLIC_URL")) | overrides
    fixed = {name: Value(text, "test") for name, text in values.items() if text}
    return read_values(directory, fixed=fixed, environ={}).settings()


@cache
def _made_up_once() -> dict[str, str]:
    with TemporaryDirectory() as directory:
        sandbox_values(Path(directory), "127.0.0.1", 1)
        return json.loads((Path(directory) / SECRETS_FILE).read_text(encoding="utf-8"))


def furnish(directory: Path) -> None:
    """Write the sandbox's secrets into a directory that has none. The JWT secret is new; the RSA key, which is slow to
    make, is the same in every directory."""
    path = directory / SECRETS_FILE
    if not path.exists():
        path.write_text(json.dumps(_made_up_once() | {"jwt_secret_key": secrets.token_urlsafe(64)}), encoding="utf-8")


def database_in(directory: Path, *, migrated: bool = True) -> str:
    """The URL of the database that servers in a directory share. A new database is migrated, unless the caller says
    otherwise. With --database postgresql, conftest.py replaces this function."""
    path = directory / DATABASE_FILE
    if migrated:
        put_migrated(path)
    return f"sqlite:///{path}"


@asynccontextmanager
async def running(
    directory: Path,
    *,
    listener: socket.socket | None = None,
    slow_seconds: float = 15.0,
    with_sandbox: bool = True,
    **overrides: str,
) -> AsyncIterator[Server]:
    """Start a server on its own port. Several servers may share a `directory`, and so one database."""
    furnish(directory)
    listener = listener or free_listener()
    port = listener.getsockname()[1]
    if "DATABASE_URL" not in overrides:
        overrides["DATABASE_URL"] = database_in(directory)
    settings = sandbox_settings(directory, port, **overrides)
    runtime = Runtime(settings)
    stand_ins = None
    if with_sandbox:
        config = sandbox_config(directory, "127.0.0.1", port, slow_seconds=slow_seconds)
        stand_ins = sending_back_to({name: own.redirect_uri for name, own in settings.providers.items()}, config)
    app = create_app(runtime, stand_ins)
    runner = GuardedRunner(app)
    await runner.setup()
    try:
        await Site(runner, listener).start()
        async with aiohttp.ClientSession() as session:
            yield Server(session, f"http://127.0.0.1:{port}", runtime, app, runner)
    finally:
        await runner.cleanup()


def query_of(url: str) -> dict[str, str]:
    """The query parameters of a URL. Every parameter must occur once."""
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in query.values())
    return {name: values[0] for name, values in query.items()}
