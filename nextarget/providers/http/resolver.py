"""Looks up the addresses of host names, so that a DNS lookup that hangs delays only requests to the same host.

asyncio runs DNS lookups on a small pool of threads that all other code shares (uvloop runs two lookups at a time). The
lookups of one provider could use all of these threads, and the lookups of the other providers would wait.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult


class Resolver(AbstractResolver):
    """Runs a lookup on its own thread. aiohttp runs one lookup of a name at a time, and caches the answer, so there are
    no more threads than names. The program does not wait for these threads when it ends."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError if the name has no address, or the lookup fails."""
        found: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        threading.Thread(target=_look_up, args=(found, host, port, family), name="nextarget-dns", daemon=True).start()
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _type, protocol, _name, address in await found
        ]

    async def close(self) -> None:
        """Nothing to close."""


def _look_up(found: "asyncio.Future[list[Any]]", host: str, port: int, family: socket.AddressFamily) -> None:
    addresses: list[Any] = []
    error: Exception | None = None
    try:
        addresses = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except OSError as failure:
        error = failure
    except UnicodeError:  # an empty label, or one that is too long
        error = OSError("not a host name")
    with suppress(RuntimeError):  # the loop was closed meanwhile, so nothing waits for the answer
        found.get_loop().call_soon_threadsafe(_settle, found, addresses, error)


def _settle(found: "asyncio.Future[list[Any]]", addresses: list[Any], error: Exception | None) -> None:
    if found.done():
        return  # the request was cancelled meanwhile
    if error is None:
        found.set_result(addresses)
    else:
        found.set_exception(error)
