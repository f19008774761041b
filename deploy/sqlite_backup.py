"""Copies the SQLite database while it is served, and keeps the newest copies. Needs nothing but Python.

    sqlite_backup.py DATABASE FOLDER [KEEP]

`VACUUM INTO` reads one snapshot, so that writers neither wait nor make it begin again. A copy gets its name only once
it is whole, sound and on the disk. Prints the copy's path; exits 1 with a sentence when there is none.
"""

import os
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

PREFIX = "nextarget-"
KEEP = 14


def back_up(database: Path, folder: Path, *, keep: int) -> Path:
    """Make a copy and delete all but the newest `keep`. Raises sqlite3.Error or OSError."""
    if not database.is_file():
        raise FileNotFoundError(f"There is no database at {database}.")
    copy = folder / f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.db"
    unfinished = copy.with_suffix(".part")
    try:
        _copy(database, unfinished)
        _sync(unfinished)
        unfinished.rename(copy)
    finally:
        unfinished.unlink(missing_ok=True)
    for old in sorted(folder.glob(f"{PREFIX}*.db"))[:-keep]:
        old.unlink()
    _sync(folder)
    return copy


def _copy(database: Path, target: Path) -> None:
    source = sqlite3.connect(database, timeout=30, isolation_level=None)
    try:
        source.execute("VACUUM INTO ?", (str(target),))
    finally:
        source.close()
    copied = sqlite3.connect(target)
    try:
        (answer,) = copied.execute("PRAGMA integrity_check(1)").fetchone()
    finally:
        copied.close()
    if answer != "ok":
        raise sqlite3.DatabaseError(f"the copy is not sound: {answer}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 1 failed, 2 usage."""
    keep = arguments[2] if len(arguments) == 3 else str(KEEP)
    if len(arguments) not in (2, 3) or not keep.isdecimal() or int(keep) < 1:
        sys.stderr.write("Usage: sqlite_backup.py DATABASE FOLDER [KEEP]\n")
        return 2
    os.umask(0o077)
    try:
        copy = back_up(Path(arguments[0]), Path(arguments[1]), keep=int(keep))
    except (OSError, sqlite3.Error) as error:
        sys.stderr.write(f"Error: no backup was made: {error}\n")
        return 1
    sys.stdout.write(f"{copy}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
