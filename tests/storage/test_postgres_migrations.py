"""How a PostgreSQL database gets the schema of this program, for any previous content and any number of nodes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee as pw
import psycopg
import pytest
from playhouse.migrations import Runner

from nextarget.errors import SchemaError
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import users
from nextarget.storage.rows.tables import TABLES
from nextarget.storage.upkeep.schema import migrate, pending
from tests.contract.databases import run_together, start
from tests.contract.rows import admit
from tests.postgres import Cluster
from tests.storage.test_migrations import HISTORY, NAMES, SHIPPED, with_migrations

COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace
"""
INDEXES = (
    "SELECT tablename, regexp_replace(indexdef, 'INDEX .* ON', 'INDEX ON') FROM pg_indexes WHERE schemaname = 'public'"
)


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return sorted(cursor.fetchall()) if cursor.description else []


def described(url: str) -> list[list[tuple[Any, ...]]]:
    """Columns, constraints and indexes without their names, except those of the table of migrations."""
    found = [ask(url, statement) for statement in (COLUMNS, CONSTRAINTS, INDEXES)]
    return [[row for row in rows if row[0] != HISTORY] for rows in found]


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    database = database_at(postgres_url)
    yield database
    database.close()


def test_migrating_makes_what_tables_py_declares(
    database: Database, postgres_url: str, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migrations and tables.py agree on columns, types, nullability, indexes and foreign keys."""
    for table in TABLES:
        monkeypatch.setattr(table._meta, "without_rowid", False)  # otherwise Peewee would send it to PostgreSQL too
    assert pending(database) == NAMES
    assert migrate(database) == NAMES
    assert (pending(database), migrate(database)) == ([], [])
    url = postgres.create_database()
    declared = pw.PostgresqlDatabase(url, prefer_psycopg3=True)
    with declared.bind_ctx(TABLES):
        declared.create_tables(TABLES)
    declared.close()
    columns, constraints, indexes = described(postgres_url)
    assert [columns, constraints, indexes] == described(url)
    assert ("session", "rotated_at", "bigint", "NO", "") in columns
    assert ("session", 'FOREIGN KEY (user_id) REFERENCES "user"(id) ON DELETE CASCADE') in constraints
    code_index = "CREATE UNIQUE INDEX ON public.login USING btree (code_digest) WHERE (code_digest IS NOT NULL)"
    assert ("login", code_index) in indexes
    postgres.drop_database(url)


MIGRATE = """
import sys
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.upkeep.schema import migrate

print("ready", flush=True)
sys.stdin.readline()
print(*migrate(database_at(sys.argv[1])))
"""


@pytest.mark.slow
def test_ten_nodes_that_start_at_once_migrate_once(postgres_url: str) -> None:
    """Of ten nodes one migrates. The others wait for it and find nothing left to do."""
    outcomes = run_together(MIGRATE, [[postgres_url]] * 10)
    assert sorted(outcomes) == [[""]] * 9 + [[" ".join(NAMES)]]
    assert [name for (name,) in ask(postgres_url, f"SELECT name FROM {HISTORY}")] == NAMES


HOLD = """
import sys
from nextarget.storage.engines.addresses import database_at

with database_at(sys.argv[1]).migration_lock():
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_a_node_that_dies_while_it_migrates_holds_nobody_up(database: Database, postgres_url: str) -> None:
    """The lock belongs to a connection and is released when its node dies. Until then other nodes wait."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with start(HOLD, postgres_url) as holder, start(MIGRATE, postgres_url) as other:
        assert holder.stdout.readline() == "locked\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        while ask(postgres_url, waiting) != [(1,)]:
            assert other.poll() is None
        holder.kill()
        output, errors = other.communicate(timeout=60)
    assert (output, errors) == (f"ready\n{' '.join(NAMES)}\n", "")


def test_tables_of_others_may_stand_beside_ours(database: Database, postgres_url: str) -> None:
    """Tables of other programs are allowed, because a PostgreSQL database is often shared."""
    ask(postgres_url, "CREATE TABLE recipe (title text)")
    assert migrate(database) == NAMES


def test_a_table_of_others_with_a_name_of_ours_is_left_alone(database: Database, postgres_url: str) -> None:
    """If a table of another program has one of our names, nothing is made or changed, and the error names the table."""
    ask(postgres_url, 'CREATE TABLE "user" (name text)')
    before = described(postgres_url)
    for look in (pending, migrate):
        with pytest.raises(SchemaError, match=r"another program \(user\)"):
            look(database)
    assert described(postgres_url) == before
    assert ask(postgres_url, f"SELECT to_regclass('{HISTORY}')::text") == [(None,)]


def test_a_database_of_a_newer_version_is_refused(database: Database, postgres_url: str) -> None:
    """A database of a newer version is refused, because its schema is not known. The error names the unknown
    migration."""
    migrate(database)
    ask(postgres_url, f"INSERT INTO {HISTORY} (name, applied) VALUES ('9999_from_the_future', now())")
    for door in (migrate, pending):
        with pytest.raises(SchemaError, match="9999_from_the_future"):
            door(database)


def test_a_first_start_that_was_cut_short_is_taken_up_again(database: Database) -> None:
    """If a process was killed after making the table of migrations and before its first row, the next start migrates
    the database."""
    with database.schema_changes() as db:
        Runner(db, str(SHIPPED)).History.create_table()
    assert migrate(database) == NAMES


@pytest.mark.parametrize(
    "body",
    [
        "def up(migrator, db):\n    db.execute_sql('CREATE TABLE half (id int)')\n    db.execute_sql('NOT SQL')\n",
        "def up(migrator, db):\n    db.execute_sql('DELETE FROM \"user\"')\n    db.execute_sql('SELECT missing')\n",
        "nothing_to_do = True\n",
    ],
)
def test_a_migration_that_fails_leaves_everything_as_it_was(
    database: Database, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    """A failed migration is rolled back, reported in one sentence, and can be tried again."""
    migrate(database)
    user = database.write_now(admit)
    before = described(postgres_url)
    with_migrations(tmp_path / "migrations", monkeypatch, m9000_broken=body)
    for _ in range(2):
        with pytest.raises(SchemaError, match="could not be migrated and is as it was"):
            migrate(database)
    assert database.read_now(users.page) == [user]
    assert described(postgres_url) == before
    assert pending(database) == ["9000_broken"]
