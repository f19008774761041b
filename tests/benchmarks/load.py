"""The client: keep-alive connections that are open, and answered once, before anything is measured.

A connection sends its next request when it has the answer. So a server with 32 of them always has something to do.
With a rate, requests are sent at moments that do not depend on the answers, as many independent apps would send them.
"""

import random
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

CONNECTIONS = 32
"""Connections for a worker: enough to keep it busy, and few enough for short waits."""
PATIENCE_SECONDS = 60
_SEED = 20_261_127


@dataclass(slots=True)
class Answers:
    """The bodies of the answers, in the order of the requests. `waits` are the seconds from the moment when a request
    was due to its answer, `seconds` is the time that all took."""

    bodies: list[bytes]
    waits: list[float]
    seconds: float = field(default=0.0)


class Connections:
    """Open connections to a server on this machine."""

    def __init__(self, port: int, number: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) for _ in range(number)]
        for connection in self._sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ask([get_request(port, "/health", {})] * number)  # the server has accepted every connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._sockets:
            connection.close()

    def ask(self, requests: Sequence[bytes], *, rate: float | None = None, even: bool = True) -> Answers:
        """Send every request once, and return the answers, which must be 200.

        With a `rate`, so many requests are sent in a second: at `even` intervals, or at random ones. Without one, every
        connection sends as soon as it can.
        """
        due = _moments(len(requests), rate, even=even)
        answers = Answers([b""] * len(requests), [0.0] * len(requests))
        idle, busy = deque(self._sockets), dict[socket.socket, int]()
        received = dict.fromkeys(self._sockets, b"")
        following, began = 0, time.perf_counter()
        while following < len(requests) or busy:
            now = time.perf_counter() - began
            while idle and following < len(requests) and due[following] <= now:
                connection = idle.popleft()
                connection.sendall(requests[following])
                busy[connection] = following
                following += 1
            pause = due[following] - now if idle and following < len(requests) else PATIENCE_SECONDS
            ready = select.select(list(busy), [], [], max(pause, 0))[0]
            if not ready and pause == PATIENCE_SECONDS:
                raise RuntimeError("The server does not answer.")
            for connection in ready:
                received[connection] += connection.recv(1 << 18) or _hung_up()
                body = _body(received[connection])
                if body is not None:
                    number = busy.pop(connection)
                    answers.bodies[number] = body
                    answers.waits[number] = time.perf_counter() - began - due[number]
                    received[connection] = b""
                    idle.append(connection)
        answers.seconds = time.perf_counter() - began
        return answers


def _moments(number: int, rate: float | None, *, even: bool) -> list[float]:
    """When every request is due, in seconds from the beginning."""
    if rate is None:
        return [0.0] * number
    if even:
        return [index / rate for index in range(number)]
    chance = random.Random(_SEED)
    moments = [0.0]
    for _ in range(number - 1):
        moments.append(moments[-1] + chance.expovariate(rate))
    return moments


def _body(answer: bytes) -> bytes | None:
    """The body of an answer, or None while it is not complete. A chunked one (a peer's) keeps its chunks."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return None
    lines = head.lower()
    _, found, length = lines.partition(b"\r\ncontent-length:")
    if len(body) < int(length.partition(b"\r\n")[0] if found else 0):
        return None
    chunked = b"\r\ntransfer-encoding: chunked" in lines
    if not head.startswith(b"HTTP/1.1 200 ") or not (found or chunked):
        raise RuntimeError(f"Unexpected answer:\n{answer.decode(errors='replace')}")
    return body if found or body.endswith(b"0\r\n\r\n") else None


def _hung_up() -> bytes:
    raise RuntimeError("The server hung up.")


def get_request(port: int, path: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a GET request."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def form_request(port: int, path: str, form: Mapping[str, str], *, address: str = "192.0.2.1") -> bytes:
    """The bytes of a POST with a form, from a client behind a proxy."""
    headers = {"X-Forwarded-For": address, "Content-Type": "application/x-www-form-urlencoded"}
    return post_request(port, path, urlencode(form), headers)


def post_request(port: int, path: str, body: str, headers: Mapping[str, str], *, method: str = "POST") -> bytes:
    """The bytes of a POST request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body.encode())}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + f"\r\n\r\n{body}").encode()


def addresses() -> Iterator[str]:
    """Endless addresses of clients. An address occurs ten times, which is below every limit."""
    for number in count(1):
        yield from [f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"] * 10


def ask_each(port: int, requests: Sequence[bytes], *, connections: int = CONNECTIONS) -> list[bytes]:
    """Send every request once over a number of new connections. Return the bodies of the answers."""
    with Connections(port, connections) as opened:
        return opened.ask(requests).bodies
