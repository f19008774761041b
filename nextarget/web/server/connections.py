"""One connection, with limits on the time that it waits for its client and on the memory that it uses.

aiohttp has no time limit for sending a header or for reading an answer, and it quotes a malformed request in its answer
and in its log. The server checks all of its connections once in CHECK_SECONDS, so a request pays nothing for timers.
"""

import asyncio
import socket
import sys
from contextlib import suppress
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import ERROR, RequestHandler, _ErrInfo

from nextarget import telemetry
from nextarget.errors import HeaderFieldsTooLarge, InternalError, InvalidRequest, ProblemError
from nextarget.ids import new_id
from nextarget.telemetry import metrics
from nextarget.web.problems import fixed_answer
from nextarget.web.requests import parameters

if TYPE_CHECKING:
    from nextarget.web.server.accepting import GuardedServer

HEADER_SECONDS = 10
"""How long a header may take from its first byte. For the first header, the time begins with the connection."""
ANSWER_SECONDS = 30
"""How long a client may go without reading any of an answer. Reading some of it restarts the time."""
KEEPALIVE_SECONDS = 75
"""How long a connection stays open between an answer and the next request."""
CHECK_SECONDS = 1
MAX_HEADER_BYTES = 64 * 1024
"""The whole header of a request that comes in several pieces. aiohttp limits only the size and number of its fields."""
MAX_READ_FIELD_BYTES = 56 * 1024
"""The parser's limit for one field. The boundary has a lower limit (MAX_FIELD_BYTES), and can answer a browser with a
page. A client that exceeds this limit is not a browser."""
MAX_PIPELINED = 8
"""The connection stops reading when this many pipelined requests wait. For requests in one piece of data, aiohttp's
limit of 32 applies."""

_BYTES_ACKED = slice(120, 128)
"""The position of `tcpi_bytes_acked` in Linux's `struct tcp_info`."""

log = telemetry.get_logger()


class Wait(StrEnum):
    """What a connection waits for. Every wait has a time limit."""

    ANSWER = "answer"
    """The client is to read the answer."""
    BODY = "body"
    """The client is to send the rest of a body."""
    HEADER = "header"
    """The client is to send the rest of a header, or the first header of the connection."""
    IDLE = "idle"
    """The client may send another request."""

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
"""Why a connection is closed; `room` is to make room for another connection."""


