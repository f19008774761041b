"""Protects the sandbox from other sites. It answers only requests to a name of this machine, and a page of another site
can only send a person to a stand-in.

In the sandbox, anybody can sign in as anybody, and any page in a browser on this machine can send requests to loopback.
With DNS rebinding, a site can even let its own name resolve to this machine; its browser then sends that name as Host.
"""

import re

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from nextarget.errors import CrossOriginRefused, MisdirectedRequest
from nextarget.settings import is_loopback

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:]+)\]|([^:\[\]]+))(?::[0-9]*)?")
_OWN = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site for a request of our own page, and for a URL from the address bar (Fetch Metadata, 2.4)."""


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A middleware for all routes of a server with a sandbox, also for the API.

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
    """Whether a Host header contains a name that always means this machine.

    Any port is accepted. A port may be forwarded, and it does not say which site sent the request.
    """
    found = _HOST.fullmatch(host)
    return found is not None and is_loopback((found[1] or found[2]).lower())


def _may_ask(request: web.Request, host: str) -> bool:
    """Whether a request to a stand-in comes from a program, from our own page, or is a navigation of a person.

    When an app opens our authorization endpoint, which redirects to the stand-in, the browser may report a navigation
    from another site.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:  # a program, or a browser that sends at most Origin
        return request.headers.get(hdrs.ORIGIN, f"http://{host}") == f"http://{host}"
    if site in _OWN:
        return True
    brings_person = (
        request.headers.get("Sec-Fetch-Mode") == "navigate" and request.headers.get("Sec-Fetch-Dest") == "document"
    )
    return brings_person and request.method in {hdrs.METH_GET, hdrs.METH_HEAD}
