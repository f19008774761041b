"""What PostgreSQL's errors mean, and what an operator can do about them."""

import re
from collections.abc import Mapping
from typing import Any

import peewee as pw
import psycopg

from nextarget.errors import DatabaseUnavailable
from nextarget.telemetry.metrics import DatabaseCause

UNUSABLE = (pw.DatabaseError, pw.InterfaceError, psycopg.Error)
"""The errors of Peewee and of the driver."""
_BROKEN_RULES: tuple[type[Exception], ...] = (
    *(pw.IntegrityError, pw.ProgrammingError, pw.DataError),
    *(psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.DataError),
)
_NOT_OURS = {"42P01", "42703", "42501", "3F000"}
"""A missing table, column or schema, or a missing right: the database is not ready, and may become so."""
_DEADLOCK = "40P01"
UNDONE = {"40001", _DEADLOCK}
"""Serialization failure and deadlock (PostgreSQL's appendix A): the transaction was rolled back."""
_HELD = "55P03"
"""Lock not available: another transaction held it for longer than `lock_timeout`. Ours was rolled back."""

_SEEN = frozenset(
    {
        *("host", "hostaddr", "port", "dbname", "application_name", "connect_timeout", "target_session_attrs"),
        *("sslmode", "sslrootcert", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
    }
)
"""Connection parameters that may be shown. The values of the others, such as user and password, are masked."""
_WORD = re.compile(r"\w+")


def is_broken_rule(error: Exception) -> bool:
    """Whether the statement was wrong, such as a broken constraint, and the database works."""
    return isinstance(error, _BROKEN_RULES) and sqlstate(error) not in _NOT_OURS


def unavailable(error: Exception, parameters: Mapping[str, Any], place: str) -> DatabaseUnavailable:
    """The error for callers. `place` is the database's name for operators; note and cause are for the log. In the note,
    values of `parameters` that must not be shown are masked."""
    note = f"{type(error).__name__}: {_without_secrets(' '.join(str(error).split()), parameters)}"
    cause, remedy = _cause_and_remedy(error, note)
    problem = f"{place} {_PROBLEMS.get(cause, 'cannot be used.')}"
    return DatabaseUnavailable(note=note, cause=cause, problem=problem, remedy=remedy)


def _without_secrets(text: str, parameters: Mapping[str, Any]) -> str:
    """Mask the values that PostgreSQL and its driver quote in their errors, such as a user, an option or a file."""
    values = [str(value) for name, value in parameters.items() if name not in _SEEN]
    words = {word for value in values for word in _WORD.findall(value)}
    return _WORD.sub(lambda found: "***" if found[0] in words else found[0], text)


def sqlstate(error: Exception) -> str | None:
    """PostgreSQL's code for an error of the driver, or of Peewee, which wraps the driver's error."""
    original = getattr(error, "orig", error)
    return original.sqlstate if isinstance(original, psycopg.Error) else None


def is_held(error: DatabaseUnavailable) -> bool:
    """Whether the only problem was a row that another transaction holds, also in a deadlock. Nothing was changed
    then."""
    return isinstance(error.__cause__, Exception) and sqlstate(error.__cause__) in {_HELD, _DEADLOCK}


_BY_STATE: dict[str, DatabaseCause] = {
    "53100": "disk_full",
    "25006": "read_only",
    "58030": "io_error",
    "XX001": "corrupt",
    "XX002": "corrupt",
    "53300": "too_many_connections",
    "28000": "refused",
    "28P01": "refused",
    "3D000": "refused",
    "42501": "refused",
    **dict.fromkeys(("42P01", "42703", "3F000"), "schema"),
    **dict.fromkeys((_HELD, *UNDONE), "locked"),
    **dict.fromkeys(("57014", "25P03", "25P04"), "timeout"),
    **dict.fromkeys(("57P01", "57P02", "57P03", "57P05"), "unreachable"),
}
"""By SQLSTATE (PostgreSQL's manual, appendix A). An error while connecting has no SQLSTATE."""
_BY_CLASS: dict[str, DatabaseCause] = {"08": "unreachable"}
_PROBLEMS: dict[DatabaseCause, str] = {
    "disk_full": "cannot be written to: its disk is full.",
    "read_only": "cannot be written to: it is read-only.",
    "io_error": "cannot be used: its disk fails.",
    "corrupt": "is damaged.",
}
_REMEDIES_BY_CAUSE: dict[DatabaseCause, str] = {
    "disk_full": "Make room on the disk of PostgreSQL's server.",
    "read_only": "Let DATABASE_URL name the primary, or see why it takes no writes: default_transaction_read_only.",
    "io_error": "Look for the disk's errors in PostgreSQL's log and in the system's.",
    "corrupt": "Look into PostgreSQL's log, and restore a backup.",
    "schema": "Run `nextarget init-db`.",
    "locked": "Find who holds the rows, in pg_stat_activity.",
    "timeout": "Look at what PostgreSQL's server is busy with, and at the network between.",
}

_CONNECTIONS = "Lower DATABASE_POOL_SIZE or WORKERS, or raise the server's max_connections."
_BY_WORDS: tuple[tuple[tuple[str, ...], DatabaseCause, str], ...] = (
    (
        ("database", "does not exist"),
        "refused",
        "Create the database first, with `createdb`, or check its name in DATABASE_URL.",
    ),
    (("authentication failed",), "refused", "Check the user and the password in DATABASE_URL."),
    (("no password supplied",), "refused", "DATABASE_URL has no password, and the server wants one."),
    (("role", "does not exist"), "refused", "Check the user in DATABASE_URL."),
    (("pg_hba.conf",), "refused", "Allow this user, database and address in pg_hba.conf, or check DATABASE_URL."),
    (("resolve host",), "unreachable", "Check the host in DATABASE_URL."),
    (("translate host",), "unreachable", "Check the host in DATABASE_URL."),
    (
        ("does not support SSL",),
        "refused",
        "Turn TLS on in PostgreSQL's server (`ssl = on`), or ask for none with sslmode in DATABASE_URL.",
    ),
    (("certificate",), "refused", "Check sslmode and sslrootcert in DATABASE_URL, and the server's certificate."),
    (("refused",), "unreachable", "Start PostgreSQL, or check host and port in DATABASE_URL."),
    (("statement timeout",), "timeout", _REMEDIES_BY_CAUSE["timeout"]),
    (("timeout",), "unreachable", "Check that PostgreSQL runs and answers at the host and port in DATABASE_URL."),
    (("too many clients",), "too_many_connections", _CONNECTIONS),
    (("remaining connection slots",), "too_many_connections", _CONNECTIONS),
    (("permission denied",), "refused", "Grant the user of DATABASE_URL its rights: the database had best be its own."),
)
"""By words in the message of the server or the driver: the cause, and what an operator can do."""


def _cause_and_remedy(error: Exception, note: str) -> tuple[DatabaseCause, str]:
    """The cause of an error, and the remedy."""
    state = sqlstate(error)
    cause = (_BY_STATE.get(state) or _BY_CLASS.get(state[:2])) if state else None
    known = next((entry for entry in _BY_WORDS if all(word in note for word in entry[0])), None)
    if cause in _REMEDIES_BY_CAUSE:
        return cause, _REMEDIES_BY_CAUSE[cause]
    if known is not None:
        return cause or known[1], known[2]
    # A connection that is lost during a statement has no SQLSTATE, and messages that differ.
    lost = isinstance(getattr(error, "orig", error), psycopg.OperationalError) and state is None
    return cause or ("unreachable" if lost else "other"), "Check DATABASE_URL."
