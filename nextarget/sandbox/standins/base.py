"""The interface of a stand-in."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from aiohttp import web

from nextarget.sandbox.people import Fault
from nextarget.sandbox.standins.grants import Clock


class StandIn(Protocol):
    """A provider inside this server, below `/sandbox/`. It speaks the real provider's protocol over real HTTP."""

    people: ClassVar[Mapping[str, str]]
    """The people with an account at this provider: the provider's own id of a person, by the person's key."""
    faults: ClassVar[tuple[Fault, ...]]
    """The faults that this stand-in can produce for a sign-in in a browser."""
    sdk: ClassVar[tuple[str, ...]]
    """Examples of a query to `/sandbox/{provider}/sdk`, which gives the tokens that the provider's SDK gives to an app.
    Empty if there is no SDK."""

    def __init__(self, client: Any, *, now: Clock, slow_seconds: float) -> None:
        """`client` is our client that is registered at this stand-in; its class is in `sandbox/clients`."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add all routes of this stand-in."""
