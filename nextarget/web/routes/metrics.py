"""Metrics for Prometheus, and who may read them: this machine, and the addresses in METRICS_ALLOW.

The address is that of the connection. Behind a proxy on this machine the whole world connects from a loopback address,
so a request that came through a proxy is never local: it counts by its client's address, as a trusted proxy tells it,
and that address must be in METRICS_ALLOW. What a proxy leaves in a request is a header of its own, or the name that
the world knows us by; Prometheus on this machine sends neither.
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
    """In a thread: with several workers it reads some files of each."""
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
    """Whether the metrics are for whoever sent this request. What cannot be told for certain is refused."""
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
    """The name in the one Host header, without its port. A target that is a whole URL names the host instead (RFC 9112,
    3.2.2), and no program on this machine sends one."""
    hosts = request.headers.getall(hdrs.HOST, [])
    if len(hosts) != 1 or not request.raw_path.startswith("/"):
        return None
    found = _HOST.fullmatch(hosts[0])
    return found["name"] or found["address"] if found else None
