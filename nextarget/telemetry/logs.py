"""Log lines, with the request, the login and the trace they belong to."""

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
from random import getrandbits
from typing import Any, NamedTuple, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from nextarget.telemetry.metrics import observe_request

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
login_id: ContextVar[str | None] = ContextVar("login_id", default=None)
trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
_CONTEXT = {"request_id": request_id, "login_id": login_id, "trace_id": trace_id}

FLUSH_SECONDS = 0.05
FLUSH_LINES = 64
"""Requests wait for each other to be told of: so long, or until there are so many. Told of one by one, between other
work, each finds the processor's cache cold, and costs twice as much."""

# Words with an at sign, and runs long enough to be a token. The look-behind keeps it linear: it reads a word once.
_SENSITIVE = re.compile(r"(?<!\S)(?:(?!%40)[^\s@])*+(?:@|%40)\S*|[\w\-.~+/=|%]{16,}", re.ASCII)
_LONG = re.compile(r"[\w\-~+=|%]{24,}", re.ASCII)
_BETWEEN_SEGMENTS = re.compile(r"([/:])")
_CLIENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


def new_request_id() -> str:
    """128 random bits, hex. A name and no secret: asking the system for better ones would cost a switch of threads."""
    return f"{getrandbits(128):032x}"


def scrubbed(text: str, *, length: int = 200, known: Collection[str] = ()) -> str:
    """Text of somebody else's, fit for a log: no email address, nothing long enough to be a token, one line.

    `known` are words that stay, however long they are, with or without a full stop behind.
    """
    kept = _SENSITIVE.sub(lambda found: found[0] if found[0].rstrip(".") in known else "[...]", text)
    return _UNPRINTABLE.sub(" ", kept)[:length]


def scrubbed_uri(uri: str, *, length: int = 200) -> str:
    """Of a URI of somebody else's what is fit for a log: scheme, host, port and path, one line. No query, no fragment,
    no user, and no segment that holds an email address or is long enough to be a token."""
    start = re.split(r"[?#;]", uri[: 5 * length], maxsplit=1)[0]
    scheme, joint, rest = start.partition("://")
    if joint:
        authority, slash, path = rest.partition("/")
        start = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    segments = _BETWEEN_SEGMENTS.split(start)
    start = "".join("[...]" if _LONG.search(each) or "@" in each or "%40" in each else each for each in segments)
    return _UNPRINTABLE.sub(" ", start)[:length]


def scrubbed_client_id(client_id: str) -> str:
    """A client id of somebody else's, if it looks like one, and no piece of it like a token."""
    if not client_id or (_CLIENT_ID.fullmatch(client_id) and not _LONG.search(client_id)):
        return client_id
    return "[...]"


def get_logger() -> Any:
    """A logger that takes an event and its facts: `log.info("login_failed", code="…")`."""
    return structlog.get_logger()


def configure_logging(*, level: str, console: bool, colors: bool = False) -> None:
    """Send every line, other libraries' included, to standard error: JSON objects, or readable lines, if they are to
    be with `colors`.

    `level` is debug, info, warning or error. Call once, before the first line.
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
        logger_factory=structlog.PrintLoggerFactory(stream),
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


class Answered(NamedTuple):
    """A request that was answered, in `seconds`, at `at` (nanoseconds since 1970); and what it belongs to."""

    method: str
    route: str | None
    """The canonical one, never the path."""
    status: int
    seconds: float
    at: int
    request_id: str | None
    login_id: str | None
    trace_id: str | None


def request_answered(method: str, route: str | None, status: int, seconds: float) -> None:
    """Tell of one answered request: in the metrics, and as a log line. `route` is the canonical one, never the path."""
    stream = _requests.stream
    if stream is None:
        observe_request(method, route, status, seconds)
        get_logger().info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 2))
    else:
        ids = request_id.get(), login_id.get(), trace_id.get()
        stream.write_soon(Answered(method, route, status, seconds, time.time_ns(), *ids))


def _told(answered: Answered) -> bytes:
    """Count it, and make its line. As JSON it is written directly: it is the one that every request pays for."""
    method, route, status, seconds, at, *ids = answered
    observe_request(method, route, status, seconds)
    line = f'{_beginning(method, route, status)},"ms":{seconds * 1000:.2f},"time":"{_clock.iso(at)}"'
    for name, value in zip(_CONTEXT, ids, strict=True):
        if value is not None:  # made by us: hex digits and hyphens, nothing to escape
            line += f',"{name}":"{value}"'
    return f"{line}}}\n".encode()


@lru_cache(maxsize=1024)
def _beginning(method: str, route: str | None, status: int) -> str:
    """Of a request's line, what is the same for all that were answered alike."""
    facts = {"event": "request", "level": "info", "method": method, "route": route, "status": status}
    return orjson.dumps(facts).decode().removesuffix("}")


