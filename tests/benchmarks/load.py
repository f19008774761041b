"""The client: raw keep-alive sockets. A socket sends its next request as soon as it has the answer."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import cast
from urllib.parse import urlencode

import uvloop

CONNECTIONS = 32
"""Connections for a worker: enough to keep it busy, and few enough for short waits."""
PATIENCE_SECONDS = 120


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], status: bytes) -> None:
        self._requests = iter(requests)
        self._left = len(requests)
        self._status = status
        self._answer = b""
        self._bodies: list[bytes] = []
        self.done: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is not a subclass of asyncio's
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        if not head.startswith(self._status):
            self._fail(f"Unexpected answer:\n{self._answer.decode(errors='replace')}")
            return
        self._answer = b""
        self._bodies.append(body)
        self._left -= 1
        if self._left:
            self._transport.write(next(self._requests))
        else:
            self.done.set_result(self._bodies)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("The server hung up.")

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))
        self._transport.close()


def get_request(port: int, path: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a GET request, for `ask_each`."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def form_request(port: int, path: str, form: Mapping[str, str], *, address: str = "192.0.2.1") -> bytes:
    """The bytes of a POST with a form, from a client behind a proxy, for `ask_each`."""
    body = urlencode(form)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Forwarded-For: {address}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
    )
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def addresses() -> Iterator[str]:
    """Endless addresses of clients. An address occurs ten times, which is below every limit."""
    for number in count(1):
        yield from [f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"] * 10


def ask_each(port: int, requests: Sequence[bytes], *, connections: int = CONNECTIONS) -> list[bytes]:
    """Send every request once over a number of connections. Return the bodies of the answers, which must be 200."""
    shares = uvloop.run(_ask_each(port, requests, connections))
    bodies: list[bytes] = [b""] * len(requests)
    for number, share in enumerate(shares):
        bodies[number::connections] = share
    return bodies


async def _ask_each(port: int, requests: Sequence[bytes], width: int) -> list[list[bytes]]:
    loop = asyncio.get_running_loop()
    shares = [share for number in range(width) if (share := requests[number::width])]
    connections = [
        (await loop.create_connection(lambda s=share: _Connection(s, b"HTTP/1.1 200 "), "127.0.0.1", port))[1]
        for share in shares
    ]
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await asyncio.gather(*(connection.done for connection in connections))
