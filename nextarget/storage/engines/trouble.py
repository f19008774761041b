"""Failures of a database: logs them, counts them, and tests with probe writes whether the database works again.

However many requests fail, the log has one line for the first failure of a kind, then one line a minute with the number
of further failures. The first write that succeeds again is logged with the number of all failures, and no later line
says that the database fails.

A database is suspected from the first failure, in any process of this server, until one of our probe writes succeeds.
A node without requests finds out in this way that its database works again.
"""

import asyncio
import os
import secrets
import time
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

import peewee as pw

from nextarget import telemetry
from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.statements import Statement
from nextarget.telemetry import metrics

MINUTE_SECONDS = 60
"""For how long further failures of one kind are counted instead of logged."""
_ERRORS: frozenset[str] = frozenset({"disk_full", "read_only", "io_error", "corrupt", "not_a_database", "cannot_open"})
"""Causes that need an operator. They are logged as errors, the others as warnings."""
_OUR_LIMITS: frozenset[str] = frozenset({"crowded", "closed"})
"""Causes in this process. They say nothing about the database."""
_ON_DISK: frozenset[str] = frozenset({"disk_full", "io_error"})

_PROBE_BYTES = 128 * 1024
"""More than a sign-in writes: if a probe fits on a disk that is nearly full, sign-ins do too."""
_ADD_PROBE = Statement('INSERT INTO "audit_event" ("at", "event", "detail") VALUES (0, \'write_probe\', {0})')
_REMOVE_PROBE = Statement('DELETE FROM "audit_event" WHERE "at" = 0 AND "event" = \'write_probe\'')

_failed_at = memoryview(mmap(-1, 8)).cast("d")
"""When the last failure was, by the machine's monotonic clock. The memory is shared: the workers are forked after it is
mapped, so a worker without failures of its own sees those of the others."""
_probed_at = memoryview(mmap(-1, 8)).cast("d")
"""When the last successful probe write began, in any worker."""

log = telemetry.get_logger()


def fill_probe(db: pw.Database) -> None:
    """Write a probe of random text, which cannot be compressed. Before, remove a probe that a killed process left."""
    _REMOVE_PROBE.run(db, ())
    _ADD_PROBE.run(db, (secrets.token_hex(_PROBE_BYTES // 2),))


def clear_probe(db: pw.Database) -> None:
    """Remove the probe. Call it in a second transaction: data removed before the commit may never reach the disk."""
    _REMOVE_PROBE.run(db, ())


@dataclass(slots=True)
class _Repeated:
    """Failures for one cause since the last log line about it. `latest` is the one that the next line shows."""

    latest: DatabaseUnavailable
    timer: asyncio.TimerHandle
    count: int = 0


class Trouble:
    """The failures of one database, called `name`, in one process. Use it on the event loop only. `folder` is the
    folder of a database that is a file."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self._name = name
        self._folder = folder
        self._repeated: dict[str, _Repeated] = {}
        self._probed_at = -1.0
        self._failing_since: float | None = None
        self._failures = 0
        self._logged = False
        """Whether the log says that the database fails, and does not yet say that it works again."""

    @property
    def suspected(self) -> bool:
        """Whether there was a failure after this process's last probe write. True before the first probe, too."""
        return self._probed_at <= _failed_at[0]

    def note(self, error: DatabaseUnavailable) -> None:
        """Count a failure. Log it if it is the first of its cause for a minute."""
        metrics.count_database_failure(error.cause)
        if error.cause not in _OUR_LIMITS:
            _failed_at[0] = time.monotonic()
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        if (repeated := self._repeated.get(error.cause)) is not None:
            repeated.latest = error
            repeated.count += 1
            return
        self._log_failure(error, 1)
        self._repeated[error.cause] = _Repeated(error, self._in_a_minute(error.cause))

    def probe_succeeded(self, *, since: float) -> None:
        """A probe write succeeded that began at `since`, by `time.monotonic()`."""
        self._probed_at = since
        _probed_at[0] = max(_probed_at[0], since)
        if not self.suspected and self._logged:  # failures that are only counted wait for the end of the minute
            self._log_recovery()

    def close(self) -> None:
        """Log the failures that were only counted so far."""
        if self._has_recovered:
            self._log_recovery()
        for repeated in self._repeated.values():
            with suppress(RuntimeError):  # the timer's event loop is closed
                repeated.timer.cancel()
            if repeated.count:
                self._log_failure(repeated.latest, repeated.count)
        self._repeated.clear()

    @property
    def _has_recovered(self) -> bool:
        """Whether a probe write succeeded after the last failure, in any worker."""
        return _failed_at[0] < max(self._probed_at, _probed_at[0])

    def _in_a_minute(self, cause: str) -> asyncio.TimerHandle:
        # In an empty context: the line is about many requests, and must not carry the id of one.
        return asyncio.get_running_loop().call_later(MINUTE_SECONDS, self._end_minute, cause, context=Context())

    def _end_minute(self, cause: str) -> None:
        repeated = self._repeated[cause]
        counted = repeated.count
        if counted and (cause in _OUR_LIMITS or not self._has_recovered):
            self._log_failure(repeated.latest, counted)
            repeated.count = 0
        elif self._has_recovered:
            self._log_recovery()
        if counted:
            repeated.timer = self._in_a_minute(cause)
        else:
            del self._repeated[cause]

    def _log_failure(self, error: DatabaseUnavailable, count: int) -> None:
        facts = {"cause": error.cause, "reason": error.note, "database": self._name, "failures": count}
        if error.remedy:
            facts["remedy"] = error.remedy
        if error.cause in _ON_DISK and self._folder is not None:
            with suppress(OSError):
                disk = os.statvfs(self._folder)
                facts["free_bytes"] = disk.f_bavail * disk.f_frsize
        write = log.error if error.cause in _ERRORS else log.warning
        write("database_unavailable", **facts)
        self._logged = True

    def _log_recovery(self) -> None:
        """Log that the database works again, with the number of all failures, logged or counted."""
        if self._failing_since is None:
            return
        log.warning(
            "database_available",
            database=self._name,
            failures=self._failures,
            seconds=round(time.monotonic() - self._failing_since),
        )
        self._failing_since, self._failures, self._logged = None, 0, False
        for repeated in self._repeated.values():
            repeated.count = 0
