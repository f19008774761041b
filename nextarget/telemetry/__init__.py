"""What an operator sees: log lines, metrics and traces. Callers pass no secrets to it."""

from nextarget.telemetry.logs import (
    begin_request,
    configure_logging,
    flush,
    get_logger,
    login_id,
    request_answered,
    request_id,
    scrubbed,
    scrubbed_client_id,
    scrubbed_uri,
    trace_id,
)

__all__ = [
    "begin_request",
    "configure_logging",
    "flush",
    "get_logger",
    "login_id",
    "request_answered",
    "request_id",
    "scrubbed",
    "scrubbed_client_id",
    "scrubbed_uri",
    "trace_id",
]
