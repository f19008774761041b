"""A backup of a SQLite database: one whole file, as of one moment, made while servers go on writing. And which stay."""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir

import peewee as pw

from nextarget.errors import CopyFailed, DatabaseUnavailable
from nextarget.storage.engines.files import may_be_replaced, place_of, temporary
from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.engines.sqlite_errors import unavailable_file

_NAME = re.compile(r"nextarget-\d{8}T\d{6}\.\d{6}Z\.db")


def name_at(now: datetime) -> str:
    """What a backup made now is called in a folder of backups. Names sort by time: it is UTC, to the microsecond."""
    return f"nextarget-{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}.db"


def remove_older(database: SqliteDatabase, made: Path, *, keep: int) -> list[Path]:
    """Leave `keep` backups in the folder of the one that was just made: that one and the newest others, by their names.

    What was removed, the newest first. Only files with a name of `name_at` count, which belong to whom the new one
    belongs to, and not the database itself, should it have such a name. Raises OSError.
    """
    spared, owner = (made.resolve(), database.path.resolve()), made.stat().st_uid
    found = [path for path in made.parent.iterdir() if _NAME.fullmatch(path.name) and _is_file_of(owner, path)]
    removed = sorted((path for path in found if path.resolve() not in spared), reverse=True)[keep - 1 :]
    for path in removed:
        path.unlink(missing_ok=True)  # another backup may be removing it too
    return removed


def _is_file_of(owner: int, path: Path) -> bool:
    """Where others may write, names of the year 9999 would push ours out."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_uid == owner


def back_up(database: SqliteDatabase, destination: Path) -> int:
    """Write the backup; its size in bytes. Only its owner may read it.

    It is written and checked beside its destination and renamed at the end: a file of that name is always whole.
    Raises CopyFailed when there is such a file already, or when it cannot be made, and UnsafeFile.
    """
    destination = place_of(destination.parent) / destination.name
    if not database.exists():
        raise CopyFailed(f"There is no database at {database}. Check DATABASE_URL.")
    if destination.exists() or destination.is_symlink():
        raise CopyFailed(f"{destination} exists already, and a backup replaces nothing. Give it another name.")
    folder = destination.parent
    try:
        staging = _staging(database.path, folder)
        with _writing_to(staging), temporary(staging, f".{destination.name}.") as (part, descriptor):
            database.write_whole_file(part)
            _check(part)
            if staging == folder:
                os.fsync(descriptor)
                part.rename(destination)
            else:
                _carry(descriptor, destination)
            with _writing_to(folder):
                _sync(folder)
    except DatabaseUnavailable as error:
        problem = f"{database} could not be backed up to {destination}."
        raise CopyFailed(f"{problem} {error.for_operator}", note=error.note) from error
    return destination.stat().st_size


def _staging(database: Path, folder: Path) -> Path:
    """Where SQLite may write a backup for this folder by its name. Where others may put a link in the place of that
    name, it is beside the database; if that is on a disk that is full or read-only, where temporary files go."""
    if not _may_be_replaced(folder):
        return folder
    for place in (database.parent, Path(gettempdir())):
        enough = shutil.disk_usage(place).free > database.stat().st_size
        if enough and os.access(place, os.W_OK) and not _may_be_replaced(place):
            return place
    return database.parent


def _may_be_replaced(folder: Path) -> bool:
    with _writing_to(folder):
        return may_be_replaced(folder)


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Turns what the system refuses into DatabaseUnavailable, which names the folder instead of a passing file."""
    try:
        yield
    except OSError as error:
        raise unavailable_file(error, folder, named="FILE") from error


def _carry(whole: int, destination: Path) -> None:
    """From where SQLite could write by name to where a name may mean another file the next moment."""
    with (
        _writing_to(destination.parent),
        temporary(destination.parent, f".{destination.name}.") as (part, descriptor),
        os.fdopen(whole, "rb", closefd=False) as reading,
        os.fdopen(descriptor, "wb", closefd=False) as writing,
    ):
        shutil.copyfileobj(reading, writing)
        writing.flush()
        os.fsync(descriptor)
        part.rename(destination)


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
