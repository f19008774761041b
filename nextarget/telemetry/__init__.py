"""What an operator sees: log lines, metrics and traces. Nothing secret gets this far."""

from nextarget.telemetry.logs import (
    configure_logging,
    flush_logs,
    get_logger,
    log_request,
    login_id,
    new_request_id,
    request_id,
    scrubbed,
    trace_id,
)
from nextarget.telemetry.metrics import observe_request

__all__ = [
    "configure_logging",
    "flush_logs",
    "get_logger",
    "log_request",
    "login_id",
    "new_request_id",
    "request_answered",
    "request_id",
    "scrubbed",
    "trace_id",
]


def request_answered(method: str, route: str | None, status: int, seconds: float) -> None:
    """Tell of one answered request: in the metrics, and as a log line. `route` is the canonical one, never the path."""
    observe_request(method, route, status, seconds)
    log_request(method, route, status, seconds)
