"""Purging: how much one call deletes, and what an operator learns of it."""

import asyncio

import pytest
from structlog.testing import capture_logs

from nextarget.errors import DatabaseUnavailable
from nextarget.model import AuditEvent, Millis
from nextarget.services import purging
from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import audit
from nextarget.storage.upkeep import purge
from nextarget.telemetry import get_logger
from tests.services.conftest import START

DAYS = 365


@pytest.fixture
def expired(database: Database, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of expired rows, which are more than one batch; another row has not expired yet."""
    monkeypatch.setattr(purge, "BATCH", 2)
    limit = START - DAYS * DAY_MS
    for at in (limit - 1,) * 5 + (limit,):
        database.write_now(audit.record, AuditEvent(Millis(at), "login_succeeded"))
    return 5


async def test_a_purge_goes_on_until_nothing_is_left_and_returns_the_sum(database: Database, expired: int) -> None:
    """Of the event loop and of the terminal. A row that expires at this millisecond is not deleted yet."""
    assert await purging.purge_now(database, now=START, audit_days=DAYS) == expired
    assert await purging.purge_now(database, now=START, audit_days=DAYS) == 0
    assert database.read_now(purging.due, now=Millis(START + 1), audit_days=DAYS) == 1


def test_the_terminal_learns_of_every_batch(database: Database, expired: int) -> None:
    """So that a person who waits sees how far the purge is."""
    assert database.read_now(purging.due, now=START, audit_days=DAYS) == expired
    assert list(purging.purge_here(database, now=START, audit_days=DAYS)) == [2, 2, 1]
    assert database.read_now(purging.due, now=START, audit_days=DAYS) == 0


async def test_a_purge_that_deleted_rows_is_one_line_of_the_log(
    database: Database, expired: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line has their number, so that an operator sees that the server purges."""
    monkeypatch.setattr(purging, "START_SECONDS", 0)
    monkeypatch.setattr(purging, "log", get_logger())  # the module's own has settled on where it writes
    with capture_logs() as lines:
        task = asyncio.create_task(purging.purge_for_ever(database, clock=lambda: START, audit_days=DAYS))
        async with asyncio.timeout(30):
            while not lines:
                await asyncio.sleep(0)
        task.cancel()
    assert lines == [{"event": "purged", "rows": expired, "log_level": "info"}]


async def test_a_purge_that_fails_is_a_warning_with_the_reason(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next purge tries again, about ten minutes later: at most a tenth of that earlier or later."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 200:
            raise asyncio.CancelledError

    async def fails(*_: object, **__: object) -> int:
        raise DatabaseUnavailable(note="away")

    monkeypatch.setattr(purging, "START_SECONDS", 0)
    monkeypatch.setattr(purging, "log", get_logger())
    monkeypatch.setattr(purging, "purge_now", fails)
    monkeypatch.setattr(purging.asyncio, "sleep", sleep)
    with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await purging.purge_for_ever(database, clock=lambda: START, audit_days=DAYS)
    assert lines[0] == {"event": "purge_failed", "reason": "away", "log_level": "warning"}
    assert len(lines) == 200
    assert pauses[0] == 0
    assert 540 <= min(pauses[1:]) < 560
    assert 640 < max(pauses[1:]) <= 660
