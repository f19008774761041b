"""Purging deletes expired rows in small batches, and no others."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nextarget.model import AuditEvent, Identity, Login, LoginMode, Millis, Provider, Session
from nextarget.services import accounts, purging
from nextarget.services.purging import HOUR_MS
from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.database import Connection
from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.rows import audit, logins, nonces, sessions
from nextarget.storage.upkeep import purge
from nextarget.storage.upkeep.schema import migrate
from nextarget.telemetry import get_logger
from nextarget.tokens.refresh import NEW_SESSION
from tests.running import Server, running

NOW = Millis(1_800_000_000_000)
TABLES = ("user", "session", "login", "nonce", "audit_event")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """An empty database."""
    made = SqliteDatabase(tmp_path / "nextarget.db")
    migrate(made)
    yield made
    made.close()


def counts(database: SqliteDatabase) -> dict[str, int]:
    """The number of rows in every table."""

    def count(db: Connection) -> dict[str, int]:
        return {table: db.execute_sql(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in TABLES}

    return database.read_now(count)


def fill(db: Connection, number: int, when: Millis) -> None:
    """Rows of every kind that expire or happened at this moment."""
    user = accounts.admit(db, Identity(Provider("google"), "ada", "ada@x.example", email_verified=True), now=NOW)
    for index in range(number):
        name = f"{when}-{index}"
        login = Login(name, name, Provider("google"), LoginMode.JSON, NOW, when)
        logins.use(db, login, user_id=user.id, session_id=name, now=when)
        nonces.use(db, name, purpose=nonces.NATIVE, expires_at=when)
        sessions.add(db, session_at(user.id, name, when))
        audit.record(db, AuditEvent(when, "login_succeeded"))


def session_at(user_id: str, name: str, expires_at: Millis) -> Session:
    """A session that expires at this moment."""
    return Session(name, user_id, "nextarget-app", None, NOW, expires_at, None, NEW_SESSION)


def test_what_is_over_goes_and_what_stands_stays(database: SqliteDatabase) -> None:
    """Sessions are deleted at their expiry, used states and nonces an hour later, events after their retention, and
    users never."""
    days = 30
    database.write_now(fill, 3, Millis(NOW - 31 * DAY_MS))
    database.write_now(fill, 2, Millis(NOW - HOUR_MS))
    database.write_now(fill, 4, Millis(NOW + 1))
    assert database.write_now(purging.one_batch, now=NOW, audit_days=days) == 3 * 4 + 2
    assert counts(database) == {"user": 1, "session": 4, "login": 6, "nonce": 6, "audit_event": 6}
    assert database.write_now(purging.one_batch, now=NOW, audit_days=days) == 0


def test_one_transaction_deletes_no_more_than_a_batch(database: SqliteDatabase) -> None:
    """A transaction deletes at most one batch, whatever the tables, so that other writes wait only shortly."""
    database.write_now(fill, purge.BATCH + 1, Millis(NOW - 31 * DAY_MS))
    for _ in range(4):
        assert database.write_now(purging.one_batch, now=NOW, audit_days=1) == purge.BATCH
    assert database.write_now(purging.one_batch, now=NOW, audit_days=1) == 4
    assert set(counts(database).values()) == {0, 1}


async def test_a_running_server_purges_by_itself_and_goes_on_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server soon deletes the rows that expired while it was down."""
    monkeypatch.setattr(purging, "START_SECONDS", 0)
    async with running(tmp_path) as first:
        await first.runtime.database.write(fill, 3, Millis(1))
    async with running(tmp_path) as server:
        await until_purged(server)
        assert counts(server.runtime.database)["session"] == 0
        signed_in = await server.sign_in()
        assert (await server.me(signed_in.json["access_token"])).status == 200


async def until_purged(server: Server) -> None:
    """Wait until the server has purged."""
    async with asyncio.timeout(30):
        while counts(server.runtime.database)["nonce"]:
            await asyncio.sleep(0)


async def test_purging_goes_on_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed purge is logged, and the next one runs as usual."""
    monkeypatch.setattr(purging, "PERIOD_SECONDS", 0)
    monkeypatch.setattr(purging, "START_SECONDS", 0)
    monkeypatch.setattr(purging, "log", get_logger())  # a logger that captures its output, because it was not used yet
    made = SqliteDatabase(tmp_path / "nextarget.db")
    migrate(made)
    with capture_logs() as lines:  # the database is not open yet, so the first purge fails
        task = asyncio.create_task(purging.purge_for_ever(made, clock=lambda: NOW, audit_days=1))
        async with asyncio.timeout(30):
            while not any(line["event"] == "purge_failed" for line in lines):
                await asyncio.sleep(0)
    made.open()
    await made.write(fill, 2, Millis(NOW - 31 * DAY_MS))
    async with asyncio.timeout(30):
        while counts(made)["nonce"]:
            await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    made.close()
