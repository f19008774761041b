"""What an operator does with a whole database: open it for a command, create or migrate it, copy it, back it up."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nextarget.errors import OperatorError, SchemaError
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Database
from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.upkeep import copying, schema
from nextarget.storage.upkeep.backup import back_up as write_backup
from nextarget.storage.upkeep.backup import name_at, remove_older
from nextarget.storage.upkeep.copying import Progress


@dataclass(frozen=True, slots=True)
class Migrations:
    """Migrations of a database, by their names. `database` is its name for people, without a password."""

    database: str
    names: list[str]

    @property
    def created(self) -> bool:
        """Whether there was no database before."""
        return bool(self.names) and self.names[0].startswith("0001_")


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied: the number of rows of each table. `source` and `target` are names for people."""

    source: str
    target: str
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made. `size` is in bytes."""

    database: SqliteDatabase
    file: Path
    size: int


@contextmanager
def opened(url: str, *, init_db: str) -> Iterator[Database]:
    """A database that exists and has every migration. It is closed at the end.

    `init_db` is the command that creates or migrates it, for the error. Raises SchemaError or DatabaseUnavailable.
    """
    with _closing(url) as database:
        if not database.exists():
            raise no_database(database, init_db=init_db)
        if names := schema.pending(database):
            raise SchemaError(
                f"{database} lacks {len(names)} migration{'s' if len(names) != 1 else ''}.", f"Run `{init_db}`."
            )
        yield database


def no_database(place: Path | Database, *, init_db: str) -> SchemaError:
    """The error for a database that does not exist."""
    return SchemaError(f"There is no database at {place}.", f"Run `{init_db}` to create it.")


def migrate(url: str) -> Migrations:
    """Create the database, or apply the migrations that it lacks. Raises SchemaError or DatabaseUnavailable."""
    with _closing(url) as database:
        return Migrations(str(database), schema.migrate(database))


def pending(url: str) -> Migrations:
    """The migrations that `migrate` would apply. Changes nothing. Raises SchemaError or DatabaseUnavailable."""
    with _closing(url) as database:
        return Migrations(str(database), schema.pending(database))


def copy(source: Database, target: Database, *, rests: bool, progress: Progress) -> Copied:
    """Copy every row into an empty database, and close both; `rests` is as in `copying.copy`. Raises CopyFailed."""
    try:
        return Copied(str(source), str(target), copying.copy(source, target, rests=rests, progress=progress))
    finally:
        source.close()
        target.close()


def back_up(url: str, destination: Path, *, into_folder: bool, now: datetime) -> Backup:
    """Write a backup of a SQLite database: to the file `destination`, or into that folder under a name with the time.

    Raises CopyFailed or UnsafeFile; OperatorError for PostgreSQL.
    """
    database = database_at(url)
    if not isinstance(database, SqliteDatabase):
        raise OperatorError(f"{database} is PostgreSQL. Back it up with `pg_dump --format=custom`.")
    file = destination / name_at(now) if into_folder else destination
    return Backup(database, file, write_backup(database, file))


def remove_older_backups(made: Backup, *, keep: int) -> list[Path]:
    """Keep the newest backups in the folder of this one. Returns what was removed, newest first. Raises OSError."""
    return remove_older(made.database, made.file, keep=keep)


@contextmanager
def _closing(url: str) -> Iterator[Database]:
    database = database_at(url)
    try:
        yield database
    finally:
        database.close()
