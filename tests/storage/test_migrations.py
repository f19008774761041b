"""How a SQLite file gets the schema of this program, for any previous content and any number of processes."""

import sqlite3
from pathlib import Path
from typing import Any

import peewee as pw
import pytest
from playhouse.migrations import Runner

from nextarget.errors import SchemaError
from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.rows import sessions, users
from nextarget.storage.rows.tables import TABLES
from nextarget.storage.upkeep import schema
from nextarget.storage.upkeep.schema import migrate, pending
from tests.contract.databases import run_together
from tests.contract.rows import NOW, add_session, admit

SHIPPED = schema._DIRECTORY
NAMES = [path.stem for path in sorted(SHIPPED.glob("[0-9]*.py"))]
HISTORY = "schema_migration"


def described(path: Path) -> dict[str, Any]:
    """A schema in comparable form, without the text of the statements that made it."""
    connection = sqlite3.connect(path)

    def rows(pragma: str, name: str) -> list[tuple[Any, ...]]:
        return connection.execute(f"SELECT * FROM pragma_{pragma}(?)", (name,)).fetchall()

    tables = "FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    found = {}
    for name, by_key in connection.execute(f"SELECT name, sql LIKE '%WITHOUT ROWID' {tables}").fetchall():
        indexes = {
            (unique, origin, tuple(row[1:] for row in rows("index_info", index)))
            for _, index, unique, origin, _ in rows("index_list", name)
        }
        columns = [
            (column, kind, notnull, default, key) for _, column, kind, notnull, default, key in rows("table_info", name)
        ]
        foreign_keys = rows("foreign_key_list", name)
        found[name] = {"columns": columns, "indexes": indexes, "foreign_keys": foreign_keys, "by_key": by_key}
    connection.close()
    return found


