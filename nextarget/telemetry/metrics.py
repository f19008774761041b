"""Metrics, with Prometheus' own client, for one process and for several workers.

A metric of prometheus_client keeps its numbers in memory (0.6 us to update a histogram), or with several workers in
files that all workers share (1.5 us). Finding the child metric for some labels takes longer, so it is done once.

A label has few values, and they are all ours: a route's pattern, a known method, a provider, an outcome from a list. A
text that a client sent is never a label. Reads of SQLite have no timer: they run within their request, whose time is
measured, and a timer would take almost as long as a read.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
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
from nextarget.registry import offered

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""The content type of what `exposition` returns."""

Removal = Literal["deauthorize", "deletion"]
Revoked = Literal["revoked", "refused", "failed", "unavailable", "dropped"]
"""What became of a grant that a deleted person had at a provider. `refused`: the code was not good. `failed`: our
configuration is wrong. `unavailable`: the provider did not answer in all that time. `dropped`: too many waited already,
or the server stopped."""
OnAccountPage = Literal["no_account", "session_ended", "sessions_ended", "deleted"]
"""What happened on the account page: `no_account` is a sign-in of a person who has no account here."""
Refreshed = Literal["rotated", "repeated", "recovered", "rewound", "reused", "refused"]
"""The outcome of a refresh: `repeated` is the same answer again within the reuse window, `refused` an invalid token."""

Operation = Literal["token", "keys", "profile", "debug_token", "revocation", "api"]
"""The kind of a request to a provider. `api` is what a command of the operator asks; no server does."""

DatabaseCause = Literal[
    "disk_full", "read_only", "io_error", "corrupt", "not_a_database", "cannot_open",
    "unreachable", "refused", "too_many_connections", "schema", "locked", "timeout", "crowded", "closed", "other",
]  # fmt: skip
"""Why a database cannot be used. `locked`: another program holds a lock for too long. `crowded`: too many requests wait
already, though the database itself may be fine. `closed`: this process has closed it."""

disable_created_metrics()  # type: ignore[no-untyped-call] # they would double the number of series

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
_removals = Counter(
    "nextarget_removal_requests_total",
    "Signed requests of a provider on behalf of a person: `deauthorize` or `deletion`.",
    ["provider", "request"],
)
_revocations = Counter(
    "nextarget_revocations_total",
    "Grants at a provider to be revoked because the account was deleted, by outcome.",
    ["provider", "outcome"],
)
_account_page = Counter(
    "nextarget_account_page_total",
    "What people did on the account page; `no_account`: a sign-in there of a person who has none here.",
    ["action"],
)
_security_events = Counter(
    "nextarget_security_events_total",
    "Security events that providers told, by kind: what became of them.",
    ["provider", "kind", "outcome"],
)
_refreshes = Counter("nextarget_refreshes_total", "Refresh tokens that apps sent, by outcome.", ["outcome"])
_provider_requests = Histogram(
    "nextarget_provider_request_duration_seconds",
    "Time until a provider answered, with its retry: `answered`, or the error's code.",
    ["provider", "operation", "outcome"],
    buckets=_PROVIDER_BUCKETS,
)
_breakers = Gauge(
    "nextarget_provider_breaker_open",
    "1 while a provider that keeps failing gets no requests.",
    ["provider"],
    multiprocess_mode="livemax",
)
_database = Histogram(
    "nextarget_database_duration_seconds",
    "Time that a request waited for the database; reads of SQLite are not timed.",
    ["kind"],
    buckets=_DATABASE_BUCKETS,
)
_database_failures = Counter("nextarget_database_failures_total", "Reads and writes that failed, by cause.", ["cause"])
_pool_size = Gauge(
    "nextarget_database_pool_connections_max",
    "Connections to PostgreSQL that may be open at once.",
    multiprocess_mode="livesum",
)
_pool_used = Gauge(
    "nextarget_database_pool_connections_in_use",
    "Connections to PostgreSQL that are in use.",
    multiprocess_mode="livesum",
)
_refused = Counter("nextarget_rate_limited_total", "Requests refused with 429, by policy.", ["policy"])
_uncounted = Counter(
    "nextarget_rate_limit_failures_total", "Requests that passed uncounted because counting for the rate limits failed."
)
_malformed = Counter("nextarget_malformed_requests_total", "Requests refused before they reached a route.")
_connections = Gauge("nextarget_connections_open", "Connections of clients that are open.", multiprocess_mode="livesum")
_max_connections = Gauge(
    "nextarget_connections_max", "Connections that may be open at once.", multiprocess_mode="livesum"
)
_cut = Counter(
    "nextarget_connections_cut_total",
    "Connections closed because the client was too slow (header, body, reading the answer), or to make room.",
    ["reason"],
)
_unaccepted = Counter(
    "nextarget_accept_failures_total", "Failed accepts: the system had no file descriptor or memory for a connection."
)
_purged = Counter("nextarget_purged_rows_total", "Expired rows that were deleted.")
_build = Gauge("nextarget_build_info", "Always 1; the label has the version.", ["version"], multiprocess_mode="max")
_build.labels(__version__).set(1)

