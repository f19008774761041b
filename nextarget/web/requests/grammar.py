"""Checks that a request is well-formed, byte for byte, before any other code reads it.

If a parser accepts more than the RFC allows, a proxy may read the same bytes in another way, and so check something
else than what we use. aiohttp's parser already refuses control characters, folded lines, white space before a colon,
names that are not tokens, a repeated Host, Content-Type or Content-Length, and a Content-Length together with a
Transfer-Encoding. This module refuses what aiohttp accepts wrongly.
"""

import re

from aiohttp import HttpVersion10, HttpVersion11, web

OWS = " \t"
"""White space in HTTP (RFC 9110, 5.6.3). Python's `strip()` removes more characters."""

MAX_FIELD_BYTES = 8 * 1024
"""Name and value of a header field together. The parser accepts larger ones, so that we can answer them ourselves."""
COOKIES_TOO_LARGE = "cookies too large"
FIELD_TOO_LARGE = "header field too large"
_STATIC = "/static/"
"""Files of pages. Large cookies are accepted here: the page that reports them needs its style sheet."""

_TEXT = frozenset(
    {
        *(b"accept", b"accept-language", b"expect"),
        *(b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"),
        *(b"sec-purpose", b"purpose", b"x-purpose", b"x-moz"),
    }
)
_ONCE = frozenset(
    {
        *(b"origin", b"access-control-request-method", b"access-control-request-headers"),
        *(b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"),
        *(b"if-modified-since", b"if-unmodified-since", b"if-range", b"range"),
    }
)
_FORMS = {
    # RFC 3986, 3.2.2 and 3.2.3: a name or an address, perhaps a port, but no user.
    b"host": re.compile(rb"(?:\[[0-9A-Za-z.:_~!$&'()*+,;=-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?"),
    b"transfer-encoding": re.compile(rb"chunked", re.I),  # we decode no other coding
    b"content-encoding": re.compile(rb"gzip|deflate|br|zstd|identity", re.I),
}
_READ = _TEXT | _ONCE | _FORMS.keys()
"""Header fields that the server uses. `_TEXT` are lists and texts that may come several times. `_ONCE` may come once,
because the code that reads them takes the first one. `_FORMS` may come once and must match a pattern. All of them must
be ASCII, because Python's `strip`, `lower`, `int` and `\\d` accept other Unicode characters too.

Other header fields may have any value (RFC 9110, 5.5). `Authorization`, `Cookie` and `Content-Type` are checked by the
code that reads them."""


def flaw(request: web.BaseRequest) -> str | None:
    """What is wrong with a request, for the log; None if it is well-formed. The text never quotes the request."""
    large: str | None = None
    if request.version not in (HttpVersion11, HttpVersion10):
        return "version"  # RFC 9110, 2.5: another major version is another protocol
    if "#" in request.raw_path:
        return "fragment"  # RFC 9112, 3.2: a target has no fragment, and some servers treat it as part of the path
    once: tuple[bytes, ...] = ()  # a set takes longer to make, and there are few
    for spelling, value in request.raw_headers:
        name = spelling.lower()
        if len(name) + len(value) > MAX_FIELD_BYTES:
            large = COOKIES_TOO_LARGE if name == b"cookie" else FIELD_TOO_LARGE
        if name not in _READ:
            continue
        form = _FORMS.get(name)
        if name in once or not (form.fullmatch(value) if form else value.isascii()):
            return name.decode()
        if name not in _TEXT:
            once += (name,)
    return None if large is None or request.raw_path.startswith(_STATIC) else large
