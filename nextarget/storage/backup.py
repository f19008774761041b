"""A backup of a SQLite database: one whole file, as of one moment, made while servers go on writing."""

import os
from pathlib import Path
from tempfile import mkstemp

import peewee as pw

from nextarget.errors import CopyFailed, DatabaseUnavailable
from nextarget.storage.sqlite import SqliteDatabase


def back_up(database: SqliteDatabase, destination: Path) -> int:
    """Write the backup; its size in bytes. Only its owner may read it.

    It is written and checked beside its destination and renamed at the end: a file of that name is always whole.
    Raises CopyFailed when there is such a file already, or when it cannot be made.
    """
    destination = destination.absolute()
    if not database.exists():
        raise CopyFailed(f"There is no database at {database}. Check DATABASE_URL.")
    if destination.exists():
        raise CopyFailed(f"{destination} exists already, and a backup replaces nothing. Give it another name.")
    descriptor, name = mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
    part = Path(name)
    try:
        database.write_whole_file(part)
        _check(part)
        os.fsync(descriptor)
        part.rename(destination)
        _sync(destination.parent)
    except DatabaseUnavailable as error:
        raise CopyFailed(f"{database} could not be backed up to {destination}.", note=error.note) from error
    finally:
        os.close(descriptor)
        part.unlink(missing_ok=True)
    return destination.stat().st_size


def _check(path: Path) -> None:
    copied = pw.SqliteDatabase(f"{path.as_uri()}?mode=ro", uri=True)
    with copied.connection_context():
        found = copied.execute_sql("PRAGMA integrity_check").fetchall()  # type: ignore[no-untyped-call]
    if found != [("ok",)]:
        raise CopyFailed(
            "What was read is damaged, and so was not kept. Run `PRAGMA integrity_check` on the database itself.",
            note=str(found[0][0]),
        )


def _sync(directory: Path) -> None:
    """So that a power cut does not take the new name away."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
