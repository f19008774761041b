"""Log lines, with the ids of their request, login and trace."""

import asyncio
import atexit
import json
import logging
import re
import select
import sys
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from time import perf_counter
from typing import Any, TextIO

import orjson

from nextarget.lean_imports import without

# Structlog would only draw tracebacks with Rich, and ours are text. It would only keep context for greenlets.
with without("rich", "greenlet"):
    import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from nextarget.telemetry.metrics import observe_request

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
login_id: ContextVar[str | None] = ContextVar("login_id", default=None)
trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
_CONTEXT = {"request_id": request_id, "login_id": login_id, "trace_id": trace_id}

FLUSH_SECONDS = 0.05
FLUSH_LINES = 64
"""Lines of requests, and others at the level info, are written in batches: after this time, or when there are so many.
Written one by one, between other work, a line costs twice as much, because its code and data have left the processor's
cache."""

# Words with an at sign, and strings that may be tokens. The look-behind keeps the time linear: a word is read once.
_SENSITIVE = re.compile(r"(?<!\S)\S*?(?:@|%40)\S*|[\w\-.~+/=|%]{16,}", re.ASCII)
_LONG = re.compile(r"[\w\-~+=|%]{24,}", re.ASCII)
_BETWEEN_SEGMENTS = re.compile(r"([/:])")
_CLIENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


def begin_request(new_id: str) -> None:
    """From now on, lines have this request id, and no other id: the task may have answered another request before."""
    request_id.set(new_id)
    for other in (login_id, trace_id):
        if other.get() is not None:
            other.set(None)


def scrubbed(text: str, *, length: int = 200, known: Collection[str] = ()) -> str:
    """A text from outside, made safe for the log: one line, without email addresses and strings that may be tokens.

    Words in `known` are kept, however long they are, also with a full stop after them.
    """
    kept = _SENSITIVE.sub(lambda found: found[0] if found[0].rstrip(".") in known else "[...]", text)
    return _UNPRINTABLE.sub(" ", kept)[:length]


def scrubbed_uri(uri: str, *, length: int = 200) -> str:
    """A URI from outside, made safe for the log: scheme, host, port and path in one line. Query, fragment and user are
    left out, and so are segments of the path that contain an email address or may be a token."""
    start = re.split(r"[?#;]", uri[: 5 * length], maxsplit=1)[0]
    scheme, joint, rest = start.partition("://")
    if joint:
        authority, slash, path = rest.partition("/")
        start = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    segments = _BETWEEN_SEGMENTS.split(start)
    start = "".join("[...]" if _LONG.search(each) or "@" in each or "%40" in each else each for each in segments)
    return _UNPRINTABLE.sub(" ", start)[:length]


def scrubbed_client_id(client_id: str) -> str:
    """A client id from outside, if it looks like a client id, and no part of it can be a token."""
    if not client_id or (_CLIENT_ID.fullmatch(client_id) and not _LONG.search(client_id)):
        return client_id
    return "[...]"


def get_logger() -> Any:
    """A logger. Calls name an event and its details: `log.info("login_failed", code="…")`."""
    return structlog.get_logger()


def configure_logging(*, level: str, console: bool, colors: bool = False) -> None:
    """Write every line to standard error, also those of libraries: as JSON, or with `console` for people.

    `level` is debug, info, warning or error. Call it once, before the first line.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    stream: Any = _LogStream(sys.stderr)
    shared: list[Processor] = [
        _add_context,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _add_exception,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer(colors=colors) if console else _to_json
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Lines(stream, waits=not console),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    _requests.stream = stream if not console and number <= logging.INFO else None


Answered = tuple[str, str | None, int, float, int, str, str | None, str | None]
"""A request that was answered: its method, the pattern of its route (the path itself is never logged), its status, the
seconds it took, when it was answered (nanoseconds since 1970), and the ids of request, login and trace.

A named tuple would take six times as long to make."""


def request_answered(method: str, route: str | None, status: int, seconds: float) -> None:
    """Count an answered request in the metrics and write its log line. `route` is the route's pattern, not the path."""
    stream = _requests.stream
    if stream is None:
        observe_request(method, route, status, seconds)
        get_logger().info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 2))
    else:
        ids = request_id.get() or "", login_id.get(), trace_id.get()
        stream.write_soon((method, route, status, seconds, time.time_ns(), *ids))