# Child metrics are looked up once: `labels()` takes as long as updating a metric.
_request_children: dict[tuple[str, str | None, int], Histogram] = {}
_account_page_children = {action: _account_page.labels(action) for action in OnAccountPage.__args__}  # type: ignore[attr-defined]
_refresh_children = {outcome: _refreshes.labels(outcome) for outcome in Refreshed.__args__}  # type: ignore[attr-defined]
_database_children = {kind: _database.labels(kind) for kind in ("read", "write")}
_failure_children = {cause: _database_failures.labels(cause) for cause in DatabaseCause.__args__}  # type: ignore[attr-defined]
_logins_child = cache(_logins.labels)
_provider_child = cache(_provider_requests.labels)
_cut_children = {reason: _cut.labels(reason) for reason in ("header", "body", "answer", "room")}


def begin(providers: Iterable[Provider]) -> None:
    """Let the counts of these providers start at 0: a rate needs a value before the first event."""
    for provider in providers:
        _logins.labels(provider, "succeeded")
        _breakers.labels(provider)


begin(offered())


def observe_request(method: str, route: str | None, status: int, seconds: float) -> None:
    """Count one answered request. `method` is a known method or "other", `route` a route's pattern, if one matched."""
    key = (method, route, status)
    child = _request_children.get(key)
    if child is None:
        child = _request_children[key] = _requests.labels(method, route or "none", str(status))
    child.observe(seconds)


def count_login(provider: Provider, error: ProblemError | None = None) -> None:
    """Count a sign-in that succeeded or failed."""
    _logins_child(provider, error.code if error else "succeeded").inc()


def count_removal(provider: Provider, request: Removal) -> None:
    """Count a request of a provider to end a person's sessions or to delete the account."""
    _removals.labels(provider, request).inc()


def count_revocation(provider: Provider, outcome: Revoked) -> None:
    """Count a grant of a deleted person that was revoked at its provider, or could not be."""
    _revocations.labels(provider, outcome).inc()


def count_account_page(action: OnAccountPage) -> None:
    """Count what a person did on the account page."""
    _account_page_children[action].inc()


def count_security_event(provider: Provider, kind: str, outcome: str) -> None:
    """Count an event that a provider told us. Both texts are of few values, and ours."""
    _security_events.labels(provider, kind, outcome).inc()


def count_refresh(outcome: Refreshed) -> None:
    """Count a refresh token that an app sent."""
    _refresh_children[outcome].inc()


@contextmanager
def asking(provider: Provider, operation: Operation) -> Iterator[None]:
    """Measure a request to a provider. The outcome is the code of the error, if one is raised."""
    began, outcome = perf_counter(), "answered"
    try:
        yield
    except ProblemError as error:
        outcome = error.code
        raise
    except BaseException:  # the client closed its connection
        outcome = "cancelled"
        raise
    finally:
        _provider_child(provider, operation, outcome).observe(perf_counter() - began)


def set_breaker(provider: Provider, *, is_open: bool) -> None:
    """Record whether requests to a provider are suspended after failures."""
    _breakers.labels(provider).set(int(is_open))


def observe_database(kind: Literal["read", "write"], seconds: float) -> None:
    """Count one job of the database, with the time that it waited."""
    _database_children[kind].observe(seconds)


def count_database_failure(cause: str) -> None:
    """Count a failed read or write. `cause` is a DatabaseCause."""
    _failure_children[cause].inc()


def set_pool_size(connections: int) -> None:
    """Record how many connections to PostgreSQL this process may open."""
    _pool_size.set(connections)


def count_pool_use(change: Literal[1, -1]) -> None:
    """Count one more, or one less, connection to PostgreSQL as in use."""
    _pool_used.inc(change)


def count_rate_limited(policy: str) -> None:
    """Count a request that a rate limit refused."""
    _refused.labels(policy).inc()


def count_uncounted() -> None:
    """Count a request that passed because counting failed."""
    _uncounted.inc()


def count_malformed() -> None:
    """Count a request that was refused before its route was known."""
    _malformed.inc()


def connection_opened() -> None:
    """Count a client's connection as open."""
    _connections.inc()


def connection_closed() -> None:
    """Count a client's connection as closed."""
    _connections.dec()


def set_max_connections(connections: int) -> None:
    """Record how many clients' connections this process may have."""
    _max_connections.set(connections)


def count_connection_cut(reason: str) -> None:
    """Count a connection that we closed: its client was too slow with a header, a body, or reading an answer, or there
    were too many connections (`room`)."""
    _cut_children[reason].inc()


def count_accept_failure() -> None:
    """Count a failed accept: the system had no file descriptor or memory for another connection."""
    _unaccepted.inc()


def count_purged(rows: int) -> None:
    """Count rows that a purge deleted."""
    _purged.inc(rows)


def exposition(shared: Path | None = None) -> bytes:
    """Every metric as text: of this process, or of all workers that share the folder."""
    if shared is None:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=str(shared))  # type: ignore[no-untyped-call]
    registry.register(_Processes(shared))
    return generate_latest(registry)


def worker_gone(pid: int, shared: Path) -> None:
    """Remove the gauges of a worker that has ended. Its counters stay."""
    multiprocess.mark_process_dead(pid, path=str(shared))  # type: ignore[no-untyped-call]


class _Processes(Collector):
    """CPU, memory and open files of every worker, by process id. The client reports them for a single process only."""

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
