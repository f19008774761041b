"""A whole site: the providers, servers on one database, and a proxy in front. Tests of a module share a site, or use
a new one."""

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.deploy.proxies import PROXIES, Ports, Proxy
from tests.deploy.site import NAME, Certificate, Process, certificate, client, serving, stand_ins
from tests.running import Browser, free_port

_addresses = (f"127.0.{high}.{low}" for high, low in itertools.product(range(1, 250), range(1, 250)))


@dataclass
class Site:
    """Servers in production mode behind a proxy."""

    proxy: Proxy
    url: str
    certificate: Certificate
    directory: Path
    settings: dict[str, str]
    servers: list[Process]
    ports: list[int]
    stack: AsyncExitStack

    async def restart(self, number: int) -> None:
        """Stop one server, wait until it has ended, and start it again on its port."""
        assert await self.servers[number].end() == 0, self.servers[number].lines
        await self.start(number)

    async def start(self, number: int) -> None:
        again = serving(self.directory, self.settings, self.ports[number])
        self.servers[number], _ = await self.stack.enter_async_context(again)

    @asynccontextmanager
    async def visitor(self, address: str | None = None) -> AsyncIterator[Browser]:
        """A visitor with an own address, and so with own quotas."""
        async with client(self.url, self.certificate.trust(), address or next(_addresses)) as browser:
            yield browser


@asynccontextmanager
async def _site(kind: str, directory: Path, servers: int, **more: str) -> AsyncIterator[Site]:
    ports = Ports(free_port(), free_port())
    url = f"https://{NAME}:{ports.https}"
    folder = directory / kind
    folder.mkdir()
    own = certificate(directory)
    async with AsyncExitStack() as stack:
        settings = await stack.enter_async_context(stand_ins(directory, url)) | more
        first = await stack.enter_async_context(serving(directory, settings))
        others = [await stack.enter_async_context(serving(directory, settings)) for _ in range(servers - 1)]
        processes, listening = zip(first, *others, strict=True)
        proxy = await stack.enter_async_context(PROXIES[kind](folder, ports, list(listening), own))
        site = Site(proxy, url, own, directory, settings, list(processes), list(listening), stack)
        async with asyncio.timeout(60), site.visitor() as visitor:
            while not await _knows_its_way(visitor):
                await asyncio.sleep(0)
        yield site


async def _knows_its_way(visitor: Browser) -> bool:
    """Whether the proxy has read its routes. It listens before that."""
    with contextlib.suppress(aiohttp.ClientError):
        return (await visitor.get("/health")).status == 200
    return False


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(PROXIES))
async def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One server behind every proxy, for all tests of a module. The tests leave it unchanged."""
    async with _site(request.param, tmp_path_factory.mktemp("site"), 1) as site:
        yield site


@pytest_asyncio.fixture(params=list(PROXIES))
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """Two servers behind every proxy, which a test may stop. They drain longer than the interval of Traefik's health
    check."""
    async with _site(request.param, tmp_path, 2, DRAIN_SECONDS="4") as site:
        yield site
        for server in site.servers:
            await server.end(signal.SIGKILL)  # no client needs the drain time any more


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(site: Site) -> AsyncIterator[Browser]:
    """A visitor of the site that the tests of a module share."""
    async with site.visitor() as visitor:
        yield visitor
