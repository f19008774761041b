"""A complete answer, which is sent with as little work as possible."""

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time


class CompleteResponse(web.Response):
    """An answer with a body of bytes.

    aiohttp prepares a response in nine asynchronous steps, because it may be compressed or chunked, or have cookies.
    For this one they are left out, unless the request or the connection is special.
    """

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the whole answer."""
        closes = self.keep_alive is False or not request.keep_alive
        special = closes or request.version != HttpVersion11 or request.method == hdrs.METH_HEAD or self._cookies
        if special or self.prepared or not isinstance(self.body, bytes):
            return await super().prepare(request)
        headers = self.headers
        headers[hdrs.CONTENT_LENGTH] = str(len(self.body))
        headers[hdrs.DATE] = rfc822_formatted_time()
        await request._prepare_hook(self)
        writer = request.writer
        await writer.write_headers(f"HTTP/1.1 {self.status} {self.reason}", headers)
        await writer.write_eof(self.body)
        self._keep_alive = self._eof_sent = True
        return writer
