"""Requests that a browser makes ahead of its person: a visit that may never come begins nothing and uses nothing up."""

import re
from functools import wraps

from aiohttp import web
from aiohttp.typedefs import Handler

from nextarget.errors import PrefetchRefused

_FIELDS = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
"""The HTML standard's (7.6, speculative loading), and those of browsers from before it."""
_AHEAD = frozenset({"prefetch", "prerender", "preview"})
_BETWEEN = re.compile(r"[;, \t]+")


def in_person(handler: Handler) -> Handler:
    """A handler that answers a person's own visit alone, and counts nothing else against a limit.

    Any status but 2xx makes a browser forget what it asked ahead, and ask again for the visit. Raises PrefetchRefused.
    """

    @wraps(handler)
    async def visited(request: web.Request) -> web.StreamResponse:
        if is_ahead(request):
            raise PrefetchRefused
        return await handler(request)

    return visited


def is_ahead(request: web.BaseRequest) -> bool:
    """Whether a browser says that it asks ahead: to prefetch, to prerender, or for a preview."""
    values = (value for name in _FIELDS for value in request.headers.getall(name, ()))
    return any(_AHEAD & set(_BETWEEN.split(value.lower())) for value in values)
