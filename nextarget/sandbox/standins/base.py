"""What every stand-in provider is."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from aiohttp import web

from nextarget.sandbox.people import Fault
from nextarget.sandbox.standins.grants import Clock


class StandIn(Protocol):
    """A provider inside this server, below `/sandbox/`, that speaks the real one's protocol over real HTTP."""

    people: ClassVar[Mapping[str, str]]
    """Who of the cast has an account: the person's key, and the provider's own id for the person."""
    faults: ClassVar[tuple[Fault, ...]]
    """What can go wrong when a browser signs in."""
    sdk: ClassVar[tuple[str, ...]]
    """Examples of a query to `/sandbox/{provider}/sdk`, which answers what the SDK inside an app would; none without
    an SDK."""

    def __init__(self, client: Any, *, now: Clock, slow_seconds: float) -> None:
        """`client` is the one that is registered here, of the class beside the stand-in."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add every route of this provider."""
