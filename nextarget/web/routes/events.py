"""What a provider sends when something happened to a person's account there (RFC 8935)."""

from collections.abc import Iterable

from aiohttp import web

from nextarget.model import Provider
from nextarget.registry import PROVIDERS, name_pattern
from nextarget.web.app_keys import ONLINE, RUNTIME
from nextarget.web.rate_limits import CountingRefusals
from nextarget.web.requests import parameters


def add(app: web.Application) -> None:
    if telling := name_pattern(providers_that_tell_events(app[RUNTIME].offered)).pattern:
        app.router.add_post(f"/auth/{{provider:{telling}}}/events", receive_event, name="event")


def providers_that_tell_events(providers: Iterable[Provider]) -> list[Provider]:
    """Those of the providers that send security events."""
    return [name for name in providers if PROVIDERS[name].adapter().tells_events]


async def receive_event(request: web.Request) -> web.Response:
    """The type of the body is not checked: the signature is, and Google's guide names no type."""
    # A provider sends the events of all people from a few addresses, so only refusals count.
    async with CountingRefusals(request, "events"):
        body = await parameters.read_text(request)
        await request.app[ONLINE].events.receive(Provider(request.match_info["provider"]), body)
    return web.Response(status=202)
