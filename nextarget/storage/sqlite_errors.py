"""What SQLite's errors mean, and what to do about them."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
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
_OF_SYSTEM: dict[int | None, DatabaseCause] = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EIO: "io_error",
}
_WORDS: dict[DatabaseCause, tuple[str, str]] = {
    "disk_full": ("cannot be written to: its disk is full.", "Make room on the disk, or raise the quota."),
    "read_only": (
        "cannot be written to: it is read-only.",
        "Let the user that this runs as write to the file and to its folder, on a disk that is not mounted read-only.",
    ),
    "io_error": (
        "cannot be used: its disk fails.",
        "Look for the disk's errors in the system's log, and whether it is full or a quota is used up.",
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
    """What an error means that says that the database cannot be used; its note is SQLite's own words."""
    original = _original(error)
    cause = _cause(original)
    if cause == "cannot_open" and path.exists() and not _writable(path):
        cause = "read_only"  # SQLite wants to make files beside it, to read as well
    name = getattr(original, "sqlite_errorname", None)
    note = f"{original}{f' ({name})' if name else ''}"
    return _told(cause, path, note)


def unavailable_file(error: OSError, path: Path) -> DatabaseUnavailable:
    """What it means that the system refused us the file, or one beside it."""
    return _told(_OF_SYSTEM.get(error.errno, "cannot_open"), path, f"{path}: {error.strerror}")


def refuse_read_only(path: Path) -> None:
    """Raises DatabaseUnavailable when we may not write to a file, or beside it."""
    if not _writable(path):
        raise _told("read_only", path, f"{path}: no right to write")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what Peewee or the driver raises when the database cannot be used into ours; broken rules stay."""
    try:
        yield
    except BROKEN_RULES:
        raise
    except UNUSABLE as error:
        raise unavailable(error, path) from error


def _writable(path: Path) -> bool:
    return all(os.access(place, os.W_OK) for place in (path, path.parent))


def _told(cause: DatabaseCause, path: Path, note: str) -> DatabaseUnavailable:
    problem, remedy = _WORDS.get(cause, ("cannot be used.", "Check DATABASE_URL."))
    return DatabaseUnavailable(note=note, cause=cause, problem=f"{path} {problem}", remedy=remedy)


def _original(error: Exception) -> Exception:
    """The driver's own error: Peewee's has lost the code."""
    original = getattr(error, "orig", error)
    return original if isinstance(original, Exception) else error


def _cause(error: Exception) -> DatabaseCause:
    if isinstance(error.__cause__, OSError):
        return _OF_SYSTEM.get(error.__cause__.errno, "cannot_open")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_ERROR and "no such " in str(error):
        return "schema"
    return _CAUSES.get(code, "other")
