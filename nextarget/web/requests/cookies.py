"""The cookie that binds a login to the browser that began it, so that no other browser can finish the login, and the
cookie of a visit of the account page.

A login has its own cookie, named after its state, so that two tabs do not disturb each other. The value is encrypted
and contains what the app asked for. Cookies are read from the raw header, because aiohttp's parser strips Unicode white
space: it would accept a name that begins with a Unicode space as ours, and any subdomain of the site can set such a
cookie.
"""

import re
from collections.abc import Iterator, Mapping

from aiohttp import hdrs, web

from nextarget.errors import InvalidRequest
from nextarget.tokens import visits
from nextarget.tokens.encoding import digest

COOKIE_SECONDS = 3600
"""Longer than a login is valid, so that a person who comes back late is recognised."""
MAX_COOKIE_BYTES = 4096
"""Name and value of a cookie together. Browsers need not keep a larger one (RFC 6265, 6.1)."""
MAX_LOGIN_COOKIES_BYTES = 6 * 1024
"""Names and values of all login cookies of one browser together. With more, and with the other cookies of this host,
the Cookie header could exceed its limit, and the person could no longer sign in."""

_HOST_ONLY = b"__Host-"
_NAME = b"nextarget-login-"
_VISIT_NAME = b"nextarget-account"
_VISIT_VALUE = re.compile(rb"[A-Za-z0-9_.-]{1,%d}" % visits.MAX_LENGTH)
_VALUE = re.compile(rb"(?P<sealed>[A-Za-z0-9_-]+)(?:\.(?P<language>[a-z]{2,3}))?")
"""The encrypted part, then the language of the login's pages if the app chose one. The language is not encrypted."""


def _prefix(*, secure: bool) -> bytes:
    """Browsers accept a `__Host-` cookie only over https, for this host only and with Path=/ (RFC 6265bis, 4.1.3.2)."""
    return _HOST_ONLY + _NAME if secure else _NAME


def _name(state: str, *, secure: bool) -> bytes:
    return _prefix(secure=secure) + digest(state)[:16].encode()


def fit_together(logins: Mapping[str, str], *, language: str | None, secure: bool) -> bool:
    """Whether the cookies of these logins (state: encrypted part) are together no larger than one cookie may be. One
    answer sets no more, because proxies limit the size of an answer's header."""
    return _size(_values(logins, language=language, secure=secure)) <= MAX_COOKIE_BYTES


def set_login_cookies(
    request: web.Request, response: web.Response, logins: Mapping[str, str], *, language: str | None, secure: bool
) -> None:
    """Bind logins (state: encrypted part) to the browser. If its login cookies become too large together, delete the
    oldest ones.

    Raises InvalidRequest if the new cookies are too large.
    """
    values = _values(logins, language=language, secure=secure)
    size = _size(values)
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
    for name, value in values.items():
        response.set_cookie(
            name.decode(), value, max_age=COOKIE_SECONDS, path="/", secure=secure, httponly=True, samesite="Lax"
        )


def _values(logins: Mapping[str, str], *, language: str | None, secure: bool) -> dict[bytes, str]:
    suffix = f".{language}" if language else ""
    return {_name(state, secure=secure): sealed + suffix for state, sealed in logins.items()}


def _size(values: Mapping[bytes, str]) -> int:
    return sum(len(name) + len(value) for name, value in values.items())


def absence(request: web.Request, state: str, *, secure: bool) -> str:
    """Why the request has no valid cookie of this login, for the log."""
    name = _name(state, secure=secure)
    cookies = list(_cookies(request))
    values = [value for other, value in cookies if other == name]
    if values:
        return "cookie came twice" if len(values) > 1 else "cookie malformed"
    others = sum(1 for other, _ in cookies if other.startswith(_prefix(secure=secure)))
    return f"cookie missing, though {others} of other logins came" if others else "cookie missing"


def login_cookie(request: web.Request, state: str, *, secure: bool) -> str | None:
    """The encrypted part of this login's cookie. None if the cookie is missing, malformed or sent twice."""
    found = _match_cookie(request, state, secure=secure)
    return found["sealed"].decode() if found else None


def login_language(request: web.Request, state: str, *, secure: bool) -> str | None:
    """The language of this login's pages, if its cookie contains one."""
    found = _match_cookie(request, state, secure=secure)
    return found["language"].decode() if found and found["language"] else None


def visit_cookie(request: web.Request, *, secure: bool) -> str | None:
    """The value of the account page's cookie. None if the cookie is missing, malformed or sent twice."""
    values = [value for name, value in _cookies(request) if name == _visit_name(secure=secure)]
    return values[0].decode() if len(values) == 1 and _VISIT_VALUE.fullmatch(values[0]) else None


def set_visit_cookie(response: web.Response, value: str, *, seconds: int, secure: bool) -> None:
    """Begin a visit of the account page, or with an empty value, end it.

    The cookie is `Lax` and not `Strict`: the browser comes from the provider, through redirects, and would not send a
    strict cookie with that request. It does not send a lax one with a form of another site (RFC 6265bis, 5.2).
    """
    response.set_cookie(
        _visit_name(secure=secure).decode(),
        value,
        max_age=seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="Lax",
    )


def _visit_name(*, secure: bool) -> bytes:
    return _HOST_ONLY + _VISIT_NAME if secure else _VISIT_NAME


def _match_cookie(request: web.Request, state: str, *, secure: bool) -> re.Match[bytes] | None:
    name = _name(state, secure=secure)
    values = [value for other, value in _cookies(request) if other == name]
    return _VALUE.fullmatch(values[0]) if len(values) == 1 else None


def _cookies(request: web.Request) -> Iterator[tuple[bytes, bytes]]:
    """Names and values of all cookies, as they were sent (RFC 6265, 4.2.1).

    Only the space after a semicolon is removed. Nothing is decoded.
    """
    for field, header in request.raw_headers:
        if field.lower() == _COOKIE:
            for pair in header.split(b";"):
                name, _, value = pair.removeprefix(b" ").partition(b"=")
                yield name, value


_COOKIE = hdrs.COOKIE.lower().encode()
