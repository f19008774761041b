"""An exported span has only the facts on a list, and only the type of an exception."""

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from nextarget.telemetry.tracing import _cleaned

MARK = "hush-9sk1-do-not-repeat"


def dirty_span(kind: SpanKind) -> ReadableSpan:
    """A span with a secret in every part except its name."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", MARK)]))
    context = set_span_in_context(NonRecordingSpan(parent))
    attributes = {
        "http.route": "/users/me",
        "http.response.status_code": 401,
        **dict.fromkeys(("http.target", "url.path", "url.query", "http.user_agent", "user_agent.original"), MARK),
        **dict.fromkeys(("http.host", "net.host.name", "http.server_name", "client.address", "enduser.id"), MARK),
        **dict.fromkeys(("http.request.header.authorization", "http.request.method_original", "db.statement"), MARK),
    }
    tracer = provider.get_tracer("test")
    link = SpanContext(3, 4, is_remote=True, trace_state=TraceState([("b", MARK)]))
    span = tracer.start_span("GET /users/me", context=context, kind=kind, attributes=attributes)
    span.add_link(link, {"link": MARK})
    span.record_exception(ValueError(MARK))
    span.add_event("event", {"anything": MARK})
    span.set_status(Status(StatusCode.ERROR, MARK))
    span.end()
    (dirty,) = memory.get_finished_spans()
    assert MARK in dirty.to_json()
    return dirty


def test_nothing_but_what_is_listed_leaves() -> None:
    """Facts that the instrumentation, or a later version of it, adds to a span are not exported."""
    for kind in SpanKind:
        dirty = dirty_span(kind)
        clean = _cleaned(dirty)
        assert MARK not in clean.to_json()
        assert not clean.context.trace_state
        assert not clean.parent.trace_state
        assert not clean.links
        assert clean.attributes == {"http.route": "/users/me", "http.response.status_code": 401}


def test_what_a_trace_is_made_of_stays() -> None:
    """A span keeps its name, kind, ids, times, status and the exception's type: they show what failed and when."""
    dirty = dirty_span(SpanKind.SERVER)
    clean = _cleaned(dirty)
    assert (clean.name, clean.kind, clean.status.status_code) == ("GET /users/me", SpanKind.SERVER, StatusCode.ERROR)
    assert (clean.context.trace_id, clean.context.span_id) == (dirty.context.trace_id, dirty.context.span_id)
    assert (clean.parent.trace_id, clean.parent.span_id, clean.parent.is_remote) == (1, 2, True)
    assert (clean.start_time, clean.end_time) == (dirty.start_time, dirty.end_time)
    assert clean.resource is dirty.resource
    assert [(event.name, dict(event.attributes or {})) for event in clean.events] == [
        ("exception", {"exception.type": "ValueError"}),
        ("event", {}),
    ]