def _count_and_format(answered: Answered) -> bytes:
    """Count a request and return its line. The JSON is put together by hand, because every request has such a line."""
    method, route, status, seconds, at, request, login, trace = answered
    observe_request(method, route, status, seconds)
    second, fraction = divmod(at // 1000, 1_000_000)
    values = _beginning(method, route, status), seconds * 1000, _time_of(second), fraction, request.encode()
    line = b'%b,"ms":%.2f,"time":"%b.%06dZ","request_id":"%b"' % values
    # Our own ids: hex digits and hyphens, so there is nothing to escape.
    if login is not None:
        line += b',"login_id":"%b"' % login.encode()
    if trace is not None:
        line += b',"trace_id":"%b"' % trace.encode()
    return line + b"}\n"


@lru_cache(maxsize=1024)
def _beginning(method: str, route: str | None, status: int) -> bytes:
    """The beginning of a line, which is the same for all requests with this method, route and status."""
    facts = {"event": "request", "level": "info", "method": method, "route": route, "status": status}
    return orjson.dumps(facts).removesuffix(b"}")


@lru_cache(maxsize=1)
def _time_of(second: int) -> bytes:
    """ISO 8601 in UTC, without an offset. `second` counts from 1970, and is usually that of the line before."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def flush() -> None:
    """Count the requests and write the lines that wait for the next batch."""
    if _requests.stream is not None:
        _requests.stream.flush()


class _RequestLines:
    """Where request lines are written if they are JSON."""

    stream: "_LogStream | None" = None


_requests = _RequestLines()


class _Lines:
    """Gets our own lines from structlog, by their level. A warning is written at once, after the lines that wait; with
    `waits`, a line at the level info waits for the next batch."""

    def __init__(self, stream: "_LogStream", *, waits: bool) -> None:
        self._stream = stream
        self.info = self._write_soon if waits else self.warning

    def warning(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()

    debug = error = critical = warning

    def _write_soon(self, line: str) -> None:
        self._stream.write_soon(f"{line}\n".encode(errors="backslashreplace"))


class _LogStream:
    """Writes lines to a stream. When that fails, because the reader is gone or the disk is full, lines are lost and the
    server goes on.

    Several workers write to one stream: a write contains complete lines only, and not more than a pipe takes in one
    piece.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream  # None if the process was started with standard error closed
        self._pending: list[bytes | Answered] = []
        self._flush_at = 0.0  # of `perf_counter`; 0 if nothing waits for it
        atexit.register(self.flush)

    def write(self, text: str) -> None:
        self._pending.append(text.encode(errors="backslashreplace"))

    def write_soon(self, line: bytes | Answered) -> None:
        """Write a line with the next batch; at once if none is due and the thread has no event loop."""
        self._pending.append(line)
        if len(self._pending) >= FLUSH_LINES:
            self.flush()
        now = perf_counter()
        if now < self._flush_at:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        self._flush_at = now + FLUSH_SECONDS  # passed without a flush, its event loop has ended
        loop.call_later(FLUSH_SECONDS, self._flush_on_time)

    def flush(self) -> None:
        pending, self._pending = self._pending, []
        text = b"".join([each if isinstance(each, bytes) else _count_and_format(each) for each in pending])
        if text and self._stream is not None:
            with suppress(OSError, ValueError):
                for part in _in_whole_lines(text):
                    self._stream.buffer.write(part)
                    self._stream.buffer.flush()

    def _flush_on_time(self) -> None:
        self._flush_at = 0.0
        self.flush()


def _in_whole_lines(text: bytes) -> Iterator[bytes]:
    """The text in parts of complete lines, at most PIPE_BUF bytes long. A longer line is a part of its own."""
    while len(text) > select.PIPE_BUF:
        end = text.rfind(b"\n", 0, select.PIPE_BUF) + 1 or text.find(b"\n") + 1 or len(text)
        yield text[:end]
        text = text[end:]
    if text:
        yield text


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except (
        TypeError
    ):  # orjson refuses half a surrogate pair and integers of more than 64 bits; no line may be lost for that
        return json.dumps(event, default=str)


def _add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, of in _CONTEXT.items():
        if (value := of.get()) is not None:
            event[name] = value
    return event


def _add_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by stack frames, type and scrubbed text: the text of an exception may quote its input."""
    info = event.pop("exc_info", None)
    if not info:
        return event
    error = info if isinstance(info, BaseException) else (info[1] if isinstance(info, tuple) else sys.exception())
    if error is not None:
        frames = "".join(traceback.format_tb(error.__traceback__))
        event["exception"] = f"{frames}{type(error).__name__}: {scrubbed(str(error))}"
    return event
