"""Builds the application: routes, the boundary around them, and what opens and closes with it."""

from collections.abc import AsyncIterator

from aiohttp import web

from nextarget.runtime import Runtime
from nextarget.sandbox.app import attach
from nextarget.sandbox.workspace import SandboxConfig
from nextarget.web.keys import RUNTIME, SANDBOX, SIGN_IN
from nextarget.web.middleware import MAX_BODY_BYTES, boundary, finish_headers
from nextarget.web.routes import auth, documents, health, users


def create_app(runtime: Runtime, sandbox: SandboxConfig | None = None) -> web.Application:
    """The whole server for a runtime; with the stand-in providers mounted when `sandbox` is given."""
    app = web.Application(middlewares=[boundary], client_max_size=MAX_BODY_BYTES)
    app[RUNTIME] = runtime
    for group in (health, auth, users, documents):
        group.add(app)
    if sandbox is not None:
        app[SANDBOX] = sandbox
        attach(app, sandbox)
    app.on_response_prepare.append(finish_headers)
    app.cleanup_ctx.append(_online)
    return app


async def _online(app: web.Application) -> AsyncIterator[None]:
    async with app[RUNTIME].online() as sign_in:
        app[SIGN_IN] = sign_in
        yield
