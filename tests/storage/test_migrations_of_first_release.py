"""A database of version 0.1 is migrated to today's schema and keeps all of its rows."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nextarget.model import Millis
from nextarget.sandbox.workspace import DATABASE_FILE
from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.rows import logins, sessions, users
from nextarget.storage.upkeep import schema
from nextarget.storage.upkeep.schema import migrate, pending
from nextarget.tokens.refresh import NEW_SESSION, RefreshToken, mint
from tests.apps import refresh
from tests.contract.rows import active
from tests.running import running

RELEASED = Path(__file__).with_name("first_release.sql").read_text(encoding="utf-8")
ADA = "11111111-1111-4111-8111-111111111111"
ACTIVE = "a0000000-0000-4000-8000-000000000001"
NOW = Millis(1_770_000_000_000)
LATER_NAMES = [path.stem for path in sorted(schema._DIRECTORY.glob("[0-9]*.py"))][1:]


def released(path: Path) -> None:
    """Make the file as version 0.1 left it, with its journal mode."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = wal")
    connection.executescript(RELEASED)
    connection.close()


def rows(path: Path, columns: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    connection = sqlite3.connect(path)
    found = {
        table: connection.execute(
            "SELECT " + ", ".join(f'"{name}"' for name in names) + f' FROM "{table}" ORDER BY 1'
        ).fetchall()
        for table, names in columns.items()
    }
    connection.close()
    return found


def columns_of(path: Path) -> dict[str, list[str]]:
    connection = sqlite3.connect(path)
    found = {
        table: [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        for table in ("user", "session", "login", "audit_event")
    }
    connection.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of version 0.1. The fixture `database` is the same file, migrated and open."""
    path = tmp_path / "nextarget.db"
    released(path)
    return path


@pytest.fixture
def database(path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(path)
    migrate(database)
    database.open()
    yield database
    database.close()


def test_the_first_migration_still_makes_what_was_released(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A released migration is never changed. Otherwise new and old files would have different schemas."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    first = next(schema._DIRECTORY.glob("0001_*.py"))
    (folder / first.name).write_text(first.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(schema, "_DIRECTORY", folder)
    database = SqliteDatabase(tmp_path / "made.db")
    assert migrate(database) == ["0001_initial"]
    database.close()
    made, kept = sqlite3.connect(database.path), sqlite3.connect(path)
    statements = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2"
    assert made.execute(statements).fetchall() == kept.execute(statements).fetchall()
    made.close()
    kept.close()


def test_every_row_of_the_first_release_is_kept(path: Path) -> None:
    """All values in all tables are kept, and no row is added. A second run finds nothing to do."""
    columns = columns_of(path)
    before = rows(path, columns)
    assert all(before.values())
    database = SqliteDatabase(path)
    assert pending(database) == LATER_NAMES
    assert migrate(database) == LATER_NAMES
    assert pending(database) == []
    database.close()
    assert rows(path, columns) == before


def test_old_sessions_get_the_generations_of_a_new_one(database: SqliteDatabase) -> None:
    """Old sessions never had a refresh token, so they start with the first generation."""
    found = database.read_now(sessions.of_user, ADA)
    assert len(found) == 2
    assert {session.generations for session in found} == {NEW_SESSION}
    kept = database.read_now(active, ACTIVE, NOW)
    assert kept is not None
    assert kept[1].id == ADA


def test_foreign_keys_hold_after_migrating(database: SqliteDatabase) -> None:
    """Foreign keys are enforced again and valid. Deleting a user deletes its sessions and no others."""

    def pragma(name: str) -> list[tuple[Any, ...]]:
        return database.read_now(lambda db: db.execute_sql(f"PRAGMA {name}").fetchall())

    assert pragma("foreign_keys") == [(1,)]
    assert pragma("foreign_key_check") == []
    assert pragma("integrity_check") == [("ok",)]
    assert [(row[2], row[3], row[6]) for row in pragma("foreign_key_list('session')")] == [
        ("user", "user_id", "CASCADE")
    ]
    assert database.write_now(users.delete, ADA)
    left = database.read_now(lambda db: db.execute_sql('SELECT "id" FROM "session" ORDER BY 1').fetchall())
    assert left == [("a0000000-0000-4000-8000-000000000003",), ("a0000000-0000-4000-8000-000000000004",)]


def test_an_orphan_is_refused_after_migrating(database: SqliteDatabase) -> None:
    """The rebuilt table of sessions still refers to users."""
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        database.write_now(lambda db: db.execute_sql('UPDATE "session" SET "user_id" = \'nobody\''))


def test_a_login_under_way_at_the_upgrade_counts_as_begun_and_not_used(database: SqliteDatabase) -> None:
    """A login that was in progress is not used, and a login that was finished stays used."""
    under_way, over = ("c1", "c2"), "c3"
    assert not any(database.read_now(logins.used_at, state_digest) for state_digest in under_way)
    assert database.read_now(logins.used_at, over)


async def test_an_access_token_of_before_outlives_the_upgrade(tmp_path: Path) -> None:
    """An upgrade signs no user out: the server migrates at its start, and old sessions can be refreshed."""
    released(tmp_path / DATABASE_FILE)
    async with running(tmp_path) as server:
        token = server.runtime.access_tokens.mint(
            user_id=ADA, session_id=ACTIVE, client_id="nextarget-app", now=server.runtime.clock(), lifetime=3600
        ).token
        assert (await server.me(token)).json["email"] == "ada@x.example"
        answer = await refresh(server, mint(server.runtime.keyring, RefreshToken(ACTIVE, 1)))
        assert answer.status == 200