def with_migrations(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """Makes the program ship these migrations in addition to its own."""
    folder.mkdir()
    for path in SHIPPED.glob("[0-9]*.py"):
        (folder / path.name).write_text(path.read_text())
    for name, body in files.items():
        (folder / f"{name.removeprefix('m')}.py").write_text(body)
    monkeypatch.setattr(schema, "_DIRECTORY", folder)


def test_migrating_makes_what_tables_py_declares(path: Path, tmp_path: Path) -> None:
    """The migrations and tables.py agree on columns, types, nullability, indexes and foreign keys."""
    migrated = SqliteDatabase(path)
    assert migrate(migrated) == NAMES
    migrated.close()
    declared = pw.SqliteDatabase(tmp_path / "declared.db")
    with declared.bind_ctx(TABLES):
        declared.create_tables(TABLES)
    declared.close()
    found = described(path)
    assert HISTORY in found
    del found[HISTORY]
    assert found == described(tmp_path / "declared.db")


def test_users_and_sessions_lie_in_the_order_of_their_ids(path: Path) -> None:
    """Both tables are stored by their key, so that a profile reads two pages of a large file instead of four."""
    database = SqliteDatabase(path)
    migrate(database)
    database.close()
    assert {name for name, table in described(path).items() if table["by_key"]} == {"user", "session"}


def test_every_column_is_required_unless_it_is_declared_otherwise(path: Path) -> None:
    """The comparison of schemas includes nullability, keys and cascades."""
    database = SqliteDatabase(path)
    migrate(database)
    database.close()
    session = described(path)["session"]
    assert ("user_id", "TEXT", 1, None, 0) in session["columns"]
    assert ("revoked_at", "INTEGER", 0, None, 0) in session["columns"]
    assert [(row[2], row[3], row[6]) for row in session["foreign_keys"]] == [("user", "user_id", "CASCADE")]


def test_migrating_again_changes_nothing(path: Path) -> None:
    """A second run applies nothing and keeps every row."""
    database = SqliteDatabase(path)
    assert pending(database) == NAMES
    assert migrate(database) == NAMES
    user = database.write_now(admit)
    assert pending(database) == []
    assert migrate(database) == []
    assert database.read_now(users.page) == [user]
    database.close()


def test_asking_what_is_pending_never_creates_the_file(path: Path) -> None:
    """`init-db --check` does not create a missing file."""
    database = SqliteDatabase(path)
    assert pending(database) == NAMES
    assert list(path.parent.iterdir()) == []


def test_asking_what_is_pending_changes_no_file(path: Path) -> None:
    """The check changes neither an empty file nor a file of another program, and reports the latter."""
    path.write_bytes(b"")
    assert pending(SqliteDatabase(path)) == NAMES
    assert path.read_bytes() == b""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipe (title TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=r"another program \(recipe\)"):
        pending(SqliteDatabase(path))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


MIGRATE = """
import sys
from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.upkeep.schema import migrate

print("ready", flush=True)
sys.stdin.readline()
database = SqliteDatabase(sys.argv[1])
print(*migrate(database))
database.close()
"""


@pytest.mark.slow
def test_ten_processes_that_migrate_at_once_migrate_once(path: Path) -> None:
    """Of ten processes one migrates. The others wait for it and find nothing left to do."""
    outcomes = run_together(MIGRATE, [[str(path)]] * 10)
    assert sorted(outcomes) == [[""]] * 9 + [[" ".join(NAMES)]]
    connection = sqlite3.connect(path)
    assert [row[0] for row in connection.execute(f"SELECT name FROM {HISTORY} ORDER BY name")] == NAMES
    connection.close()


def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    """A database of a newer version is refused, because its schema is not known. The error names the unknown
    migration."""
    database = SqliteDatabase(path)
    migrate(database)
    database.close()
    connection = sqlite3.connect(path)
    connection.execute(f"INSERT INTO {HISTORY} (name, applied) VALUES ('9999_from_the_future', '2099-01-01')")
    connection.commit()
    connection.close()
    for ask in (migrate, pending):
        with pytest.raises(SchemaError, match="9999_from_the_future"):
            ask(database)
    database.close()


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    """A file with tables of another program is refused and stays unchanged."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipe (title TEXT)")
    connection.execute("INSERT INTO recipe VALUES ('Soup')")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    database = SqliteDatabase(path)
    with pytest.raises(SchemaError, match="another program"):
        migrate(database)
    database.close()
    assert path.read_bytes() == before


def test_a_first_start_that_was_cut_short_is_taken_up_again(path: Path) -> None:
    """If a process was killed after making the table of migrations and before its first row, the next start migrates
    the file."""
    connection = sqlite3.connect(path)
    database = SqliteDatabase(path)
    with database.schema_changes() as db:
        Runner(db, str(SHIPPED)).History.create_table()
    database.close()
    connection.close()
    assert migrate(database) == NAMES
    assert database.write_now(admit)
    database.close()


REBUILD = """
def up(migrator, db):
    migrator.migrate(migrator.drop_column("user", "email_verified", legacy=True))
"""
REBUILD_BY_HAND = """
def up(migrator, db):
    db.execute_sql('CREATE TABLE "rebuilt" AS SELECT * FROM "user"')
    db.execute_sql('DELETE FROM "user"')
    db.execute_sql('INSERT INTO "user" SELECT * FROM "rebuilt"')
    db.execute_sql('DROP TABLE "rebuilt"')
"""


@pytest.mark.parametrize("body", [REBUILD, REBUILD_BY_HAND], ids=["by the migrator", "by hand"])
def test_rebuilding_a_table_keeps_the_rows_that_refer_to_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    """Foreign keys are off during a migration, so that refilling `user` does not delete its sessions."""
    database = SqliteDatabase(path)
    migrate(database)
    made = [database.write_now(admit) for _ in range(3)]
    kept = [database.write_now(add_session, user) for user in made]
    with_migrations(tmp_path / "migrations", monkeypatch, m9000_rebuild=body)
    assert migrate(database) == ["9000_rebuild"]
    rows = database.read_now(lambda db: db.execute_sql('SELECT "id", "user_id" FROM "session"').fetchall())
    assert sorted(rows) == sorted((session.id, session.user_id) for session in kept)
    assert database.read_now(lambda db: db.execute_sql("PRAGMA foreign_key_check").fetchall()) == []
    database.write_now(users.delete, made[0].id)
    assert len(database.read_now(sessions.of_user, made[0].id, active_at=NOW)) == 0
    assert len(database.read_now(sessions.of_user, made[1].id, active_at=NOW)) == 1
    database.close()


@pytest.mark.parametrize(
    "body",
    [
        "def up(migrator, db):\n    db.execute_sql('CREATE TABLE half (id)')\n    db.execute_sql('NOT SQL')\n",
        "def up(migrator, db):\n    db.execute_sql('DELETE FROM \"user\"')\n    db.execute_sql('SELECT missing')\n",
        "nothing_to_do = True\n",
    ],
)
def test_a_migration_that_fails_leaves_everything_as_it_was(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    """A failed migration is rolled back, reported in one sentence, and can be tried again."""
    database = SqliteDatabase(path)
    migrate(database)
    user = database.write_now(admit)
    database.close()
    before = described(path)
    with_migrations(tmp_path / "migrations", monkeypatch, m9000_broken=body)
    for _ in range(2):
        with pytest.raises(SchemaError, match="could not be migrated and is as it was"):
            migrate(database)
    assert database.read_now(users.page) == [user]
    database.close()
    assert described(path) == before
    assert pending(database) == ["9000_broken"]


def test_the_path_may_hold_any_character(tmp_path: Path) -> None:
    """A folder may have `?`, `#`, `%` and spaces in its name."""
    folder = tmp_path / "a b?mode=ro#c%41"
    folder.mkdir()
    database = SqliteDatabase(folder / "next target.db")
    assert migrate(database) == NAMES
    assert migrate(database) == []
    assert database.path.exists()
    database.close()


def test_who_migrates_between_two_looks_is_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that starts while another one migrates sees no history, and a moment later the tables."""
    database = SqliteDatabase(tmp_path / "nextarget.db")
    schema.migrate(database)
    applied, looks = schema._applied, [set[str]()]
    monkeypatch.setattr(schema, "_applied", lambda db: looks.pop() if looks else applied(db))
    assert schema.migrate(database) == []
    database.close()
