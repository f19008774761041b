"""Metrics, with Prometheus' own client: what is counted, and how it is read with one process and with several.

Each series is a plain metric of prometheus_client, which in one process keeps numbers in memory (0.6 us for a
histogram), and with several workers in files that all of them share (1.5 us). That is little enough to do without
counters of our own; what would cost more, finding a child by its labels, is done once for each.

Every label has few values, all of them ours: a canonical route, a known method, a provider, an outcome from a list.
What a client sends never becomes one. Reads of SQLite are not timed: they run inside their request, whose time is
known, and take little more than reading the clock and counting them would.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Literal

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from nextarget import __version__
from nextarget.errors import ProblemError
from nextarget.model import Provider
from nextarget.registry import PROVIDERS

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Of the text that `exposition` gives."""

Refreshed = Literal["rotated", "repeated", "recovered", "rewound", "reused", "refused"]
"""What became of a refresh: `repeated` is an answer within the reuse window; `refused` a token that is good no more."""

Operation = Literal["token", "keys", "profile", "debug_token"]
"""What a provider is asked for."""

DatabaseCause = Literal[
    "disk_full", "read_only", "io_error", "corrupt", "not_a_database", "cannot_open",
    "unreachable", "refused", "too_many_connections", "schema", "locked", "timeout", "crowded", "closed", "other",
]  # fmt: skip
"""Why a database cannot be used. `locked` is a lock that another holds for too long; `crowded` that too many wait for
the database already, which says nothing of the database itself; `closed` that this process closed it."""

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series beside each, which nobody reads

_REQUEST_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
_PROVIDER_BUCKETS = (0.03, 0.1, 0.3, 1, 3, 10)
_DATABASE_BUCKETS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 10)

_requests = Histogram(
    "nextarget_http_request_duration_seconds",
    "Time from a request's header to its answer.",
    ["method", "route", "status"],
    buckets=_REQUEST_BUCKETS,
)
_logins = Counter(
    "nextarget_logins_total", "Sign-ins that ended: `succeeded`, or the error's code.", ["provider", "outcome"]
)
_refreshes = Counter("nextarget_refreshes_total", "Refresh tokens presented, by what became of them.", ["outcome"])
_provider_requests = Histogram(
    "nextarget_provider_request_duration_seconds",
    "Time that a provider took to answer, its retry included: `answered`, or the error's code.",
    ["provider", "operation", "outcome"],
    buckets=_PROVIDER_BUCKETS,
)
_breakers = Gauge(
    "nextarget_provider_breaker_open",
    "1 while a provider that keeps failing is not asked.",
    ["provider"],
    multiprocess_mode="livemax",
)
_database = Histogram(
    "nextarget_database_duration_seconds",
    "Time that a request waited for the database; reads of SQLite are not timed.",
    ["kind"],
    buckets=_DATABASE_BUCKETS,
)
_database_failures = Counter(
    "nextarget_database_failures_total", "Reads and writes that the database could not do, by cause.", ["cause"]
)
_pool_size = Gauge(
    "nextarget_database_pool_connections_max",
    "Connections to PostgreSQL that may be open at once.",
    multiprocess_mode="livesum",
)
_pool_used = Gauge(
    "nextarget_database_pool_connections_in_use",
    "Connections to PostgreSQL that are at work.",
    multiprocess_mode="livesum",
)
_refused = Counter("nextarget_rate_limited_total", "Requests refused with 429, by policy.", ["policy"])
_uncounted = Counter(
    "nextarget_rate_limit_failures_total", "Requests that passed uncounted, since the storage of the limits failed."
)
_malformed = Counter("nextarget_malformed_requests_total", "Requests refused before they reached a route.")
_connections = Gauge("nextarget_connections_open", "Connections of clients that are open.", multiprocess_mode="livesum")
_max_connections = Gauge(
    "nextarget_connections_max", "Connections that may be open at once.", multiprocess_mode="livesum"
)
_cut = Counter(
    "nextarget_connections_cut_total",
    "Connections closed since their client did not send a header or a body, or take an answer, in time; or for room.",
    ["reason"],
)
_unaccepted = Counter(
    "nextarget_accept_failures_total", "Times that the system had no file or memory for another connection."
)
_purged = Counter("nextarget_purged_rows_total", "Rows deleted because they were over.")
_build = Gauge("nextarget_build_info", "1; the label tells the version.", ["version"], multiprocess_mode="max")
_build.labels(__version__).set(1)

