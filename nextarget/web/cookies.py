"""The cookie that ties a login to the browser that began it, so that nobody finishes a login begun elsewhere.

Each login has a cookie of its own, named after its state, so that two tabs do not disturb each other.
"""

import re

from aiohttp import web

from nextarget.services.signin import LOGIN_SECONDS
from nextarget.tokens.encoding import digest

_NAME = "nextarget-login-"
_MAX_COOKIES = 8
"""Begun logins that one browser holds; more would overflow the limit on header fields and lock the person out."""


def _prefix(*, secure: bool) -> str:
    """`__Host-` makes browsers insist on https, this host alone and Path=/ (RFC 6265bis, 4.1.3.2)."""
    return f"__Host-{_NAME}" if secure else _NAME


def _name(state: str, *, secure: bool) -> str:
    return _prefix(secure=secure) + digest(state)[:16]


def set_login_cookie(request: web.Request, response: web.Response, state: str, value: str, *, secure: bool) -> None:
    ours = re.compile(re.escape(_prefix(secure=secure)) + r"[0-9a-f]{16}")
    held = [name for name in request.cookies if ours.fullmatch(name)]
    for name in held[: len(held) - _MAX_COOKIES + 1] if len(held) >= _MAX_COOKIES else ():
        _forget(response, name, secure=secure)  # browsers send the oldest first (RFC 6265, 5.4)
    response.set_cookie(
        _name(state, secure=secure),
        value,
        max_age=LOGIN_SECONDS,
        path="/",
        secure=secure,
        httponly=True,
        samesite="Lax",
    )


def login_cookie(request: web.Request, state: str, *, secure: bool) -> str | None:
    """The value of this login's cookie, if this browser holds it. Ours are ASCII; any other was never ours."""
    value = request.cookies.get(_name(state, secure=secure))
    return value if value is not None and value.isascii() else None


def drop_login_cookie(request: web.Request, response: web.StreamResponse, state: str, *, secure: bool) -> None:
    name = _name(state, secure=secure)
    if name in request.cookies:
        _forget(response, name, secure=secure)


def _forget(response: web.StreamResponse, name: str, *, secure: bool) -> None:
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Lax")
