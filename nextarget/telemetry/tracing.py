"""Traces, with OpenTelemetry's own instrumentation of aiohttp, and which parts of a span may leave the process.

It is imported only if an endpoint is set. The instrumentation writes path and query of a request into its span, with
codes and states, and also host and user agent. Therefore every span is copied before it is sent, and the copy has only
the attributes of an allow-list. No text of a client or a provider is on that list.

Trace context is neither read from requests nor sent to providers: strangers could choose what is recorded, and
providers do not need our trace ids.
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
"""Time limit for sending one batch, and for sending the remaining batches when the server stops."""
_COMPLAIN_SECONDS = 60

_KEPT = frozenset(
    {
        *("http.method", "http.request.method", "http.route", "http.status_code", "http.response.status_code"),
        *("http.scheme", "url.scheme", "http.flavor", "network.protocol.version", "error.type"),
    }
)
_KEPT_OF_CLIENTS = _KEPT | {"http.url", "url.full", "server.address", "server.port"}
"""For our requests to providers, whose addresses are our own settings. `Tracing` has removed the query."""

log = get_logger()


class Tracing:
    """Makes spans of requests and of our requests to providers. `endpoint` is the base URL of a collector, which takes
    OTLP over HTTP at `/v1/traces`. OpenTelemetry's other environment variables (sampler, headers, resource) work too.

    Spans that cannot be sent are dropped, and requests go on. It also works in a worker that was forked later.
    """

    def __init__(self, endpoint: str) -> None:
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
        self._exporter = _Cleaning(exporter)
        resource = Resource.create({"service.name": "nextarget", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        propagate.set_global_textmap(CompositePropagator([]))

    def middleware(self) -> Any:
        """A middleware for aiohttp that makes a span for every request, named by its route."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it subclasses web.Application
            # Instrumenting sets up the middleware, and also replaces web.Application: that is undone at once.
            AioHttpServerInstrumentor().instrument(tracer_provider=self._provider)
            AioHttpServerInstrumentor().uninstrument()
        return create_aiohttp_middleware(tracer_provider=self._provider)

    def trace_config(self) -> Any:
        """A trace config for aiohttp's client session, which makes a span for every request to a provider."""
        return create_trace_config(
            url_filter=lambda url: str(url.with_query(None).with_fragment(None)), tracer_provider=self._provider
        )

    def close(self) -> None:
        """Send the remaining spans. Blocks for at most EXPORT_SECONDS, and until the current batch has ended."""
        self._exporter.give_up_at = monotonic() + EXPORT_SECONDS
        self._provider.shutdown()


def current_trace_id() -> str | None:
    """The id of the current trace, as collectors show it."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


class _Cleaning(SpanExporter):
    """Sends copies of spans, with the attributes of the allow-list only. Logs failures once a minute."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._complained_at = float("-inf")
        self.give_up_at = float("inf")
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # it would log every attempt

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
        status=Status(span.status.status_code),  # without the description, which is the text of an exception
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _cleaned_event(event: Event) -> Event:
    """An exception's event with the type only: its message and stack frames may quote its input."""
    kind = (event.attributes or {}).get("exception.type")
    return Event(event.name, {"exception.type": kind} if kind is not None else None, event.timestamp)


def _cleaned_context(context: SpanContext | None) -> SpanContext | None:
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
