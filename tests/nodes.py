"""Servers as processes that a test kills: nodes that share a database and one public address.

The stand-in providers run in this process and outlive every node, as the real providers do.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from shutil import which
from typing import Any

import aiohttp
from aiohttp import web

import nextarget
from nextarget.sandbox.app import attach
from nextarget.sandbox.workspace import sandbox_config, sandbox_values
from nextarget.settings import every_setting
from tests.running import Answer, Browser, free_listener, free_port, furnish

PATIENCE_SECONDS = 60
_ENDS_WITH_THIS_RUN = ("setpriv", "--pdeathsig", "KILL", "--") if which("setpriv") else ()
"""Where `setpriv` is installed, a killed test run leaves no node behind."""


class DidNotStart(Exception):
    """A node ended before it listened. The error's text is the node's log."""


class Node(Browser):
    """`nextarget serve` in a process, and a client of it that keeps cookies.

    A request of this client to the public address goes to this node, as a load balancer could route it.
    """

    def __init__(self, session: aiohttp.ClientSession, directory: Path, settings: dict[str, str]) -> None:
        self.port = free_port()
        super().__init__(session, f"http://127.0.0.1:{self.port}")
        self.lines: list[str] = []
        self.life = 0
        """Counts starts and ends: while the number is the same, the node was neither started nor ended."""
        self.listening = False
        self.process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None
        self._directory = directory
        self._settings = settings
        self.public_url = settings["PUBLIC_URL"]

    async def start(self, **overrides: str) -> None:
        """Start the node and return once it listens. `overrides` are settings that change. Raises DidNotStart."""
        self._settings |= overrides
        assert self.process is None, "it runs already"
        self.process = process = await asyncio.create_subprocess_exec(
            *_ENDS_WITH_THIS_RUN, sys.executable, "-m", "nextarget", "serve", "--port", str(self.port),
            cwd=self._directory,
            env={name: text for name, text in os.environ.items() if name not in every_setting()}
            | {"PYTHONPATH": str(Path(nextarget.__file__).parents[1]), "LOG_FORMAT": "json"}
            | self._settings,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=1024 * 1024,
        )  # fmt: skip
        listening = asyncio.Event()
        self._log = asyncio.create_task(self._collect(process.stderr, listening))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await listening.wait()
        if '"listening"' not in self.lines[-1]:
            await self._end(signal.SIGKILL)
            raise DidNotStart("".join(self.lines))
        self.life, self.listening = self.life + 1, True

    async def kill(self) -> None:
        """Send SIGKILL: the node finishes no request and logs nothing more."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        self.life, self.listening = self.life + 1, False
        with suppress(ProcessLookupError):
            process.send_signal(number)
        if self._log is not None:
            await self._log
        return await process.wait()

    def events(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [line for line in map(json.loads, self.lines) if line["event"] == event]

    def complaints(self) -> list[str]:
        """The log lines about unforeseen errors, and the lines at level error."""
        return [line for line in self.lines if '"unforeseen_error"' in line or '"level":"error"' in line]

    def visited_by(self, session: aiohttp.ClientSession) -> "Visit":
        """Another client of this node, with its own cookies."""
        return Visit(session, self)

    def own(self, path: str) -> str:
        """The path alone for an address under the public URL, so that this node gets the request.

        Any other address, and the address of a stand-in provider, is returned unchanged.
        """
        if path.startswith(self.public_url) and not path.startswith(f"{self.public_url}/sandbox/"):
            return path.removeprefix(self.public_url)
        return path

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        return await super().ask(method, self.own(path), **options)

    async def _collect(self, stderr: asyncio.StreamReader | None, listening: asyncio.Event) -> None:
        assert stderr is not None
        async for line in stderr:
            self.lines.append(line.decode())
            if '"listening"' in self.lines[-1]:
                listening.set()
        listening.set()  # the process has ended, so the caller must not wait any longer


class Visit(Browser):
    """A client of a node; see `Node.visited_by`."""

    def __init__(self, session: aiohttp.ClientSession, node: Node) -> None:
        super().__init__(session, node.url)
        self.node = node

    async def provider(self, path: str) -> Answer:
        """The answer of a stand-in provider."""
        return await self.get(self.node.public_url + path)

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        return await super().ask(method, self.node.own(path), **options)


class Service:
    """Nodes with the same settings, and so with one database. All nodes end together with the service."""

    def __init__(self, directory: Path, settings: dict[str, str], session: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.settings = settings
        self.nodes: list[Node] = []
        self._session = session

    def node(self, **overrides: str) -> Node:
        """Add a node without starting it."""
        node = Node(self._session, self.directory, self.settings | overrides)
        self.nodes.append(node)
        return node

    async def start(self, **overrides: str) -> Node:
        """Add a node and start it."""
        node = self.node(**overrides)
        await node.start()
        return node


@asynccontextmanager
async def service(directory: Path, **overrides: str) -> AsyncIterator[Service]:
    """Start the stand-in providers, and yield a service whose nodes use them. `overrides` are settings of every node,
    by name.

    The public address is the stand-ins' address: browsers come from there and go back there.
    """
    furnish(directory)
    listener = free_listener()
    port = listener.getsockname()[1]
    app = web.Application()
    attach(app, sandbox_config(directory, "127.0.0.1", port))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    jar, timeout = aiohttp.CookieJar(unsafe=True), aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    try:
        await web.SockSite(runner, listener).start()
        async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout) as session:
            the_service = Service(directory, sandbox_values(directory, "127.0.0.1", port) | overrides, session)
            try:
                yield the_service
            finally:
                for node in the_service.nodes:
                    await node.kill()
    finally:
        await runner.cleanup()
