"""What a server can do on a SQLite file while an operator's command is under way: write, and empty its log.

Only a reader of one moment keeps the write-ahead log from being emptied (sqlite.org/wal.html, 2.2).
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee as pw
import pytest

from nextarget.model import AuditEvent, Identity, Millis, Provider
from nextarget.services import accounts, purging
from nextarget.services.operator import record, users
from nextarget.services.operator.record import EventFilter, list_events
from nextarget.services.operator.users import UserFilter, list_users
from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.rests import MAX_REST_SECONDS, rest_after
from nextarget.storage.engines.sqlite import SqliteDatabase, connection
from nextarget.storage.rows import audit
from nextarget.storage.upkeep import backup, copying, purge
from nextarget.storage.upkeep.schema import migrate

NOW = Millis(1_800_000_000_000)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """The database as a command opens it, with ten users and ten expired events."""
    made = SqliteDatabase(tmp_path / "nextarget.db")
    migrate(made)
    for number in range(10):
        who = Identity(Provider("google"), str(number), f"{number}@x.example", email_verified=True)
        made.write_now(accounts.admit, who, now=Millis(NOW + number))
        made.write_now(audit.record, AuditEvent(NOW, "login_succeeded"))
    yield made
    made.close()


@pytest.fixture
def server(database: SqliteDatabase) -> Iterator[sqlite3.Connection]:
    """A connection of another process. It waits for no lock: a lock that is held is an error at once."""
    with closing(sqlite3.connect(database.path, isolation_level=None, timeout=0)) as other_process:
        yield other_process


def write(server: sqlite3.Connection) -> None:
    server.execute("INSERT INTO nonce VALUES (hex(randomblob(16)), 'native', 9e15)")


def emptied(server: sqlite3.Connection) -> bool:
    """Whether the log could be copied into the file and emptied."""
    busy, left, _ = server.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return (busy, left) == (0, 0)


def copied_in_part(server: sqlite3.Connection) -> bool:
    """Whether the older part of the log could be copied into the file, while the newer part has to stay."""
    busy, frames, copied = server.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return not busy and 0 < copied < frames


def test_users_are_listed_without_keeping_the_log(
    database: SqliteDatabase, server: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page is a read of its own. Between two of them a server writes, and empties its log."""
    monkeypatch.setattr(users, "PAGE", 3)
    for found in list_users(database, UserFilter()):
        write(server)
        assert emptied(server), found


def test_a_write_gets_in_between_two_slices_of_a_purge(
    database: SqliteDatabase, server: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the log can be emptied there. The purge holds nothing while it rests."""
    monkeypatch.setattr(purge, "BATCH", 2)
    slices = []
    for deleted in purging.purge_here(database, now=Millis(NOW + 400 * DAY_MS), audit_days=1):
        slices.append(deleted)
        write(server)
        assert emptied(server)
    assert slices == [2] * 5


def test_a_backup_lets_others_write_and_copy_the_log(
    database: SqliteDatabase, server: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup reads one moment. Of the log, what is older can be copied into the file meanwhile; what is newer stays
    in the log until the backup is written, and no longer: it is checked without the database."""
    asked = []

    def sync(_descriptor: int) -> None:
        write(server)
        asked.append((copied_in_part(server), emptied(server)))

    def check(part: Path) -> None:
        asked.append((part.exists(), emptied(server)))

    monkeypatch.setattr(connection, "SLICE", 100)
    with monkeypatch.context() as while_it_is_written:
        while_it_is_written.setattr(os, "fsync", sync)
        while_it_is_written.setattr(backup, "_check", check)
        backup.back_up(database, tmp_path / "backup.db")
    *written, checked, _synced, _ = asked  # the finished file and its folder are synced too
    assert set(written) == {(True, False)}
    assert checked == (True, True)


def test_a_backup_rests_while_it_is_written_and_while_it_is_checked(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both take as long as the database is large, and a server needs the same cores and the same disk."""
    rests: list[float] = []
    check, before_the_check = backup._check, []

    def counted(part: Path) -> None:
        before_the_check.append(len(rests))
        check(part)

    monkeypatch.setattr(connection, "SLICE", 100)
    monkeypatch.setattr(time, "sleep", rests.append)
    monkeypatch.setattr(backup, "_check", counted)
    backup.back_up(database, tmp_path / "backup.db")
    assert 0 < before_the_check[0] < len(rests)
    assert min(rests) > 0


def test_a_copy_lets_others_write_and_copy_the_log(
    database: SqliteDatabase, server: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a backup does. A copy reads one moment from its first row to its last."""
    asked = []
    insert = copying._insert

    def insert_late(db: pw.Database, table: type[pw.Model], page: list[Any]) -> None:
        write(server)
        asked.append((copied_in_part(server), emptied(server)))
        insert(db, table, page)

    monkeypatch.setattr(copying, "_insert", insert_late)
    other = SqliteDatabase(tmp_path / "other.db")
    copying.copy(database, other)
    other.close()
    assert set(asked) == {(True, False)}
    assert emptied(server)


def test_a_rest_is_four_times_the_work_and_at_most_a_second() -> None:
    """A slice that waited for a slow disk makes nobody wait for minutes."""
    assert [rest_after(seconds) for seconds in (0, 0.01, 0.2, 60)] == [0, 0.04, 0.8, MAX_REST_SECONDS]


@pytest.fixture
def rested(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The rests that were taken. They take no time."""
    taken: list[float] = []
    monkeypatch.setattr(time, "sleep", taken.append)
    return taken


@pytest.mark.parametrize("rests", [True, False])
def test_lists_rest_between_two_pages_where_nobody_waits(
    database: SqliteDatabase, rested: list[float], monkeypatch: pytest.MonkeyPatch, rests: bool
) -> None:
    """Four pages of ten users, and six pieces of ten events: only an empty piece tells that no event is left."""
    monkeypatch.setattr(users, "PAGE", 3)
    assert len(list(list_users(database, UserFilter(), rests=rests))) == 10
    assert len(rested) == (3 if rests else 0)
    rested.clear()
    monkeypatch.setattr(record, "PIECE", 2)
    assert len(list(list_events(database, EventFilter(), rests=rests))) == 10
    assert len(rested) == (5 if rests else 0)
    assert all(seconds > 0 for seconds in rested)


@pytest.mark.parametrize("rests", [True, False])
def test_a_copy_rests_after_every_page_that_it_writes_or_reads_back(
    database: SqliteDatabase, tmp_path: Path, rested: list[float], monkeypatch: pytest.MonkeyPatch, rests: bool
) -> None:
    """Unless it is to be fast, because no server runs."""
    monkeypatch.setattr(copying, "BATCH", 3)
    other = SqliteDatabase(tmp_path / "other.db")
    rows = copying.copy(database, other, rests=rests)
    other.close()
    pages = sum(-(-count // 3) for count in rows.values())
    assert len(rested) == (2 * pages if rests else 0)
    assert pages >= 8


def test_a_purge_rests_after_every_slice(
    database: SqliteDatabase, rested: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the writes of a server seldom wait for it."""
    monkeypatch.setattr(purge, "BATCH", 2)
    slices = list(purging.purge_here(database, now=Millis(NOW + 400 * DAY_MS), audit_days=1))
    assert len(rested) == len(slices) == 5
