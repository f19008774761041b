"""Whom the sandbox answers: this machine by its own names, and no page of another site behind a person's back.

Anybody who reaches the sandbox can sign in as anybody, and every page in a browser on this machine reaches loopback.
A page may even have its own name lead here (DNS rebinding); what its browser then sends is that name, as Host.
"""

import re

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from nextarget.errors import CrossOriginRefused, MisdirectedRequest
from nextarget.settings import is_loopback

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:]+)\]|([^:\[\]]+))(?::[0-9]*)?")
_OWN = frozenset({"same-origin", "none"})
"""Who asks: a page of ours, or the person, by the address bar (Fetch Metadata, 2.4)."""


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around every route of a server with a sandbox, the API included.

    Raises MisdirectedRequest or CrossOriginRefused.
    """
    hosts = request.headers.getall(hdrs.HOST, [])
    if len(hosts) != 1 or not names_this_machine(hosts[0]):
        raise MisdirectedRequest
    if request.path.startswith("/sandbox/") and not _may_ask(request, hosts[0]):
        raise CrossOriginRefused(
            "Pages of other sites may send people to the stand-in providers, and nothing else. Programs may ask."
        )
    return await handler(request)


def names_this_machine(host: str) -> bool:
    """Whether a Host header holds a name that leads nowhere but to this machine.

    Any port will do: it may have been forwarded, and says nothing about whose page it was that asked.
    """
    found = _HOST.fullmatch(host)
    return found is not None and is_loopback((found[1] or found[2]).lower())


def _may_ask(request: web.Request, host: str) -> bool:
    """Whether a request to a stand-in comes from a program, from a page of ours, or brings a person here.

    A person who follows an app's link, by way of our authorization endpoint, arrives as from another site.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:  # a program, or a browser that says no more than Origin
        return request.headers.get(hdrs.ORIGIN, f"http://{host}") == f"http://{host}"
    if site in _OWN:
        return True
    brings_person = (
        request.headers.get("Sec-Fetch-Mode") == "navigate" and request.headers.get("Sec-Fetch-Dest") == "document"
    )
    return brings_person and request.method in {hdrs.METH_GET, hdrs.METH_HEAD}
