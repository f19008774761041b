"""Backs up a SQLite database into one file, as of one moment, while servers write to it; and removes old backups."""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

import peewee as pw

from nextarget.errors import CopyFailed, DatabaseUnavailable
from nextarget.storage.engines.files import may_be_replaced, place_of, temporary
from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.engines.sqlite.connection import in_slices
from nextarget.storage.engines.sqlite.errors import unavailable_file

_NAME = re.compile(r"nextarget-\d{8}T\d{6}\.\d{6}Z\.db")


class _Finding(NamedTuple):
    """A row of SQLite's integrity check: a fault in the file, or `ok` (sqlite.org/pragma.html)."""

    text: str


def name_at(now: datetime) -> str:
    """The name of a backup in a folder of backups. Names sort by time: it is UTC, to the microsecond."""
    return f"nextarget-{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}.db"


def remove_older(database: SqliteDatabase, made: Path, *, keep: int) -> list[Path]:
    """Remove old backups from the folder of the new backup `made`. `made` and the newest others stay, `keep` in all.

    Returns the removed files, newest first. Only files with a name of `name_at` and with the same owner as `made`
    count, and never the database itself. Raises OSError.
    """
    kept, owner = (made.resolve(), database.path.resolve()), made.stat().st_uid
    found = [path for path in made.parent.iterdir() if _NAME.fullmatch(path.name) and _is_file_of(owner, path)]
    removed = sorted((path for path in found if path.resolve() not in kept), reverse=True)[keep - 1 :]
    for path in removed:
        path.unlink(missing_ok=True)  # another backup may have removed it
    return removed


def _is_file_of(owner: int, path: Path) -> bool:
    """Files of others do not count: a file dated 9999 in a shared folder would make us remove our own backups."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_uid == owner


def back_up(database: SqliteDatabase, destination: Path) -> int:
    """Write a backup that only its owner may read; returns its size in bytes.

    It is written and checked under a temporary name, and renamed at the end: a file with the final name is complete.
    Raises CopyFailed when the destination exists or cannot be written, and UnsafeFile.
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
                _copy_into_place(descriptor, destination)
            with _writing_to(folder):
                _sync(folder)
    except DatabaseUnavailable as error:
        problem = f"{database} could not be backed up to {destination}."
        raise CopyFailed(f"{problem} {error.for_operator}", note=error.note) from error
    return destination.stat().st_size


def _staging(database: Path, folder: Path) -> Path:
    """The folder where SQLite writes the backup. It is the destination's folder, unless others could replace our file
    there by a link; then it is the database's folder, or the folder for temporary files if the first has no space."""
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
    """Translates OSError into DatabaseUnavailable, which names the folder instead of a temporary file."""
    try:
        yield
    except OSError as error:
        raise unavailable_file(error, folder, named="FILE") from error


def _copy_into_place(finished: int, destination: Path) -> None:
    """Copy the finished backup by its descriptor into the destination's folder, where others could replace a name."""
    with (
        _writing_to(destination.parent),
        temporary(destination.parent, f".{destination.name}.") as (part, descriptor),
        os.fdopen(finished, "rb", closefd=False) as reading,
        os.fdopen(descriptor, "wb", closefd=False) as writing,
    ):
        shutil.copyfileobj(reading, writing)
        writing.flush()
        os.fsync(descriptor)
        part.rename(destination)


def _check(path: Path) -> None:
    copied = pw.SqliteDatabase(f"{path.as_uri()}?mode=ro", uri=True)
    with copied.connection_context(), in_slices(copied):
        rows = copied.execute_sql("PRAGMA integrity_check").fetchall()  # type: ignore[no-untyped-call]
    first, *more = map(_Finding._make, rows)
    if more or first.text != "ok":
        raise CopyFailed(
            "What was read is damaged, and so was not kept. Run `PRAGMA integrity_check` on the database itself.",
            note=first.text,
        )


def _sync(directory: Path) -> None:
    """Sync the folder, so that the new name survives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
