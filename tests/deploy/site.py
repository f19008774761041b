"""A production machine: `nextarget serve` as processes, and a proxy with TLS.

The providers are the sandbox's, in this process. All programs listen on free loopback ports.
"""

import asyncio
import contextlib
import datetime
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nextarget.registry import PROVIDERS
from nextarget.runtime import Runtime
from nextarget.sandbox.workspace import sandbox_config, sandbox_values
from nextarget.web.app import create_app
from nextarget.web.server.accepting import Site
from nextarget.web.server.runner import GuardedRunner
from tests.running import Browser, free_listener, furnish, sandbox_settings, sending_back_to

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = "auth.example.org"
"""The server's host name in the examples."""


@asynccontextmanager
async def stand_ins(directory: Path, public_url: str) -> AsyncIterator[dict[str, str]]:
    """Start the sandbox's providers for a server at `public_url`. Yield the production settings of such a server."""
    furnish(directory)
    listener = free_listener()
    port = listener.getsockname()[1]
    redirect_uris = {name: f"{public_url}/auth/{name}/callback" for name in PROVIDERS}
    config = sending_back_to(redirect_uris, sandbox_config(directory, "127.0.0.1", port))
    runner = GuardedRunner(create_app(Runtime(sandbox_settings(directory, port)), config))
    await runner.setup()
    try:
        await Site(runner, listener).start()
        yield sandbox_values(directory, "127.0.0.1", port) | {
            "ENVIRONMENT": "production",
            "PUBLIC_URL": public_url,
            **{f"{name.upper()}_REDIRECT_URI": uri for name, uri in redirect_uris.items()},
            "DATABASE_URL": f"sqlite:///{directory / 'served.db'}",
            "RATE_LIMIT_ENABLED": "true",
            "TRUSTED_PROXIES": "127.0.0.1",
        }
    finally:
        await runner.cleanup()


@dataclass
class Process:
    """A running program, and its output so far."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    _said: asyncio.Condition = field(default_factory=asyncio.Condition)
    _reader: asyncio.Task[None] | None = None

    async def read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            async with self._said:
                self.lines.append(line.decode(errors="replace"))
                self._said.notify_all()
        async with self._said:
            self.lines.append("")  # marks the end of the output
            self._said.notify_all()

    async def say(self, text: str) -> str:
        """Wait for a line with `text`."""
        async with asyncio.timeout(60), self._said:
            await self._said.wait_for(lambda: any(text in line for line in self.lines) or "" in self.lines)
        found = [line for line in self.lines if text in line]
        assert found, "".join(self.lines)
        return found[0]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the program, if it still runs. Return its exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        status = await self.process.wait()
        assert self._reader is not None
        await self._reader
        return status


@asynccontextmanager
async def started(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """Run a program with only the PATH of this process's environment, and end it afterwards."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd)} | dict(env or {})
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    running = Process(process)
    running._reader = asyncio.create_task(running.read(process.stdout))
    try:
        yield running
    finally:
        try:
            async with asyncio.timeout(30):
                await running.end()
        except TimeoutError:
            await running.end(signal.SIGKILL)


@asynccontextmanager
async def serving(directory: Path, settings: Mapping[str, str], port: int = 0) -> AsyncIterator[tuple[Process, int]]:
    """Run `nextarget serve` with these settings. Yield the process and its port."""
    environment = {**settings, "PORT": str(port)}
    async with started(sys.executable, "-m", "nextarget", "serve", cwd=directory, env=environment) as process:
        listening = json.loads(await process.say('"listening"'))
        yield process, int(listening["url"].rpartition(":")[2])


@dataclass(frozen=True)
class Certificate:
    """A certificate for NAME that only these tests trust."""

    chain: Path
    key: Path

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.chain))


def certificate(directory: Path, host: str = NAME) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = Certificate(directory / "fullchain.pem", directory / "privkey.pem")
    paths.chain.write_bytes(made.public_bytes(Encoding.PEM))
    paths.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


class _Here(AbstractResolver):
    """A resolver that resolves every name to this machine."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def client(url: str, trust: ssl.SSLContext, address: str = "127.0.0.1") -> AsyncIterator[Browser]:
    """A new browser whose requests come from `address`, a loopback address."""
    connector = aiohttp.TCPConnector(resolver=_Here(), ssl=trust, local_addr=(address, 0))
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as session:
        yield Browser(session, url)


async def answers(port: int) -> None:
    """Wait until something listens on a port of loopback."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0)
