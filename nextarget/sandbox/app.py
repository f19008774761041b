"""Adds the sandbox to a server: its home page, its style sheet and the stand-in providers."""

import shlex
import time
from datetime import UTC, datetime

from aiohttp import web

from nextarget.model import Provider
from nextarget.registry import PROVIDERS, display_name, display_names
from nextarget.sandbox.guard import guard
from nextarget.sandbox.rendering import has_mark_style, page, style_sheet
from nextarget.sandbox.standins.base import StandIn
from nextarget.sandbox.standins.grants import Clock
from nextarget.sandbox.workspace import SandboxConfig

_PROFILE_ROWS = (
    ("Email", "email"),
    ("Email verified", "email_verified"),
    ("Provider", "provider"),
    ("Active", "is_active"),
    ("User since", "created_at"),
    ("User id", "id"),
)


def attach(app: web.Application, config: SandboxConfig, *, now: Clock = time.time) -> None:
    """Add all routes of the sandbox, also `/`, and the guard as a middleware for all routes of the server.

    `now` returns seconds since 1970. Codes and tokens are in the memory of this process, so a sandbox has only one
    worker.
    """
    app.middlewares.append(guard)
    stand_ins: dict[Provider, StandIn] = {
        provider: PROVIDERS[provider].stand_in()(client, now=now, slow_seconds=config.slow_seconds)
        for provider, client in config.clients.items()
    }
    for stand_in in stand_ins.values():
        stand_in.add_routes(app.router)
    styles = style_sheet()

    async def home(_request: web.Request) -> web.Response:
        providers = [(provider, display_name(provider), stand_in.sdk) for provider, stand_in in stand_ins.items()]
        styles = [provider for provider in stand_ins if has_mark_style(provider)]
        return page(
            "home.html",
            public_url=config.public_url,
            names=display_names(stand_ins),
            providers=providers,
            styles=styles,
        )

    async def style(_request: web.Request) -> web.Response:
        headers = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}
        return web.Response(text=styles, content_type="text/css", headers=headers)

    app.router.add_get("/", home, name="sandbox-home")
    app.router.add_get("/sandbox/style.css", style, name="sandbox-style")


def profile_page(profile: dict[str, object], access_token: str, public_url: str) -> web.Response:
    """The page after a sign-in in the browser: the answer of `GET /users/me`, and the access token."""
    command = f"curl -H {shlex.quote(f'Authorization: Bearer {access_token}')} {shlex.quote(public_url)}/users/me"
    return page(
        "profile.html",
        rows=[(label, _shown(key, profile.get(key))) for label, key in _PROFILE_ROWS],
        provider=str(profile.get("provider") or next(iter(PROVIDERS))),
        access_token=access_token,
        command=command,
    )


def _shown(key: str, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "created_at":
        moment = datetime.fromisoformat(str(value)).astimezone(UTC)
        return f"{moment.day} {moment:%B %Y, %H:%M} UTC"
    return display_name(Provider(str(value))) if key == "provider" else str(value)
