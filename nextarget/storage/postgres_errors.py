"""What PostgreSQL's errors mean, and what to do about them."""

import re
from collections.abc import Mapping
from typing import Any

import peewee as pw
import psycopg

from nextarget.errors import DatabaseUnavailable

UNUSABLE = (pw.DatabaseError, pw.InterfaceError, psycopg.Error)
"""What Peewee and the driver raise."""
_BROKEN_RULES: tuple[type[Exception], ...] = (
    *(pw.IntegrityError, pw.ProgrammingError, pw.DataError),
    *(psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.DataError),
)
_NOT_OURS = {"42P01", "42703", "42501", "3F000"}
"""No such table, column or schema, or no right to it: the database is not as we need it, which may pass."""
UNDONE = {"40001", "40P01"}
"""Serialization failure and deadlock (PostgreSQL's appendix A): the transaction was rolled back."""
_HELD = "55P03"
"""Lock not available: whoever has it kept it for longer than we wait. The transaction was rolled back."""

_SEEN = frozenset(
    {
        *("host", "hostaddr", "port", "dbname", "application_name", "connect_timeout", "target_session_attrs"),
        *("sslmode", "sslrootcert", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
    }
)
"""Parameters of a connection that people may see; of the others, a user or a password, no word."""
_WORD = re.compile(r"\w+")


def is_broken_rule(error: Exception) -> bool:
    """Whether a statement was refused for what it says, so that the database is not to blame."""
    return isinstance(error, _BROKEN_RULES) and sqlstate(error) not in _NOT_OURS


def unavailable(error: Exception, parameters: Mapping[str, Any]) -> DatabaseUnavailable:
    """What a caller is told; the note is for the log, and quotes none of the connection's `parameters` but those that
    may be seen."""
    return DatabaseUnavailable(
        note=f"{type(error).__name__}: {_without_secrets(' '.join(str(error).split()), parameters)}"
    )


def _without_secrets(text: str, parameters: Mapping[str, Any]) -> str:
    """PostgreSQL and its driver quote what they refuse, whole or in part: a user, an option, a file."""
    values = [str(value) for name, value in parameters.items() if name not in _SEEN]
    words = {word for value in values for word in _WORD.findall(value)}
    return _WORD.sub(lambda found: "***" if found[0] in words else found[0], text)


def sqlstate(error: Exception) -> str | None:
    """PostgreSQL's code for an error, of the driver's or of Peewee's, which wraps the driver's."""
    original = getattr(error, "orig", error)
    return original.sqlstate if isinstance(original, psycopg.Error) else None


def is_held(error: DatabaseUnavailable) -> bool:
    """Whether all that was wrong is that another transaction holds a row, so that nothing was done."""
    return isinstance(error.__cause__, Exception) and sqlstate(error.__cause__) == _HELD


_REMEDIES = (
    (("database", "does not exist"), "Create the database first, with `createdb`, or check its name in DATABASE_URL."),
    (("authentication failed",), "Check the user and the password in DATABASE_URL."),
    (("no password supplied",), "DATABASE_URL has no password, and the server wants one."),
    (("role", "does not exist"), "Check the user in DATABASE_URL."),
    (("pg_hba.conf",), "Allow this user, database and address in pg_hba.conf, or check DATABASE_URL."),
    (("resolve host",), "Check the host in DATABASE_URL."),
    (("translate host",), "Check the host in DATABASE_URL."),
    (("refused",), "Start PostgreSQL, or check host and port in DATABASE_URL."),
    (("timeout",), "Check that PostgreSQL runs and answers at the host and port in DATABASE_URL."),
    (("too many clients",), "Lower DATABASE_POOL_SIZE or WORKERS, or raise the server's max_connections."),
    (("remaining connection slots",), "Lower DATABASE_POOL_SIZE or WORKERS, or raise the server's max_connections."),
    (("permission denied",), "Grant the user of DATABASE_URL its rights: the database had best be its own."),
)


def remedy(reason: str) -> str:
    """What an operator may do, from the driver's own words."""
    for words, known in _REMEDIES:
        if all(word in reason for word in words):
            return known
    return "Check DATABASE_URL."
