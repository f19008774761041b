"""What a provider sends when something happened to a person's account there (RFC 8935)."""

from aiohttp import web

from nextarget.model import Provider
from nextarget.providers.base import TellsEvents
from nextarget.registry import able, name_pattern
from nextarget.web.app_keys import ONLINE, RUNTIME
from nextarget.web.rate_limits import CountingRefusals
from nextarget.web.requests import parameters


def add(app: web.Application) -> None:
    if telling := name_pattern(able(app[RUNTIME].offered, TellsEvents)).pattern:
        app.router.add_post(f"/auth/{{provider:{telling}}}/events", receive_event, name="event")


async def receive_event(request: web.Request) -> web.Response:
    """The type of the body is not checked: the signature is, and Google's guide names no type."""
    # A provider sends the events of all people from a few addresses, so only refusals count.
    async with CountingRefusals(request, "events"):
        body = await parameters.read_text(request)
        await request.app[ONLINE].events.receive(Provider(request.match_info["provider"]), body)
    return web.Response(status=202)
