"""Where handlers find what the application was built with."""

from aiohttp import web

from nextarget.runtime import Runtime
from nextarget.sandbox.workspace import SandboxConfig
from nextarget.services.signin import SignIn

RUNTIME = web.AppKey("runtime", Runtime)
SIGN_IN = web.AppKey("sign_in", SignIn)
SANDBOX = web.AppKey("sandbox", SandboxConfig)
"""Present only in the sandbox."""
