"""One log line for each answer: method, route, status and time. Never the path as sent, which may hold anything."""

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from nextarget import telemetry

log = telemetry.get_logger()

ROUTE = web.RequestKey("route", str)
"""Where a request keeps the path pattern that it matched, such as /auth/{provider}/start; absent when none did."""


class AccessLog(AbstractAccessLogger):
    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """`time` is in seconds."""
        method = request.method if request.method in _METHODS else "other"
        log.info("request", method=method, route=request.get(ROUTE), status=response.status, ms=round(time * 1000, 2))


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""A method is whatever a client writes; only those of RFC 9110 and RFC 5789 are repeated in the log."""
