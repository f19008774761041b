"""What goes wrong with a database: told in the log once a minute, counted, and tried again until it works.

However many requests fail, the log has a line for the first, and one a minute with their number. Once it is over, the
line that says so has the number of all, and no later one says that it fails. A database is under suspicion from its
first failure, in any process of this server, until a write of ours has succeeded: a node that gets no requests must
find that out by itself.
"""

import asyncio
import os
import time
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

from nextarget import telemetry
from nextarget.errors import DatabaseUnavailable
from nextarget.telemetry import metrics

MINUTE_SECONDS = 60
"""How long repetitions of a failure are only counted."""
_ERRORS: frozenset[str] = frozenset({"disk_full", "read_only", "io_error", "corrupt", "not_a_database", "cannot_open"})
"""What does not pass by itself."""
_NO_SUSPICION: frozenset[str] = frozenset({"crowded", "closed"})
"""What says nothing of the database."""
_ON_DISK: frozenset[str] = frozenset({"disk_full", "io_error"})

_failed_at = memoryview(mmap(-1, 8)).cast("d")
"""When a question last failed, by the clock that all processes of a machine share. Workers share this memory, which is
older than they: one whose own requests were lucky learns of it."""
_worked_at = memoryview(mmap(-1, 8)).cast("d")
"""When the newest write that succeeded on purpose was begun, in whichever worker."""

log = telemetry.get_logger()


@dataclass(slots=True)
class _Spell:
    """Failures for one cause that no line has told of yet; `latest` is what the next line tells."""

    latest: DatabaseUnavailable
    timer: asyncio.TimerHandle
    count: int = 0


class Trouble:
    """Of one database, called `name`, in one process. On the event loop alone. `folder` is where it is, if it is a
    file."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self._name = name
        self._folder = folder
        self._spells: dict[str, _Spell] = {}
        self._worked_at = -1.0
        self._since: float | None = None
        self._failures = 0
        self._told = False
        """Whether a line since the last end says that it fails."""

    @property
    def suspected(self) -> bool:
        """Whether a question has failed since a write was last tried on purpose; and before the first such try."""
        return self._worked_at <= _failed_at[0]

    def note(self, error: DatabaseUnavailable) -> None:
        """Count a question that failed, and tell of it, if it is the first of its kind for a minute."""
        metrics.count_database_failure(error.cause)
        if error.cause not in _NO_SUSPICION:
            _failed_at[0] = time.monotonic()
        self._failures += 1
        if self._since is None:
            self._since = time.monotonic()
        if (spell := self._spells.get(error.cause)) is not None:
            spell.latest = error
            spell.count += 1
            return
        self._tell(error, 1)
        self._spells[error.cause] = _Spell(error, self._in_a_minute(error.cause))

    def worked(self, *, since: float) -> None:
        """A write that was begun then, by `time.monotonic()`, has succeeded."""
        self._worked_at = since
        _worked_at[0] = max(_worked_at[0], since)
        if not self.suspected and self._told:  # what no line tells of can wait until the minute is over
            self._tell_end()

    def close(self) -> None:
        """Tell what has only been counted so far."""
        if self._over:
            self._tell_end()
        for spell in self._spells.values():
            with suppress(RuntimeError):  # its loop has ended
                spell.timer.cancel()
            if spell.count:
                self._tell(spell.latest, spell.count)
        self._spells.clear()

    @property
    def _over(self) -> bool:
        """Whether a write has succeeded since the last failure, in any worker."""
        return _failed_at[0] < max(self._worked_at, _worked_at[0])

    def _in_a_minute(self, cause: str) -> asyncio.TimerHandle:
        # In no request's context: what is told then is not of one.
        return asyncio.get_running_loop().call_later(MINUTE_SECONDS, self._minute_over, cause, context=Context())

    def _minute_over(self, cause: str) -> None:
        spell = self._spells[cause]
        counted = spell.count
        if counted and (cause in _NO_SUSPICION or not self._over):
            self._tell(spell.latest, counted)
            spell.count = 0
        elif self._over:
            self._tell_end()
        if counted:
            spell.timer = self._in_a_minute(cause)
        else:
            del self._spells[cause]

    def _tell(self, error: DatabaseUnavailable, count: int) -> None:
        facts = {"cause": error.cause, "reason": error.note, "database": self._name, "failures": count}
        if error.remedy:
            facts["remedy"] = error.remedy
        if error.cause in _ON_DISK and self._folder is not None:
            with suppress(OSError):
                disk = os.statvfs(self._folder)
                facts["free_bytes"] = disk.f_bavail * disk.f_frsize
        tell = log.error if error.cause in _ERRORS else log.warning
        tell("database_unavailable", **facts)
        self._told = True

    def _tell_end(self) -> None:
        """Once for all that failed, told or only counted, and as loud."""
        if self._since is None:
            return
        log.warning(
            "database_available",
            database=self._name,
            failures=self._failures,
            seconds=round(time.monotonic() - self._since),
        )
        self._since, self._failures, self._told = None, 0, False
        for spell in self._spells.values():
            spell.count = 0
