"""Builds the application: its routes, and the resources and tasks that start and stop with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web

from nextarget.runtime import Runtime
from nextarget.services.purging import purge_for_ever
from nextarget.web.app_keys import ONLINE, RUNTIME, SANDBOX
from nextarget.web.rate_limits import LIMITS, Quotas, RateLimits
from nextarget.web.requests.parameters import MAX_BODY_BYTES
from nextarget.web.routes import (
    account,
    app_links,
    auth,
    authorize,
    documents,
    events,
    health,
    metadata,
    metrics,
    removals,
    token,
    users,
)
from nextarget.web.server.readiness import READINESS, Readiness

if TYPE_CHECKING:  # the sandbox is imported only where it is served
    from nextarget.sandbox.workspace import SandboxConfig


def create_app(runtime: Runtime, sandbox: "SandboxConfig | None" = None) -> web.Application:
    """The application for a runtime. With `sandbox`, it serves the stand-in providers too."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[RUNTIME] = runtime
    app[READINESS] = Readiness(runtime.database)
    settings = runtime.settings
    if settings.rate_limit_enabled:
        seed = runtime.keyring.current.derive("rate limits")
        app[LIMITS] = RateLimits(
            settings.rate_limit_storage_url,
            settings.trusted_proxies,
            header=settings.trusted_proxy_header,
            seed=seed,
            quotas=Quotas(settings.rate_limit_begin, settings.rate_limit_finish, settings.rate_limit_refresh),
        )
    groups = (health, auth, authorize, token, account, removals, events, metadata, app_links, users, documents, metrics)
    for group in groups:
        group.add(app)
    if sandbox is not None:
        from nextarget.sandbox.app import attach

        app[SANDBOX] = sandbox
        attach(app, sandbox)
    if runtime.tracing is not None:
        from nextarget.web.tracing import follow

        follow(app, runtime.tracing)
    if settings.cors_allow_origins:
        from nextarget.web import cors

        cors.open_to(app, settings.cors_allow_origins)
    app.cleanup_ctx.extend((_online, _in_the_background))
    return app


async def _in_the_background(app: web.Application) -> AsyncIterator[None]:
    runtime = app[RUNTIME]
    days = runtime.settings.audit_retention_days
    works = purge_for_ever(runtime.database, clock=runtime.clock, audit_days=days), app[READINESS].watch_for_ever()
    tasks = [asyncio.create_task(work) for work in works]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _online(app: web.Application) -> AsyncIterator[None]:
    async with app[RUNTIME].online() as online:
        app[ONLINE] = online
        yield
        app[READINESS].close()
    if LIMITS in app:
        await app[LIMITS].close()
