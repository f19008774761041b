"""Finds the handler of a request: in a dictionary if the route's path is fixed, by aiohttp's application otherwise.

aiohttp's application resolves every request anew, and then makes objects for its result. For a route whose path has no
variable part the result is always the same, so it is made once.
"""

from functools import partial
from typing import NamedTuple

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler


class _Found(NamedTuple):
    match_info: web.UrlMappingMatchInfo
    handler: Handler


class Routes:
    """The routes of an application, whose routes and middlewares must be complete. `application` handles any request,
    as aiohttp does."""

    def __init__(self, app: web.Application, application: Handler) -> None:
        self._application = application
        self.fixed: dict[tuple[str, str], _Found] = {}
        """The routes with a fixed path, by method and path as they are in the request line."""
        for route in app.router.routes():
            if isinstance(route.resource, web.PlainResource):
                self.fixed.setdefault((route.method, route.resource.canonical), _found(app, route))

    def handler_of(self, request: web.Request) -> Handler:
        """The handler of a request, which then knows its route.

        A target with a query, in another spelling or of no route goes through the application. So does a request with
        an Expect header, which the application answers with 100 before it calls the handler.
        """
        found = self.fixed.get((request.method, request.raw_path))
        if found is None or hdrs.EXPECT in request.headers:
            return self._application
        request._match_info, handler = found
        return handler


def _found(app: web.Application, route: web.AbstractRoute) -> _Found:
    match_info = web.UrlMappingMatchInfo({}, route)
    match_info.add_app(app)
    match_info.freeze()
    handler = route.handler
    for middleware in reversed(app.middlewares):
        handler = partial(middleware, handler=handler)
    return _Found(match_info, handler)
