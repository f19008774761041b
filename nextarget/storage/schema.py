"""Brings a database to the schema of this program: the numbered files in `migrations/`, each applied once."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peewee as pw
from playhouse.migrations import MigrationError, Runner

from nextarget.errors import DatabaseUnavailable, SchemaError
from nextarget.storage.database import Connection, Database
from nextarget.storage.statements import Statement

_DIRECTORY = Path(__file__).parent / "migrations"
_HISTORY = "schema_migration"
_APPLIED = Statement(f'SELECT "name" FROM "{_HISTORY}"')  # noqa: S608 - a name of ours


def pending(database: Database) -> list[str]:
    """Names of the migrations that `migrate` would apply. Never creates the file, nor changes it."""
    if not database.path.exists():
        return [path.stem for path in sorted(_DIRECTORY.glob("[0-9]*.py"))]
    with database.untouched() as db:
        return _pending(Runner(db, str(_DIRECTORY)))


def lacking(db: Connection) -> list[str]:
    """As `pending`, for a database that is open and serving: one cheap query. What a newer version of this program
    has applied does not count: while nodes are upgraded one after another, the older ones go on."""
    shipped = [path.stem for path in sorted(_DIRECTORY.glob("[0-9]*.py"))]
    applied = {name for (name,) in _APPLIED.rows(db, ())} if db.table_exists(_HISTORY) else set()
    return [name for name in shipped if name not in applied]


def migrate(database: Database) -> list[str]:
    """Create or migrate; returns the names applied. Safe to run from many processes at once: one works, others wait.

    Raises SchemaError when the file is not ours or was migrated by a newer version, DatabaseUnavailable when it
    cannot be opened.
    """
    with _exclusive(database.path):
        if not pending(database):
            return []
        if database.path.exists():
            _refuse_strangers(database)
        with database.schema_changes() as db:
            return _apply(database, Runner(db, str(_DIRECTORY)))


def _apply(database: Database, runner: Runner) -> list[str]:
    try:
        applied: list[str] = runner.up()
    except (MigrationError, pw.DatabaseError) as error:
        raise SchemaError(f"{database.path} could not be migrated and is as it was: {error}.") from error
    return applied


def _refuse_strangers(database: Database) -> None:
    """A file with tables but no migration of ours is not ours; an empty history is what an interrupted start leaves."""
    with database.untouched() as db:
        runner = Runner(db, str(_DIRECTORY))
        if not runner.applied() and set(db.get_tables()) - {runner.table_name}:
            raise SchemaError(
                f"{database.path} is a database of another program. Point DATABASE_URL at a file of its own."
            )


def _pending(runner: Runner) -> list[str]:
    status = runner.status()
    unknown = [migration.name for migration in status if migration.path is None]
    if unknown:
        raise SchemaError(
            f"The database was migrated by a newer version ({', '.join(unknown)}). Upgrade this program, or restore "
            "the backup made before the upgrade."
        )
    return [migration.name for migration in status if not migration.applied]


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a file lock beside the database, taken outside any transaction: inside one, SQLite would not switch
    foreign keys off, and rebuilding a table would cascade."""
    try:
        with path.with_name(path.name + ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise DatabaseUnavailable(
            f"{path} cannot be opened: {error.strerror}. Check DATABASE_URL and the permissions of its folder.",
            note=f"{path}: {error.strerror}",
        ) from None
