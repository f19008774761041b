"""The keys under which handlers find the objects that the application was built with."""

from typing import TYPE_CHECKING

from aiohttp import web

from nextarget.runtime import Online, Runtime

if TYPE_CHECKING:
    from nextarget.sandbox.workspace import SandboxConfig

RUNTIME = web.AppKey("runtime", Runtime)
ONLINE = web.AppKey("online", Online)
SANDBOX: "web.AppKey[SandboxConfig]" = web.AppKey("sandbox")
"""Present only in the sandbox."""