# Children bound once: `labels()` costs as much as observing.
_request_children: dict[tuple[str, str | None, int], Histogram] = {}
_refresh_children = {outcome: _refreshes.labels(outcome) for outcome in Refreshed.__args__}  # type: ignore[attr-defined]
_database_children = {kind: _database.labels(kind) for kind in ("read", "write")}
_failure_children = {cause: _database_failures.labels(cause) for cause in DatabaseCause.__args__}  # type: ignore[attr-defined]
_cut_children = {reason: _cut.labels(reason) for reason in ("header", "body", "answer", "room")}
for _provider in PROVIDERS:  # what has not happened yet is 0, not absent: a rate can be taken from the first on
    _logins.labels(_provider, "succeeded")
    _breakers.labels(_provider).set(0)


def observe_request(method: str, route: str | None, status: int, seconds: float) -> None:
    """Count one answered request. `method` is a known one or "other", `route` canonical, None when there is none."""
    key = (method, route, status)
    child = _request_children.get(key)
    if child is None:
        child = _request_children[key] = _requests.labels(method, route or "none", str(status))
    child.observe(seconds)


def count_login(provider: Provider, error: ProblemError | None = None) -> None:
    """Count a sign-in that ended, well or with an error."""
    _logins.labels(provider, error.code if error else "succeeded").inc()


def count_refresh(outcome: Refreshed) -> None:
    """Count a refresh token that was presented."""
    _refresh_children[outcome].inc()


@contextmanager
def asking(provider: Provider, operation: Operation) -> Iterator[None]:
    """Time a question to a provider. An error of ours that ends it is its outcome."""
    began, outcome = perf_counter(), "answered"
    try:
        yield
    except ProblemError as error:
        outcome = error.code
        raise
    except BaseException:  # the caller left
        outcome = "cancelled"
        raise
    finally:
        _provider_requests.labels(provider, operation, outcome).observe(perf_counter() - began)


def set_breaker(provider: Provider, *, is_open: bool) -> None:
    """Tell whether a provider is being left alone."""
    _breakers.labels(provider).set(int(is_open))


def observe_database(kind: Literal["read", "write"], seconds: float) -> None:
    """Count what the database did for one request, the wait for its turn included."""
    _database_children[kind].observe(seconds)


def count_database_failure(cause: str) -> None:
    """Count a read or a write that the database could not do. `cause` is a DatabaseCause."""
    _failure_children[cause].inc()


def set_pool_size(connections: int) -> None:
    """Tell how many connections to PostgreSQL this process may open."""
    _pool_size.set(connections)


@contextmanager
def pool_connection() -> Iterator[None]:
    """Count a connection to PostgreSQL as at work."""
    _pool_used.inc()
    try:
        yield
    finally:
        _pool_used.dec()


def count_rate_limited(policy: str) -> None:
    """Count a request refused by a policy of ours."""
    _refused.labels(policy).inc()


def count_uncounted() -> None:
    """Count a request that passed since the storage of the rate limits failed."""
    _uncounted.inc()


def count_malformed() -> None:
    """Count a request that was refused before any route was known."""
    _malformed.inc()


def connection_opened() -> None:
    """Count a connection of a client as open."""
    _connections.inc()


def connection_closed() -> None:
    """Count it as open no more."""
    _connections.dec()


def set_max_connections(connections: int) -> None:
    """Tell how many connections this process may have."""
    _max_connections.set(connections)


def count_connection_cut(reason: str) -> None:
    """Count a connection that was closed, since it waited for too long for a header, a body, or an answer to be taken,
    or because its place was needed (`room`)."""
    _cut_children[reason].inc()


def count_accept_failure() -> None:
    """Count that a connection could not be accepted, for want of something of the system's."""
    _unaccepted.inc()


def count_purged(rows: int) -> None:
    """Count rows deleted because they were over."""
    _purged.inc(rows)


def exposition(shared: Path | None = None) -> bytes:
    """Every series as text; with the folder that several workers share, of all of them together."""
    if shared is None:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=str(shared))  # type: ignore[no-untyped-call]
    registry.register(_Processes(shared))
    return generate_latest(registry)


def worker_gone(pid: int, shared: Path) -> None:
    """Drop what a worker that has ended measured of itself; what it counted stays."""
    multiprocess.mark_process_dead(pid, path=str(shared))  # type: ignore[no-untyped-call]


class _Processes(Collector):
    """CPU, memory and files of each worker, by its process id: the client gives none of it when several share."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for pid in sorted(path.stem.rpartition("_")[2] for path in self._shared.glob("gauge_livemax_*.db")):
            for family in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                family.samples = [sample._replace(labels={"pid": pid}) for sample in family.samples]
                families.setdefault(family.name, family)
                if families[family.name] is not family:
                    families[family.name].samples.extend(family.samples)
        yield from families.values()
