"""What a request must be, byte for byte, before anything reads it.

Where one parser is kinder than the RFC, another one in front of it reads the same bytes differently, and what was
checked there is not what counts here. aiohttp's parser refuses most of it by itself: control characters, folded lines,
white space before a colon, names that are no tokens, a doubled Host, Content-Type or Content-Length, a Content-Length
beside a Transfer-Encoding. What it lets pass is refused here.
"""

import re

from aiohttp import HttpVersion10, HttpVersion11, web

OWS = " \t"
"""White space of HTTP (RFC 9110, 5.6.3); Python's `strip()` knows more."""

MAX_FIELD_BYTES = 8 * 1024
"""Of a header field, name and value. The parser reads more, so that what is too large has an answer of ours."""
COOKIES_TOO_LARGE = "cookies too large"
FIELD_TOO_LARGE = "header field too large"
_STATIC = "/static/"
"""What a page is made of: it reads no header, and the page that tells of large cookies needs its style sheet."""

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
    # RFC 3986, 3.2.2 and 3.2.3: a name or an address, and a port, but no user.
    b"host": re.compile(rb"(?:\[[0-9A-Za-z.:_~!$&'()*+,;=-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?"),
    b"transfer-encoding": re.compile(rb"chunked", re.I),  # no other is ever undone
    b"content-encoding": re.compile(rb"gzip|deflate|br|zstd|identity", re.I),
}
_READ = _TEXT | _ONCE | _FORMS.keys()
"""Header fields that mean something here: lists and texts; texts that come once, of which whoever reads them would
take the first; those of a stricter form, once. None has a place for bytes beyond ASCII, which Python's `strip`,
`lower`, `int` and `\\d` read too kindly. The others may hold what they like (RFC 9110, 5.5); `Authorization`, `Cookie`
and `Content-Type` are judged where they are read, if they are."""


def flaw(request: web.BaseRequest) -> str | None:
    """What is wrong with a request, for the log; None when it is well-formed. It quotes nothing of the request."""
    large: str | None = None
    if request.version not in (HttpVersion11, HttpVersion10):
        return "version"  # RFC 9110, 2.5: another major version is another protocol
    if "#" in request.raw_path:
        return "fragment"  # RFC 9112, 3.2: a target has none, and some take it for a part of the path
    once: set[bytes] = set()
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
            once.add(name)
    return None if large is None or request.raw_path.startswith(_STATIC) else large
