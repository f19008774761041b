"""A backup of a SQLite database: one whole file, as of one moment, made while servers go on writing. And which stay."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkstemp

import peewee as pw

from nextarget.errors import CopyFailed, DatabaseUnavailable
from nextarget.storage.sqlite import SqliteDatabase

_NAME = re.compile(r"nextarget-\d{8}T\d{6}\.\d{6}Z\.db")


def name_at(now: datetime) -> str:
    """What a backup made now is called in a folder of backups. Names sort by time: it is UTC, to the microsecond."""
    return f"nextarget-{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}.db"


def remove_older(database: SqliteDatabase, made: Path, *, keep: int) -> list[Path]:
    """Leave `keep` backups in the folder of the one that was just made: that one and the newest others, by their names.

    What was removed, the newest first. Only files with a name of `name_at` count, and not the database itself, should
    it have such a name. Raises OSError.
    """
    spared = (made.resolve(), database.path.resolve())
    found = [path for path in made.parent.iterdir() if _NAME.fullmatch(path.name) and path.is_file()]
    removed = sorted((path for path in found if path.resolve() not in spared), reverse=True)[keep - 1 :]
    for path in removed:
        path.unlink(missing_ok=True)  # another backup may be removing it too
    return removed


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
