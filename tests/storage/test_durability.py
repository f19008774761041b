"""Acknowledged writes survive a crash, and many processes share one file."""

import signal
import sqlite3
from pathlib import Path

import pytest

from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.rows import users
from tests.contract.databases import run_together, start

WRITE_FOREVER = """
import asyncio, sys, uuid
from nextarget.model import Identity, Provider
from nextarget.storage.rows import users
from nextarget.storage.engines.sqlite import SqliteDatabase

async def write(database):
    while True:
        new_id = str(uuid.uuid4())
        who = Identity(Provider("google"), new_id, f"{new_id}@x.example", True)
        await database.write(users.admit, who, subject_digest=new_id, new_id=new_id, now=1)
        print(new_id, flush=True)

async def main(address):
    database = SqliteDatabase(address)
    database.open()
    await asyncio.gather(*(write(database) for _ in range(8)))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_crash_loses_nothing_that_was_acknowledged(database: SqliteDatabase, path: Path) -> None:
    """A process that is killed while it writes leaves an intact file with all acknowledged writes."""
    for _ in range(3):
        with start(WRITE_FOREVER, str(path)) as process:
            acknowledged = [process.stdout.readline() for _ in range(200)]
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL
        ids = {line.strip() for line in acknowledged if line.endswith("\n")}
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        kept = {row[0] for row in connection.execute('SELECT "id" FROM "user"')}
        connection.close()
        assert len(ids) >= 200
        assert ids - kept == set()
    assert len(database.read_now(users.page, size=100_000)) >= 600


def test_the_disk_is_asked_to_keep_every_commit(database: SqliteDatabase) -> None:
    """The settings that make a sign-out survive a power cut: write-ahead log, synchronous FULL, foreign keys and a busy
    timeout."""
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    for name, value in expected.items():
        assert database.read_now(lambda db, name=name: db.pragma(name)) == value


async def test_the_writer_keeps_the_same_rules(database: SqliteDatabase) -> None:
    """The connection of the writer has the same settings."""
    assert await database.write(lambda db: (db.pragma("synchronous"), db.pragma("foreign_keys"))) == (2, 1)


WRITE_MANY = """
import asyncio, sys, uuid
from nextarget.model import Identity, Provider
from nextarget.storage.rows import users
from nextarget.storage.engines.sqlite import SqliteDatabase

async def main(address, name):
    database = SqliteDatabase(address)
    database.open()
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(60):
        who = Identity(Provider("google"), name, None, False)
        digest = f"{name} {number}"
        await database.write(users.admit, who, subject_digest=digest, new_id=str(uuid.uuid4()), now=number)
        database.write_now(users.set_active, "nobody", active=True)
        print(len(await database.read(users.page)))
    database.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
def test_processes_that_write_at_once_wait_for_each_other(database: SqliteDatabase, path: Path) -> None:
    """Six processes write to one file from two threads. No write fails with `database is locked`."""
    seen = run_together(WRITE_MANY, [[str(path), name] for name in "abcdef"])
    assert len(database.read_now(users.page, size=1000)) == 6 * 60
    for lines in seen:
        counts = [int(line) for line in lines]
        assert counts == sorted(counts)
        assert len(counts) == 60
