"""What SQLite's errors mean, and what an operator can do about them."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import peewee as pw

from nextarget.errors import DatabaseUnavailable
from nextarget.telemetry.metrics import DatabaseCause

UNUSABLE = (pw.DatabaseError, pw.InterfaceError, sqlite3.DatabaseError, sqlite3.InterfaceError)
BROKEN_RULES: tuple[type[Exception], ...] = (
    *(pw.IntegrityError, pw.ProgrammingError, pw.DataError),
    *(sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError),
)
_CAUSES: dict[int, DatabaseCause] = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_IOERR: "io_error",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "not_a_database",
    sqlite3.SQLITE_CANTOPEN: "cannot_open",
    sqlite3.SQLITE_PERM: "cannot_open",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_PROTOCOL: "locked",
}
"""By the primary result code (sqlite.org/rescode.html)."""
_READING = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
"""I/O errors of reads, which need no space on the disk."""
_NO_ROOM_BYTES = 64 * 1024
"""A disk with less free space counts as full. Even a reader creates a file of 32 KiB next to the database, the shared
memory of SQLite (sqlite.org/walformat.html, 2.1), and gets SQLITE_IOERR_SHMSIZE when it does not fit."""
_TARGET_CAUSES: frozenset[DatabaseCause] = frozenset({"disk_full", "read_only", "io_error", "cannot_open"})
"""Causes that concern the target when one file is copied into another."""
_CAUSES_OF_SYSTEM: dict[int | None, DatabaseCause] = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EIO: "io_error",
}
_PROBLEMS_AND_REMEDIES: dict[DatabaseCause, tuple[str, str]] = {
    "disk_full": (
        "cannot be written to: its disk is full.",
        "Make room on the disk, of bytes (`df`) or of files (`df -i`), or raise the quota.",
    ),
    "read_only": (
        "cannot be written to: it is read-only.",
        "Let the user that this runs as write to the file and to its folder, on a disk that is not mounted read-only.",
    ),
    "io_error": (
        "cannot be used: its disk fails.",
        "Look for the disk's errors in the system's log, and whether a quota is used up.",
    ),
    "corrupt": (
        "is damaged.",
        "Stop the servers and put the newest backup in its place; keep the damaged file until that works.",
    ),
    "not_a_database": (
        "is not an SQLite database, or damaged from its beginning on.",
        "Let DATABASE_URL name another file, or put the newest backup in its place.",
    ),
    "cannot_open": ("cannot be opened.", "Check DATABASE_URL and the permissions of its folder."),
    "locked": (
        "is held by another program.",
        "Try again in a little while. If that does not help, find the program that holds the file, with `fuser`.",
    ),
    "schema": ("lacks a table or a column of ours.", "Run `nextarget init-db`."),
}


def unavailable(error: Exception, path: Path) -> DatabaseUnavailable:
    """Translate an error of SQLite into ours. Its note is SQLite's own message."""
    original = _original(error)
    return _failure(_cause_on_disk(original, path), path, _message(original))


def unavailable_copy(error: Exception, path: Path, target: Path) -> DatabaseUnavailable:
    """As `unavailable`, while a database is copied into a file. A failure of the target names the target's folder."""
    original = _original(error)
    cause = _cause_on_disk(original, target)
    if cause in _TARGET_CAUSES and _code(original) not in _READING:
        return _failure(cause, target.parent, _message(original))
    return unavailable(error, path)


def unavailable_file(error: OSError, path: Path, *, named: str = "DATABASE_URL") -> DatabaseUnavailable:
    """Translate an error of the operating system about the file. `named` is the setting that names the file."""
    failure = _failure(_CAUSES_OF_SYSTEM.get(error.errno, "cannot_open"), path, f"{path}: {error.strerror}")
    failure.remedy = failure.remedy.replace("DATABASE_URL", named)
    return failure


def refuse_read_only(path: Path) -> None:
    """Raises DatabaseUnavailable when we may not write to the file or to its folder."""
    if not _writable(path):
        raise _failure("read_only", path, f"{path}: no right to write")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate errors of Peewee and the driver into ours. Broken rules, such as a constraint, stay as they are."""
    try:
        yield
    except BROKEN_RULES:
        raise
    except UNUSABLE as error:
        raise unavailable(error, path) from error


def _writable(path: Path) -> bool:
    return all(os.access(place, os.W_OK) for place in (path, path.parent))


def _failure(cause: DatabaseCause, path: Path, note: str) -> DatabaseUnavailable:
    problem, remedy = _PROBLEMS_AND_REMEDIES.get(cause, ("cannot be used.", "Check DATABASE_URL."))
    return DatabaseUnavailable(note=note, cause=cause, problem=f"{path} {problem}", remedy=remedy)


def _original(error: Exception) -> Exception:
    """The driver's error, which has a result code; Peewee's error has none. Peewee wraps some errors twice."""
    while isinstance(original := getattr(error, "orig", None), Exception):
        error = original
    return error


def _message(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", None)
    return f"{error}{f' ({name})' if name else ''}"


def _code(error: Exception) -> int:
    """SQLite's extended result code, or 0."""
    return getattr(error, "sqlite_errorcode", 0)


def _cause_on_disk(error: Exception, path: Path) -> DatabaseCause:
    """The cause, by SQLite's error and by the state of the disk, which SQLite does not look at."""
    cause = _cause(error)
    if cause == "cannot_open" and path.exists() and not _writable(path):
        return "read_only"  # SQLite creates files next to the database even to read it
    makes_files = cause == "cannot_open" and os.access(path.parent, os.W_OK) and not path.is_dir()
    if (makes_files or (cause == "io_error" and _code(error) not in _READING)) and _is_full(path.parent):
        return "disk_full"
    return cause


def _is_full(folder: Path) -> bool:
    with suppress(OSError):
        disk = os.statvfs(folder)
        no_files = disk.f_files > 0 and disk.f_favail == 0  # some file systems have no such number
        return no_files or disk.f_bavail * disk.f_frsize < _NO_ROOM_BYTES
    return False


def _cause(error: Exception) -> DatabaseCause:
    if isinstance(error.__cause__, OSError):
        return _CAUSES_OF_SYSTEM.get(error.__cause__.errno, "cannot_open")
    code = _code(error) & 0xFF
    if code == sqlite3.SQLITE_ERROR and "no such " in str(error):
        return "schema"
    return _CAUSES.get(code, "other")