class GuardedConnection(RequestHandler):
    """A connection that never quotes a request, and has a time limit for everything that it waits for."""

    def __init__(self, server: "GuardedServer", **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._server: Final = server
        self._max_msg_queue_size, self._msg_queue_resume_size = MAX_PIPELINED, MAX_PIPELINED // 2
        self.made = False
        self._last_body: StreamReader = EMPTY_PAYLOAD
        self.header_bytes = 0
        """How many bytes of an incomplete header have come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._line = cast(asyncio.Transport, transport)  # aiohttp drops its reference on closing, even with unsent data
        self._waits_for: tuple[Wait, int] | None = (Wait.HEADER, 0)
        self.waits_since = self._loop.time()
        self._answering_since: float | None = None
        self.made = True
        self._server.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        body = self._last_body
        if not body.is_eof() and body.exception() is None:  # `_discard` would wait for the rest
            body.set_exception(ConnectionResetError("the client has disconnected"))
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Notice where a header begins and ends, as far as that is visible from outside of the parser.

        A header that begins after a body in the same piece of data is noticed with the next piece.
        """
        count, is_body = self._request_count, not self._last_body.is_eof()
        super().data_received(data)
        if self._request_count != count:
            self._last_body = self._messages[-1][1]
            another_begins = self._last_body is EMPTY_PAYLOAD and data and not data.endswith(b"\r\n\r\n")
            self.header_bytes = 1 if another_begins else 0
        elif not is_body and (
            self.header_bytes or data.strip(b"\r\n")
        ):  # RFC 9112, 2.2: empty lines before a request are ignored
            self.header_bytes += len(data)
            if self.header_bytes > MAX_HEADER_BYTES:
                self.cut(Wait.HEADER)

    async def start(self) -> None:
        """Answer the requests of this connection, one after another, in the connection's own task.

        aiohttp would start a task for every request and wait for it, which takes two turns of the event loop more.
        """
        goes_on = True
        while goes_on and not self._force_close:
            if self._messages:
                message, body = self._messages.popleft()
                self._read_on()
                goes_on = await self._answer(message, body)
                if self._messages:  # a client that pipelines takes turns with the others
                    await asyncio.sleep(0)
            else:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
        if not self._force_close:
            self._task_handler = None
            self._line.close()

    def _read_on(self) -> None:
        """Let the parser read another request, and the connection too if it had paused."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    async def _answer(self, message: RawRequestMessage | _ErrInfo, body: StreamReader) -> bool:
        """Answer a request. Return whether the connection stays open for another one."""
        handler, task = self._server.request_handler, cast("asyncio.Task[None]", self._task_handler)
        if not isinstance(message, RawRequestMessage):
            telemetry.begin_request(new_id())
            handler, message = self._make_error_handler(message), ERROR
        request = self._server.request_factory(message, body, self, StreamWriter(self, self._loop), task)
        terms = self._server.terms
        terms.in_flight += 1
        try:
            self._request_in_progress, self._current_request = True, request
            try:
                try:
                    answer = await handler(request)
                except Exception as error:  # noqa: BLE001 - an error of the boundary itself
                    answer = self.handle_error(request, 500, error)
                if self._upgraded:
                    # aiohttp's, which also reads what came after the request.
                    answer, is_lost = await self.finish_response(request, answer, None)
                    if is_lost:
                        return False
                else:
                    await answer.prepare(request)
                    await answer.write_eof()
            finally:
                self._request_in_progress, self._current_request = False, None
                if self._handler_waiter is not None:
                    self._handler_waiter.set_result(None)
            is_read = body.is_eof() or await self._discard(body)
        except asyncio.CancelledError:
            self.force_close()
            raise
        except ConnectionError:  # the client is gone, or the answer had begun when an error came
            return False
        except Exception as error:  # noqa: BLE001 - no error may stay unseen
            self.log_exception(exc_info=error)
            self.force_close()
            return False
        finally:
            terms.in_flight -= 1
        return is_read and bool(answer.keep_alive) and not self._close

    async def _discard(self, body: StreamReader) -> bool:
        """Read the rest of a body that no handler has read. Return whether it came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lingering_time):
                while not body.is_eof():
                    await body.readany()
        return body.is_eof()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume what was paused. aiohttp calls this for every body, and would run the parser again each time."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    @property
    def busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self._request_in_progress or bool(self._messages)

    @property
    def spare_since(self) -> float:
        """The time from which the connection may be closed to make room for another; infinity while it may not.

        An idle connection may be closed since it has been idle. A connection whose client is slow to read an answer may
        be closed ANSWER_SECONDS after the wait for the client began, even if the client still reads a little at a time.
        """
        if self._answering_since is not None:
            return self._answering_since + ANSWER_SECONDS
        return inf if self._waits_for is None or self.busy else self.waits_since

    def check_timeouts(self, now: float) -> None:
        """Close the connection if it has waited for its client for too long.

        A new wait is noticed only by this check, and its time is measured from the check that noticed it.
        """
        waits_for = self._current_wait()
        if waits_for is None or waits_for[0] is not Wait.ANSWER:
            self._answering_since = None
        elif self._answering_since is None:
            self._answering_since = now
        if waits_for != self._waits_for:
            self._waits_for, self.waits_since = waits_for, now
        elif waits_for is not None and now - self.waits_since >= waits_for[0].seconds:
            wait = waits_for[0]
            if not (wait is Wait.BODY and self.busy):  # its handler has a time limit, and answers 408
                self.cut(wait)

    def _current_wait(self) -> tuple[Wait, int] | None:
        """What the connection waits for, and a number that changes when the client makes progress."""
        if unsent := self._line.get_write_buffer_size():
            return Wait.ANSWER, _client_progress(self._line, unsent)
        if not self._last_body.is_eof():
            return Wait.BODY, self._request_count
        if self.busy:
            return None
        begun = self.header_bytes or not self._request_count
        return Wait.HEADER if begun else Wait.IDLE, self._request_count

    def cut(self, why: Cut) -> None:
        """Close the connection, and count that in the metrics. The unsent rest of an answer is discarded."""
        if why is not Wait.IDLE:
            metrics.count_connection_cut(why)
        if self._answering_since is not None:
            self._line.abort()
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer an error outside the application, usually a malformed request, with a document that quotes nothing."""
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
        """Log the error without aiohttp's message, which may quote the request.

        A body that cannot be decoded is not logged: it has been answered already.
        """
        error = kwargs.get("exc_info")
        if not isinstance(error, web.RequestPayloadError):
            log.error("connection_error", exc_info=error)


def _client_progress(line: asyncio.Transport, unsent: int) -> int:
    """A number that changes when the client has read something: the bytes that its machine has acknowledged.

    The size of our own buffer is a poor measure: the system takes data from it in large pieces, minutes apart if the
    client is slow. It is used only on systems other than Linux, which do not report acknowledged bytes.
    """
    try:
        info = line.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.stop)
    except (AttributeError, OSError, ValueError):  # not supported here, or the connection is closing
        return -unsent
    return int.from_bytes(info[_BYTES_ACKED], sys.byteorder) or -unsent
