"""What a provider sends when a person removes the app there, or wants their data deleted, and the page about a
deletion."""

import re

from aiohttp import web

from nextarget.errors import DeletionUnknown
from nextarget.model import Provider
from nextarget.providers.base import TellsRemovals
from nextarget.registry import PROVIDERS, able, name_pattern
from nextarget.web import pages
from nextarget.web.app_keys import ONLINE, RUNTIME
from nextarget.web.problems import json_response
from nextarget.web.rate_limits import CountingRefusals, limited
from nextarget.web.requests import parameters

_SIGNED_REQUEST = re.compile(r"[\x20-\x7e]{1,8192}")
_CODE = re.compile(r"[0-9a-f]{32}")


def add(app: web.Application) -> None:
    if telling := name_pattern(able(PROVIDERS, TellsRemovals)).pattern:
        app.router.add_post(f"/auth/{{provider:{telling}}}/deauthorize", deauthorize, name="deauthorize")
        app.router.add_post(f"/auth/{{provider:{telling}}}/deletion", request_deletion, name="request-deletion")
    app.router.add_get("/deletion/{code}", deletion, name="deletion")


async def deauthorize(request: web.Request) -> web.Response:
    async with _only_refusals_count(request):
        text = await _signed_request(request)
        await request.app[ONLINE].removals.deauthorize(_provider(request), text)
    return web.Response(status=200)


async def request_deletion(request: web.Request) -> web.Response:
    async with _only_refusals_count(request):
        text = await _signed_request(request)
        code = await request.app[ONLINE].removals.delete(_provider(request), text)
    url = f"{request.app[RUNTIME].settings.public_url}/deletion/{code}"
    return json_response({"url": url, "confirmation_code": code})


@limited("deletion", "finish")
async def deletion(request: web.Request) -> web.Response:
    """A page for the person, who has nothing but the code."""
    parameters.of_query(request).optional("ui_locales", parameters.UI_LOCALES)
    code = request.match_info["code"]
    if not _CODE.fullmatch(code):  # mistyped: the person gets the page, too
        raise DeletionUnknown
    found = await request.app[ONLINE].removals.status(code)
    return pages.page("deletion.html", request, outcome=found.outcome, day=pages.day(request, found.at))


def _only_refusals_count(request: web.Request) -> CountingRefusals:
    """A provider sends the requests of all people from a few addresses, and one that is refused with 429 is lost."""
    return CountingRefusals(request, "removals")


async def _signed_request(request: web.Request) -> str:
    form = await parameters.read_form(request)
    return form.required("signed_request", _SIGNED_REQUEST)


def _provider(request: web.Request) -> Provider:
    return Provider(request.match_info["provider"])
