"""Finds the handler of a request: in a dictionary if the route's path is fixed, by aiohttp's application otherwise.

aiohttp's application resolves every request anew, and then makes objects for its result. For a route whose path has no
variable part, or only the name of a provider, the result is the same for every path, so it is made once.
"""

from functools import partial
from typing import NamedTuple

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from nextarget.registry import PROVIDERS


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
            for path, variables in _paths_of(route.resource):
                self.fixed.setdefault((route.method, path), _found(app, route, variables))

    def handler_of(self, request: web.Request) -> Handler:
        """The handler of a request, which then knows its route.

        A target in another spelling or of no route goes through the application. So does a request with an Expect
        header, which the application answers with 100 before it calls the handler.
        """
        path, _, _ = request.raw_path.partition("?")
        found = self.fixed.get((request.method, path))
        if found is None or hdrs.EXPECT in request.headers:
            return self._application
        request._match_info, handler = found
        return handler


def _paths_of(resource: web.AbstractResource | None) -> list[tuple[str, dict[str, str]]]:
    """The paths that a resource may have, with their variables. None for a resource with another variable."""
    if isinstance(resource, web.PlainResource):
        return [(resource.canonical, {})]
    if not isinstance(resource, web.DynamicResource) or resource.canonical.count("{") != 1:
        return []
    paths = (resource.canonical.replace("{provider}", name) for name in PROVIDERS)
    return [(path, variables) for path in paths if (variables := resource._match(path)) is not None]


def _found(app: web.Application, route: web.AbstractRoute, variables: dict[str, str]) -> _Found:
    match_info = web.UrlMappingMatchInfo(variables, route)
    match_info.add_app(app)
    match_info.freeze()
    handler = route.handler
    for middleware in reversed(app.middlewares):
        handler = partial(middleware, handler=handler)
    return _Found(match_info, handler)
