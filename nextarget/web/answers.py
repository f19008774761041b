"""Answers with JSON, which are sent with as little work as possible."""

from collections.abc import Mapping
from typing import cast

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import StreamWriter

SECURITY_HEADERS = {
    "Server": "nextarget",  # aiohttp would name itself, Python and their versions
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",  # CORS requests are not affected
    "X-Content-Type-Options": "nosniff",
}
"""Every answer has these headers, unless it sets a header of the same name itself."""

JSON_TYPE, PROBLEM_TYPE = "application/json", "application/problem+json"


class JsonResponse(web.Response):
    """An answer with JSON. It has the security headers, and no header of its own replaces one of them.

    aiohttp prepares a response in nine asynchronous steps, because it may be compressed or chunked, or have cookies.
    For this one they are left out, unless the request or the connection is special. The headers that all these answers
    have are text that was put together once; `headers` has the other ones.
    """

    def __init__(self, body: bytes, *, status: int = 200, content_type: str = JSON_TYPE) -> None:
        web.StreamResponse.__init__(self, status=status)  # `Response` would look for a type, a charset and a payload
        self._json = self._body = body
        self._type = content_type

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the whole answer."""
        closes = self.keep_alive is False or not request.keep_alive
        special = closes or request.version != HttpVersion11 or request.method == hdrs.METH_HEAD or self._cookies
        if special or self.prepared:
            self.headers.update(_common_headers(self._type))
            return await super().prepare(request)
        await request._prepare_hook(self)
        writer, body = cast(StreamWriter, request.writer), self._json
        head = (
            f"HTTP/1.1 {self.status} {self.reason}\r\n{_COMMON[self._type]}"
            f"Content-Length: {len(body)}\r\nDate: {rfc822_formatted_time()}\r\n"
        )
        # Without `write`, which would ask for a compressor, a length, a chunk's size and buffered headers.
        writer._write(f"{head}{_written(self.headers)}\r\n".encode() + body)
        if request.protocol.writing_paused:  # the client does not read: its next request has to wait
            await writer.drain()
        self._keep_alive = self._eof_sent = True
        return writer


def _common_headers(content_type: str) -> dict[str, str]:
    return SECURITY_HEADERS | {hdrs.CONTENT_TYPE: content_type}


def _written(headers: Mapping[str, str]) -> str:
    """Header fields as text (RFC 9112, 5). Raises ValueError for a character that could begin another field."""
    text = ""
    for name, value in headers.items():
        if not value.isprintable():
            raise ValueError("a header with a control character")
        text += f"{name}: {value}\r\n"
    return text


_COMMON = {each: _written(_common_headers(each)) for each in (JSON_TYPE, PROBLEM_TYPE)}
