"""Metrics for Prometheus. This machine and the addresses in METRICS_ALLOW may read them.

A request without a sign of a proxy is judged by the address of its connection. Behind a proxy on this machine, every
connection comes from a loopback address, so a request through a proxy is never local. It is judged by the client's
address that a trusted proxy reports, which must be in METRICS_ALLOW. Signs of a proxy are its headers, or our public
name in the Host header. Prometheus on this machine sends neither.
"""

import asyncio
import re

from aiohttp import hdrs, web

from nextarget.errors import MetricsForbidden
from nextarget.settings import Network, ProxyHeader, is_loopback, metrics_folder
from nextarget.telemetry import flush
from nextarget.telemetry import metrics as collected
from nextarget.web.app_keys import RUNTIME
from nextarget.web.requests.client_address import address_of, client_address, hops, in_any

_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]+)?")


def add(app: web.Application) -> None:
    app.router.add_get("/metrics", metrics, name="metrics")


async def metrics(request: web.Request) -> web.Response:
    """Answer in Prometheus' text format. A thread collects the metrics, because with several workers it reads files."""
    settings = request.app[RUNTIME].settings
    if not may_read(request, settings.metrics_allow, settings.trusted_proxies, settings.trusted_proxy_header):
        raise MetricsForbidden
    flush()
    body = await asyncio.to_thread(collected.exposition, metrics_folder())
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: collected.CONTENT_TYPE})


def may_read(
    request: web.BaseRequest,
    allow: tuple[Network, ...],
    trusted: tuple[Network, ...],
    header: ProxyHeader = "X-Forwarded-For",
) -> bool:
    """Whether the sender of this request may read the metrics. A request whose client is uncertain is refused."""
    peer = address_of(request.remote or "")
    if peer is None:
        return False
    if not any(name in request.headers for name in _PROXY_HEADERS):
        local = peer.is_loopback and is_loopback(_host_name(request))
        return local or in_any(peer, allow)
    named = list(hops(request, header))
    if not in_any(peer, trusted) or not named or None in named:
        return False
    client = client_address(request, trusted, header)
    return client is not None and in_any(client, allow)


def _host_name(request: web.BaseRequest) -> str | None:
    """The host name of the Host header, without its port; None if there is not exactly one Host header.

    Also None if the request's target is a whole URL, which would replace the Host header (RFC 9112, 3.2.2). Prometheus
    on this machine does not send one.
    """
    hosts = request.headers.getall(hdrs.HOST, [])
    if len(hosts) != 1 or not request.raw_path.startswith("/"):
        return None
    found = _HOST.fullmatch(hosts[0])
    return found["name"] or found["address"] if found else None
