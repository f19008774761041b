"""Looks up where a provider is, so that a name server that hangs keeps nobody waiting but those who ask for that name.

asyncio looks names up on threads that it shares with everything else, a handful of them (uvloop: two at a time). The
lookups of one provider would fill them, and those of the other would wait.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult


class Resolver(AbstractResolver):
    """Each lookup has a thread of its own. aiohttp has one lookup of a name under way at a time and remembers the
    answer, so there are no more threads than names; and the end of the program waits for none of them."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError when the name has no address, or none can be asked."""
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
        """Nothing is open."""


def _look_up(found: "asyncio.Future[list[Any]]", host: str, port: int, family: socket.AddressFamily) -> None:
    addresses: list[Any] = []
    error: Exception | None = None
    try:
        addresses = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except (OSError, UnicodeError) as failure:
        error = failure
    with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
        found.get_loop().call_soon_threadsafe(_settle, found, addresses, error)


def _settle(found: "asyncio.Future[list[Any]]", addresses: list[Any], error: Exception | None) -> None:
    if found.done():
        return  # whoever waited has given up
    if error is None:
        found.set_result(addresses)
    else:
        found.set_exception(error)
