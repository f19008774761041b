"""Sends bytes to the server, for requests that no honest client would send."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.running import Server

REFUSED = (400, "invalid_request")
READ = (400, "invalid_grant")
"""The result of `asked` for a token request that was read, and whose token is not valid."""
HANG_SECONDS = 30
"""A time limit that only a server that hangs reaches."""


@dataclass(frozen=True)
class RawAnswer:
    status: int
    headers: dict[str, str]
    """Header fields by lower-case name."""
    body: bytes
    octets: bytes
    """The whole answer as it was received."""

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["request_id"] == self.headers["x-request-id"]
        return problem["code"]

    @property
    def error(self) -> str:
        """The `error` of an OAuth error document."""
        return json.loads(self.body)["error"]


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, octets: bytes) -> None:
        """Send the bytes. The server may have closed the connection already."""
        with suppress(ConnectionError):
            self._writer.write(octets)
            async with asyncio.timeout(HANG_SECONDS):
                await self._writer.drain()

    async def answer(self, *, head: bool = False) -> RawAnswer | None:
        """The next complete answer, or None if the connection ends instead."""
        try:
            async with asyncio.timeout(HANG_SECONDS):
                start = await self._reader.readuntil(b"\r\n\r\n")
                status_line, *fields = start.decode("latin-1").rstrip("\r\n").split("\r\n")
                headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
                body = b"" if head else await self._reader.readexactly(int(headers.get("content-length", 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return RawAnswer(int(status_line.split(" ")[1]), headers, body, start + body)

    async def rest(self) -> bytes:
        """Everything until the server closes the connection, or b"" if the connection is reset."""
        with suppress(ConnectionError):
            async with asyncio.timeout(HANG_SECONDS):
                return await self._reader.read()
        return b""


@asynccontextmanager
async def wire(server: Server) -> AsyncIterator[Wire]:
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(server: Server, octets: bytes) -> RawAnswer | None:
    """The first answer to these bytes on a new connection."""
    async with wire(server) as connection:
        await connection.send(octets)
        return await connection.answer()


def code_of(answer: RawAnswer) -> str:
    """The code of a problem document or of an OAuth error. Empty for any other answer."""
    if answer.headers.get("content-type") == "application/problem+json":
        return answer.code
    return answer.error if b'"error"' in answer.body else ""


async def asked(server: Server, start: bytes, *fields: bytes, body: bytes = b"") -> tuple[int, str]:
    """The status and the code of the answer to one request, made of a start line, header fields and a body."""
    answer = await exchange(server, b"".join((start, b"\r\n", *(field + b"\r\n" for field in fields), b"\r\n", body)))
    assert answer is not None
    return answer.status, code_of(answer)
