"""The keys under which handlers find the objects that the application was built with."""

from aiohttp import web

from nextarget.runtime import Online, Runtime
from nextarget.sandbox.workspace import SandboxConfig

RUNTIME = web.AppKey("runtime", Runtime)
ONLINE = web.AppKey("online", Online)
SANDBOX = web.AppKey("sandbox", SandboxConfig)
"""Present only in the sandbox."""