class _Clock:
    """The time as text, of which only the fraction is new with every line."""

    def __init__(self) -> None:
        self._known = -1, ""

    def iso(self, at: int) -> str:
        """ISO 8601, UTC, to the microsecond, of nanoseconds since 1970."""
        second, fraction = divmod(at // 1000, 1_000_000)
        known, text = self._known
        if second != known:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._known = second, text
        return f"{text}.{fraction:06d}Z"


_clock = _Clock()


def flush() -> None:
    """Count and write what waits for it."""
    if _requests.stream is not None:
        _requests.stream.flush()


class _RequestLines:
    """Where request lines go when they are JSON."""

    stream: "_LogStream | None" = None


_requests = _RequestLines()


class _LogStream:
    """A stream that may break, its reader gone or its disk full: then lines are lost, and serving goes on.

    Lines of requests wait for each other; any other line is written at once, in its place. Workers share the stream:
    what is written in one go is whole lines, no more of them than a pipe takes without parting them.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream  # None where a process began with standard error closed
        self._pending: list[bytes | Answered] = []
        self._waiting_on: asyncio.AbstractEventLoop | None = None
        atexit.register(self.flush)

    def write(self, text: str) -> None:
        self._pending.append(text.encode(errors="backslashreplace"))

    def write_soon(self, answered: Answered) -> None:
        self._pending.append(answered)
        if len(self._pending) >= FLUSH_LINES:
            self.flush()
        loop = asyncio.get_running_loop()
        if self._waiting_on is not loop:
            self._waiting_on = loop
            loop.call_later(FLUSH_SECONDS, self._flush_on_time)

    def flush(self) -> None:
        pending, self._pending = self._pending, []
        text = b"".join([_told(each) if isinstance(each, Answered) else each for each in pending])
        if text and self._stream is not None:
            with suppress(OSError, ValueError):
                for part in _in_whole_lines(text):
                    self._stream.buffer.write(part)
                    self._stream.buffer.flush()

    def _flush_on_time(self) -> None:
        self._waiting_on = None
        self.flush()


def _in_whole_lines(text: bytes) -> Iterator[bytes]:
    """Parts that end with a line and have PIPE_BUF bytes at the most, but for a longer line, which is a part alone."""
    while len(text) > select.PIPE_BUF:
        end = text.rfind(b"\n", 0, select.PIPE_BUF) + 1 or text.find(b"\n") + 1 or len(text)
        yield text[:end]
        text = text[end:]
    if text:
        yield text


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # half a surrogate pair, or an integer beyond 64 bits: a line must never be lost for it
        return json.dumps(event, default=str)


def _add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, of in _CONTEXT.items():
        if (value := of.get()) is not None:
            event[name] = value
    return event


def _add_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Render `exc_info` as frames, type and a scrubbed sentence: an exception's text may quote what it choked on."""
    info = event.pop("exc_info", None)
    if not info:
        return event
    error = info if isinstance(info, BaseException) else (info[1] if isinstance(info, tuple) else sys.exception())
    if error is not None:
        frames = "".join(traceback.format_tb(error.__traceback__))
        event["exception"] = f"{frames}{type(error).__name__}: {scrubbed(str(error))}"
    return event
