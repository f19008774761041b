"""Prefetches: a browser requests a page that the person may never open. They must not begin or use up a login."""

import re
from functools import wraps

from aiohttp import web
from aiohttp.typedefs import Handler

from nextarget.errors import PrefetchRefused

_FIELDS = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
"""`Sec-Purpose` is of the HTML standard (7.6, speculative loading). Older browsers send the others."""
_PREFETCHES = frozenset({"prefetch", "prerender", "preview"})
_SEPARATORS = re.compile(r"[;, \t]+")


def in_person(handler: Handler) -> Handler:
    """Wrap a handler so that it refuses prefetches, before they count against a rate limit.

    A browser discards a prefetched answer whose status is not 2xx, and sends the request again when the person opens
    the page. Raises PrefetchRefused.
    """

    @wraps(handler)
    async def visited(request: web.Request) -> web.StreamResponse:
        if is_ahead(request):
            raise PrefetchRefused
        return await handler(request)

    return visited


def is_ahead(request: web.BaseRequest) -> bool:
    """Whether the browser says that this request is a prefetch, a prerender or a preview."""
    values = (value for name in _FIELDS for value in request.headers.getall(name, ()))
    return any(_PREFETCHES & set(_SEPARATORS.split(value.lower())) for value in values)
