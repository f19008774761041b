"""Faults that do not depend on the protocol: late, broken or missing answers. All stand-ins share them."""

import asyncio
from collections.abc import Mapping
from math import ceil

from aiohttp import web

from nextarget.sandbox.people import Fault

BUSY_SECONDS = 120
_STEP_SECONDS = 0.25
_NOT_JSON = "<!doctype html><title>Sorry</title><p>We are doing some maintenance. Please come back later."


async def mishap(
    request: web.Request, fault: Fault | None, *, slow_seconds: float, error_body: Mapping[str, object]
) -> web.Response | None:
    """Apply the fault. Returns the answer to send instead of the real one, or None to send the real one."""
    if fault is Fault.SLOW:
        await _wait(request, slow_seconds)
    elif fault is Fault.ERROR_500:
        return web.json_response(error_body, status=500)
    elif fault is Fault.BUSY:
        return web.json_response(error_body, status=503, headers={"Retry-After": str(BUSY_SECONDS)})
    elif fault is Fault.HTML:
        return web.Response(text=_NOT_JSON, content_type="text/html")
    elif fault is Fault.DISCONNECT:
        if request.transport is not None:
            request.transport.close()
        return web.Response()
    return None


async def _wait(request: web.Request, seconds: float) -> None:
    """Wait in small steps, so that a client that has disconnected does not delay a shutdown."""
    steps = ceil(seconds / _STEP_SECONDS)
    for _ in range(steps):
        if request.transport is None or request.transport.is_closing():
            return
        await asyncio.sleep(seconds / steps)
