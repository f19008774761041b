"""Traces, with OpenTelemetry's own instrumentation of aiohttp: what is followed, and what of it may leave the process.

Imported only when an endpoint is set. The instrumentation puts into spans whatever a request holds: path and query, so
codes and states, host and user agent. Hence every span is copied on its way out, and of its facts only those on a list
go along; nothing that a client or a provider wrote is on it.

No trace context is taken over from requests, nor handed to providers: requests come from strangers, who would choose
what is recorded, and providers need not know our traces.
"""

import logging
import warnings
from collections.abc import Sequence
from time import monotonic
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor, create_aiohttp_middleware
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status

from nextarget import __version__
from nextarget.telemetry.logs import get_logger

EXPORT_SECONDS = 5
"""How long one batch may take, and how long batches are still sent once the server stops."""
_COMPLAIN_SECONDS = 60

_KEPT = frozenset(
    {
        *("http.method", "http.request.method", "http.route", "http.status_code", "http.response.status_code"),
        *("http.scheme", "url.scheme", "http.flavor", "network.protocol.version", "error.type"),
    }
)
_KEPT_OF_CLIENTS = _KEPT | {"http.url", "url.full", "server.address", "server.port"}
"""Where we ask providers is in our settings; `Tracing` leaves out the query before it gets here."""

log = get_logger()


class Tracing:
    """Follows requests and what they ask of providers. `endpoint` is the collector's base URL: OTLP over HTTP, below
    `/v1/traces`. What else OpenTelemetry reads from the environment (sampler, headers, resource) holds too.

    What cannot be sent is dropped: no request learns of it. Works in a process that forked since.
    """

    def __init__(self, endpoint: str) -> None:
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
        self._exporter = _Cleaning(exporter)
        resource = Resource.create({"service.name": "nextarget", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        propagate.set_global_textmap(CompositePropagator([]))

    def middleware(self) -> Any:
        """aiohttp's middleware that makes a span of each request, named by its route."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it makes a class of web.Application
            # It sets up what the middleware needs, and replaces web.Application, which is taken back at once.
            AioHttpServerInstrumentor().instrument(tracer_provider=self._provider)
            AioHttpServerInstrumentor().uninstrument()
        return create_aiohttp_middleware(tracer_provider=self._provider)

    def trace_config(self) -> Any:
        """What aiohttp's client session takes to make a span of each question to a provider."""
        return create_trace_config(
            url_filter=lambda url: str(url.with_query(None).with_fragment(None)), tracer_provider=self._provider
        )

    def close(self) -> None:
        """Send what waits, for EXPORT_SECONDS at most and the batch that is under way then. Blocks."""
        self._exporter.give_up_at = monotonic() + EXPORT_SECONDS
        self._provider.shutdown()


def current_trace_id() -> str | None:
    """The id of the trace that this is part of, as collectors show it."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


class _Cleaning(SpanExporter):
    """Sends copies of spans that hold nothing but what is on the list; tells of failures once a minute."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._complained_at = float("-inf")
        self.give_up_at = float("inf")
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # it tells of every try

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        now = monotonic()
        result = SpanExportResult.FAILURE
        if now < self.give_up_at:
            result = self._exporter.export([_cleaned(span) for span in spans])
        if result is not SpanExportResult.SUCCESS and now - self._complained_at >= _COMPLAIN_SECONDS:
            self._complained_at = now
            log.warning("traces_lost", spans=len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


def _cleaned(span: ReadableSpan) -> ReadableSpan:
    kept = _KEPT_OF_CLIENTS if span.kind is SpanKind.CLIENT else _KEPT
    return ReadableSpan(
        name=span.name,
        context=_cleaned_context(span.context),
        parent=_cleaned_context(span.parent),
        resource=span.resource,
        attributes={name: value for name, value in (span.attributes or {}).items() if name in kept},
        events=[_cleaned_event(event) for event in span.events],
        kind=span.kind,
        status=Status(span.status.status_code),  # its description is an exception's text
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _cleaned_event(event: Event) -> Event:
    """Of an exception its type: its message and its frames may quote what it choked on."""
    kind = (event.attributes or {}).get("exception.type")
    return Event(event.name, {"exception.type": kind} if kind is not None else None, event.timestamp)


def _cleaned_context(context: SpanContext | None) -> SpanContext | None:
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
