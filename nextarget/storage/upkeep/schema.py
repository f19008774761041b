"""Brings a database to the schema of this program: the numbered files in `migrations/`, each applied once."""

from pathlib import Path

import peewee as pw
from playhouse.migrations import MigrationError, Runner

from nextarget.errors import SchemaError
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.engines.statements import Statement
from nextarget.storage.rows.tables import TABLES

_DIRECTORY = Path(__file__).parent.parent / "migrations"
_OURS = {table._meta.table_name for table in TABLES}
_SHIPPED = tuple(path.stem for path in sorted(_DIRECTORY.glob("[0-9]*.py")))
"""Names, as they were when this program started: an upgrade may put others in place under it."""
_HISTORY = "schema_migration"
_APPLIED = Statement(f'SELECT "name" FROM "{_HISTORY}"')  # noqa: S608 - a name of ours
_OF_MIGRATIONS = {"schema", "refused", "other"}
"""Causes of a migration that fails of itself, as far as anybody can tell."""


def pending(database: Database) -> list[str]:
    """Names of the migrations that `migrate` would apply. Never creates the database, nor changes it.

    Raises SchemaError when the database is not ours, or was migrated by a newer version.
    """
    if not database.exists():
        return [path.stem for path in sorted(_DIRECTORY.glob("[0-9]*.py"))]
    with database.probe() as db:
        return pending_on(database, db)


def pending_on(database: Database, db: pw.Database) -> list[str]:
    """As `pending`, by a connection to that database, which is only read."""
    runner = Runner(db, str(_DIRECTORY))
    names = _pending(runner)
    if names:
        _refuse_strangers(database, db, runner)
    return names


def lacking(db: Connection) -> list[str]:
    """As `pending`, for a database that is open and serving: one cheap query. What a newer version of this program
    has applied does not count: while nodes are upgraded one after another, the older ones go on."""
    applied = {name for (name,) in _APPLIED.rows(db, ())} if db.table_exists(_HISTORY) else set()
    return [name for name in _SHIPPED if name not in applied]


def migrate(database: Database) -> list[str]:
    """Create or migrate; returns the names applied. Safe to run from many processes at once: one works, others wait.

    Raises SchemaError when the database is not ours, was migrated by a newer version, or is reached in a way that
    migrations cannot use; DatabaseUnavailable when it cannot be opened or written to.
    """
    if database.exists() and not pending(database):
        return []  # so that whoever has nothing to do needs no lock
    with database.migration_lock():
        if not pending(database):
            return []
        with database.schema_changes() as db:
            return _apply(database, Runner(db, str(_DIRECTORY)))


def try_changing(database: Database) -> None:
    """Make a table and undo that, in a transaction that is never committed: whether migrations could be applied where
    the database must be asked. Raises DatabaseUnavailable, as by a standby or for a user without the right."""
    with database.schema_changes() as db, db.atomic() as transaction:
        db.execute_sql('CREATE TABLE "nextarget_trial" ("id" INTEGER)')  # type: ignore[no-untyped-call]
        transaction.rollback()


def _apply(database: Database, runner: Runner) -> list[str]:
    try:
        applied: list[str] = runner.up()
    except (MigrationError, pw.DatabaseError) as error:
        failure = database.unavailable(error)
        if failure.cause not in _OF_MIGRATIONS:
            raise failure from error
        raise SchemaError(
            f"{database} could not be migrated and is as it was: {str(error).splitlines()[0]}."
        ) from error
    return applied


def _refuse_strangers(database: Database, db: pw.Database, runner: Runner) -> None:
    """A database with tables but no migration of ours is not ours; an empty history is what an interrupted start
    leaves. Where others may keep theirs beside ours, only our names are strange."""
    taken = set(db.get_tables()) - {runner.table_name}
    if database.shared:
        taken &= _OURS
    if taken and not runner.applied():
        raise SchemaError(
            f"{database} has tables of another program ({', '.join(sorted(taken))}).", "Name a database of its own."
        )


def _pending(runner: Runner) -> list[str]:
    status = runner.status()
    unknown = [migration.name for migration in status if migration.path is None]
    if unknown:
        raise SchemaError(
            f"The database was migrated by a newer version ({', '.join(unknown)}).",
            "Upgrade this program, or restore the backup made before the upgrade.",
        )
    return [migration.name for migration in status if not migration.applied]
