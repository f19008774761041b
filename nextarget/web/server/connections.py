"""One connection: what its client may keep it waiting for, and for how long, and how much memory that may take.

aiohttp by itself gives a client all the time it likes for a header, and for taking an answer; it quotes a malformed
request in its answer and in its log. A server looks at all of its connections every LOOK_SECONDS, which costs a
request nothing.
"""

import asyncio
import socket
import sys
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from nextarget import telemetry
from nextarget.errors import HeaderFieldsTooLarge, InternalError, InvalidRequest, ProblemError
from nextarget.telemetry import metrics
from nextarget.web.problems import fixed_answer
from nextarget.web.requests import parameters

if TYPE_CHECKING:
    from nextarget.web.server.accepting import GuardedServer

HEADER_SECONDS = 10
"""How long a header may take from its first byte; a new connection's, from the connection on."""
ANSWER_SECONDS = 30
"""How long a client may take nothing of an answer. Whatever it takes begins the time anew."""
KEEPALIVE_SECONDS = 75
"""How long a connection stays open between an answer and the next request."""
LOOK_SECONDS = 1
MAX_HEADER_BYTES = 64 * 1024
"""Of one header in all, as far as it has come in more than one piece: aiohttp bounds each field, and how many."""
MAX_READ_FIELD_BYTES = 56 * 1024
"""Of one field. The boundary refuses much less, and knows by then whether a person asks; above, nobody does."""
MAX_PIPELINED = 8
"""So many requests may wait behind the one that is answered before no more is read; of one piece, aiohttp's 32."""

_BYTES_ACKED = slice(120, 128)
"""Where Linux keeps `tcpi_bytes_acked` in its `struct tcp_info`."""

log = telemetry.get_logger()


class Wait(StrEnum):
    """What a connection waits for its client to do."""

    ANSWER = "answer"
    """To take what was answered."""
    BODY = "body"
    """To send the rest of a body."""
    HEADER = "header"
    """To send the rest of a header, or the first one."""
    IDLE = "idle"
    """To send another request, if it likes."""

    @property
    def seconds(self) -> float:
        match self:
            case Wait.ANSWER:
                return ANSWER_SECONDS
            case Wait.BODY:
                return parameters.BODY_SECONDS
            case Wait.HEADER:
                return HEADER_SECONDS
            case Wait.IDLE:
                return KEEPALIVE_SECONDS


Cut = Wait | Literal["room"]
"""Why a connection is closed; `room` makes room for another."""


class GuardedConnection(RequestHandler):
    """A connection that echoes nothing and waits for nothing for ever."""

    def __init__(self, server: "GuardedServer", **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._server: Final = server
        self._max_msg_queue_size, self._msg_queue_resume_size = MAX_PIPELINED, MAX_PIPELINED // 2
        self.made = False
        self._last_body: StreamReader = EMPTY_PAYLOAD
        self.header_bytes = 0
        """What has come of a header that is not complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._line = cast(asyncio.Transport, transport)  # aiohttp forgets its own when it closes it, sent or not
        self._waits_for: tuple[Wait, int] | None = (Wait.HEADER, 0)
        self.waits_since = self._loop.time()
        self._answering_since: float | None = None
        self.made = True
        self._server.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Notice where a header begins and ends, as far as that can be told from outside of the parser: one that begins
        behind a body, in the same piece, is noticed with its next piece."""
        count, is_body = self._request_count, not self._last_body.is_eof()
        super().data_received(data)
        if self._request_count != count:
            self._last_body = self._messages[-1][1]
            another_begins = self._last_body is EMPTY_PAYLOAD and data and not data.endswith(b"\r\n\r\n")
            self.header_bytes = 1 if another_begins else 0
        elif not is_body and (
            self.header_bytes or data.strip(b"\r\n")
        ):  # RFC 9112, 2.2: empty lines before it are none
            self.header_bytes += len(data)
            if self.header_bytes > MAX_HEADER_BYTES:
                self.cut(Wait.HEADER)

    @property
    def busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self._request_in_progress or bool(self._messages)

    @property
    def spare_since(self) -> float:
        """Since when it may be closed where others need its place: nothing is lost but a connection, or it has had
        ANSWER_SECONDS to take an answer, however little it takes at a time. Infinity while it may not."""
        if self._answering_since is not None:
            return self._answering_since + ANSWER_SECONDS
        return inf if self._waits_for is None or self.busy else self.waits_since

    def look(self, now: float) -> None:
        """Close it if its client has kept it waiting for too long. What is waited for is seen when it is looked at, so
        that it counts from the look before at the earliest."""
        waits_for = self._what_is_due()
        if waits_for is None or waits_for[0] is not Wait.ANSWER:
            self._answering_since = None
        elif self._answering_since is None:
            self._answering_since = now
        if waits_for != self._waits_for:
            self._waits_for, self.waits_since = waits_for, now
        elif waits_for is not None and now - self.waits_since >= waits_for[0].seconds:
            wait = waits_for[0]
            if not (wait is Wait.BODY and self.busy):  # who reads it has a time limit, and an answer for the client
                self.cut(wait)

    def _what_is_due(self) -> tuple[Wait, int] | None:
        """What the client is to do, with a number that is another one when it has done some of it."""
        if unsent := self._line.get_write_buffer_size():
            return Wait.ANSWER, _taken(self._line, unsent)
        if not self._last_body.is_eof():
            return Wait.BODY, self._request_count
        if self.busy:
            return None
        begun = self.header_bytes or not self._request_count
        return Wait.HEADER if begun else Wait.IDLE, self._request_count

    def cut(self, why: Cut) -> None:
        """Close it, and tell so in the metrics. Of an answer that is not taken nothing is kept."""
        if why is not Wait.IDLE:
            metrics.count_connection_cut(why)
        if self._answering_since is not None:
            self._line.abort()
        self.force_close()

    def _process_keepalive(self) -> None:
        """aiohttp's own timer, which would not notice that a header has begun; `look` does this."""
        self._keepalive_handle = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what failed outside the application, a malformed request above all, with a fixed document."""
        malformed = status < 500
        error: ProblemError = InvalidRequest() if malformed else InternalError()
        if isinstance(exc, LineTooLong) and exc.args[1] == MAX_READ_FIELD_BYTES:
            error = HeaderFieldsTooLarge()
        response = fixed_answer(error, https_only=self._server.terms.https_only)
        if malformed:
            metrics.count_malformed()
            log.info("malformed_request", status=error.status, reason=type(exc).__name__)
        else:
            log.error("unforeseen_error", status=status, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """aiohttp's own words may quote the request. A body that cannot be decoded has been answered already."""
        error = kwargs.get("exc_info")
        if not isinstance(error, web.RequestPayloadError):
            log.error("connection_error", exc_info=error)


def _taken(line: asyncio.Transport, unsent: int) -> int:
    """A number that is another one when the client has taken something: the bytes that its machine has acknowledged.

    What is left in our buffer does not tell: the system takes of it in large pieces, minutes apart if a client is slow.
    Where the system does not know (it is not Linux), that is all there is.
    """
    try:
        info = line.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.stop)
    except (AttributeError, OSError, ValueError):  # unknown here; or the connection is going
        return -unsent
    return int.from_bytes(info[_BYTES_ACKED], sys.byteorder) or -unsent
