"""The cookie that ties a login to the browser that began it, so that nobody finishes a login begun elsewhere.

Each login has a cookie of its own, named after its state, so that two tabs do not disturb each other. Its value is
sealed: what an app asked for travels in it. Cookies are read from the raw header: aiohttp's parser takes other names
for ours, such as one that begins with a Unicode space, which any subdomain of the site may set.
"""

import re
from collections.abc import Iterator

from aiohttp import hdrs, web

from nextarget.errors import InvalidRequest
from nextarget.tokens.encoding import digest

COOKIE_SECONDS = 3600
"""Longer than a login lives, so that somebody who comes back late is recognised."""
MAX_COOKIE_BYTES = 4096
"""Of a cookie's name and value together, all that browsers have to keep (RFC 6265, 6.1)."""
MAX_LOGIN_COOKIES_BYTES = 6 * 1024
"""Of the names and values of all begun logins of one browser; more would overflow the limit on header fields, with what
else this host has set, and lock the person out."""

_NAME = b"nextarget-login-"
_VALUE = re.compile(rb"(?P<sealed>[A-Za-z0-9_-]+)(?:\.(?P<language>[a-z]{2,3}))?")
"""Behind what is sealed, the language that the login's pages speak, if the app chose one: any may be written there."""


def _prefix(*, secure: bool) -> bytes:
    """`__Host-` makes browsers insist on https, this host alone and Path=/ (RFC 6265bis, 4.1.3.2)."""
    return b"__Host-" + _NAME if secure else _NAME


def _name(state: str, *, secure: bool) -> bytes:
    return _prefix(secure=secure) + digest(state)[:16].encode()


def set_login_cookie(
    request: web.Request, response: web.Response, state: str, sealed: str, *, language: str | None, secure: bool
) -> None:
    """Bind a login to the browser; its oldest logins make room. Raises InvalidRequest for what does not fit."""
    name = _name(state, secure=secure)
    value = f"{sealed}.{language}" if language else sealed
    size = len(name) + len(value)
    if size > MAX_COOKIE_BYTES:
        raise InvalidRequest("What the app asks for does not fit into a cookie. Shorten state or redirect_uri.")
    ours = re.compile(re.escape(_prefix(secure=secure)) + rb"[0-9a-f]{16}")
    held = [(other, len(other) + len(text)) for other, text in _cookies(request) if ours.fullmatch(other)]
    room = MAX_LOGIN_COOKIES_BYTES - size - sum(bytes_held for _, bytes_held in held)
    for oldest, bytes_held in held:  # browsers send the oldest first (RFC 6265, 5.4)
        if room >= 0:
            break
        response.del_cookie(oldest.decode(), path="/", secure=secure, httponly=True, samesite="Lax")
        room += bytes_held
    response.set_cookie(
        name.decode(), value, max_age=COOKIE_SECONDS, path="/", secure=secure, httponly=True, samesite="Lax"
    )


def absence(request: web.Request, state: str, *, secure: bool) -> str:
    """Why there is no cookie of this login's that counts, for the log."""
    name = _name(state, secure=secure)
    cookies = list(_cookies(request))
    values = [value for other, value in cookies if other == name]
    if values:
        return "cookie came twice" if len(values) > 1 else "cookie malformed"
    others = sum(1 for other, _ in cookies if other.startswith(_prefix(secure=secure)))
    return f"cookie missing, though {others} of other logins came" if others else "cookie missing"


def login_cookie(request: web.Request, state: str, *, secure: bool) -> str | None:
    """What is sealed in this login's cookie, if this browser holds it, and one of that name alone."""
    found = _held(request, state, secure=secure)
    return found["sealed"].decode() if found else None


def login_language(request: web.Request, state: str, *, secure: bool) -> str | None:
    """The language that this login's pages speak, if its cookie says so."""
    found = _held(request, state, secure=secure)
    return found["language"].decode() if found and found["language"] else None


def _held(request: web.Request, state: str, *, secure: bool) -> re.Match[bytes] | None:
    name = _name(state, secure=secure)
    values = [value for other, value in _cookies(request) if other == name]
    return _VALUE.fullmatch(values[0]) if len(values) == 1 else None


def _cookies(request: web.Request) -> Iterator[tuple[bytes, bytes]]:
    """Name and value of each cookie, as they were sent (RFC 6265, 4.2.1): nothing is decoded or trimmed but the space
    behind a semicolon."""
    for field, header in request.raw_headers:
        if field.lower() == _COOKIE:
            for pair in header.split(b";"):
                name, _, value = pair.removeprefix(b" ").partition(b"=")
                yield name, value


_COOKIE = hdrs.COOKIE.lower().encode()
