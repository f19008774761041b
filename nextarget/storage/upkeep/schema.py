"""Migrates a database to the schema of this program: applies the numbered files in `migrations/`, every file once."""

from pathlib import Path
from typing import NamedTuple

import peewee as pw

from nextarget.errors import SchemaError
from nextarget.lean_imports import without
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.engines.statements import Query
from nextarget.storage.rows.tables import TABLES

_DIRECTORY = Path(__file__).parent.parent / "migrations"
_OURS = {table._meta.table_name for table in TABLES}


def _names() -> list[str]:
    """The names of all migrations, oldest first."""
    return [path.stem for path in sorted(_DIRECTORY.glob("[0-9]*.py"))]


_SHIPPED = _names()
"""The migrations of this process. They are read at its start, because an upgrade may replace the files later."""
_HISTORY = "schema_migration"


class _AppliedRow(NamedTuple):
    name: str


_APPLIED = Query(_AppliedRow, f'SELECT {{columns}} FROM "{_HISTORY}"')  # noqa: S608 - a name of ours
"""A statement, although migrations use Peewee: the readiness check, which is a request too, runs it."""
_OF_MIGRATIONS = {"schema", "refused", "other"}
"""Causes that mean that the migration itself failed. Other causes mean that the database cannot be used."""


def pending(database: Database) -> list[str]:
    """Names of the migrations that `migrate` would apply. Never creates or alters the database.

    Raises SchemaError when the database is not ours, or was migrated by a newer version.
    """
    if not database.exists():
        return _names()
    with database.probe() as db:
        return pending_on(database, db)


def pending_on(database: Database, db: pw.Database) -> list[str]:
    """As `pending`, on a connection to the database. It only reads."""
    applied = _applied(db)
    shipped = _names()
    if unknown := sorted(applied - set(shipped)):
        raise SchemaError(
            f"The database was migrated by a newer version ({', '.join(unknown)}).",
            "Upgrade this program, or restore the backup made before the upgrade.",
        )
    if not applied:
        _refuse_other_program(database, db)
    return [name for name in shipped if name not in applied]


def _applied(db: pw.Database) -> set[str]:
    """Names of the migrations that were applied. An empty history does not count: an interrupted start leaves one."""
    if not db.table_exists(_HISTORY):
        return set()
    return {name for (name,) in db.execute_sql(f'SELECT "name" FROM "{_HISTORY}"').fetchall()}  # type: ignore[no-untyped-call]  # noqa: S608 - a name of ours


def _refuse_other_program(database: Database, db: pw.Database) -> None:
    """Raises SchemaError for a database that has tables, although none of our migrations was applied. In a shared
    database only tables named like ours are conflicts."""
    taken = set(db.get_tables()) - {_HISTORY}
    if database.shared:
        taken &= _OURS
    if taken and not _applied(db):  # looked up again: another process may have migrated meanwhile
        raise SchemaError(
            f"{database} has tables of another program ({', '.join(sorted(taken))}).", "Name a database of its own."
        )


def lacking(db: Connection) -> list[str]:
    """As `pending`, for the readiness check of a running server: one cheap query. Migrations of a newer version do not
    matter, because older nodes continue to run during an upgrade."""
    applied = {row.name for row in _APPLIED.rows(db, ())} if db.table_exists(_HISTORY) else set()
    return [name for name in _SHIPPED if name not in applied]


def migrate(database: Database) -> list[str]:
    """Create or migrate; returns the names of the applied migrations. Of many processes one migrates, the others wait.

    Raises SchemaError when the database is not ours, was migrated by a newer version, or is reached in a way that
    migrations cannot use; DatabaseUnavailable when it cannot be opened or written to.
    """
    if database.exists() and not pending(database):
        return []  # the usual case needs no lock
    with database.migration_lock():
        if not pending(database):
            return []
        with database.schema_changes() as db:
            return _apply(database, db)


def try_changing(database: Database) -> None:
    """Check that migrations could be applied: create a table and roll back. Raises DatabaseUnavailable, for example on
    a standby, or when the user lacks the right."""
    with database.schema_changes() as db, db.atomic() as transaction:
        db.execute_sql('CREATE TABLE "nextarget_trial" ("id" INTEGER)')  # type: ignore[no-untyped-call]
        transaction.rollback()


def _apply(database: Database, db: pw.Database) -> list[str]:
    # Imported here, because a server seldom has something to apply. The package that is hidden would load psycopg.
    with without("playhouse.cockroachdb"):
        from playhouse.migrations import MigrationError, Runner

    try:
        applied: list[str] = Runner(db, str(_DIRECTORY)).up()
    except (MigrationError, pw.DatabaseError) as error:
        failure = database.unavailable(error)
        if failure.cause not in _OF_MIGRATIONS:
            raise failure from error
        raise SchemaError(
            f"{database} could not be migrated and is as it was: {str(error).splitlines()[0]}."
        ) from error
    return applied
