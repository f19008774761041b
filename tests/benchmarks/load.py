"""The client: raw sockets kept alive, each asking the same thing again as soon as it is answered."""

import asyncio
from typing import cast

import uvloop

CONNECTIONS = 8
PATIENCE_SECONDS = 120


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, count: int, status: bytes) -> None:
        self._request = request
        self._left = count
        self._status = status
        self._answer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's classes
        self._transport.write(self._request)

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
        self._left -= 1
        if self._left:
            self._transport.write(self._request)
        else:
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("The server hung up.")

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))
        self._transport.close()


def ask(
    port: int, path: str, count: int, *, headers: dict[str, str] | None = None, connections: int = CONNECTIONS
) -> None:
    """Send `count` GET requests over so many connections, and wait for every answer, each of which must be 200."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    uvloop.run(_ask(port, ("\r\n".join(lines) + "\r\n\r\n").encode(), count, connections))


async def _ask(port: int, request: bytes, count: int, width: int) -> None:
    loop = asyncio.get_running_loop()
    share, rest = divmod(count, width)
    shares = [share + (number < rest) for number in range(width)]
    connections = [
        (await loop.create_connection(lambda n=n: _Connection(request, n, b"HTTP/1.1 200 "), "127.0.0.1", port))[1]
        for n in shares
        if n
    ]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(connection.done for connection in connections))
