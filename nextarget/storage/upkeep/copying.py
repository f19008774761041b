"""Copies all rows of one database into another, empty one: from SQLite to PostgreSQL, back, or to a second file.

The source is read as of one moment. The target gets everything or nothing: all rows are written in one transaction,
and read back before it is committed. If a copy fails, the target is empty again, and the copy can be repeated.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import peewee as pw

from nextarget.errors import CopyFailed, DatabaseUnavailable, SchemaError
from nextarget.storage.engines.database import Database
from nextarget.storage.engines.rests import Rests
from nextarget.storage.engines.statements import insert_many_into
from nextarget.storage.rows.tables import TABLES
from nextarget.storage.upkeep import schema

BATCH = 500
"""How many rows one statement writes. The widest table has 17 columns, and 8500 parameters fit into a statement."""

Row = tuple[Any, ...]
Progress = Callable[[int, int], None]
"""Called with the number of finished steps and of all steps. A row is one step when written, one when read back."""


def copy(
    source: Database, target: Database, *, rests: bool = True, progress: Progress = lambda _done, _total: None
) -> dict[str, int]:
    """Copy all rows of all tables, in constant memory. Returns the number of rows by the name of the table.

    `rests` is whether to rest between two pages, for servers on the same machine.

    The target is created or migrated first. The source must be migrated, and is never changed. Servers may write to it
    during the copy; the copy does not contain what they write.

    Raises CopyFailed, which calls the databases FROM and TO: when one of them cannot be used, when the target has rows,
    or when the rows read back differ from those written. The target then has no rows.
    """
    if str(source) == str(target):
        raise CopyFailed(f"{source} cannot be copied into itself. Name another database to copy into.")
    if not source.exists():
        raise CopyFailed(f"There is no database at {source}. Check FROM.")
    with _naming(source, "FROM"), source.snapshot() as reading:
        _demand_current(source, reading)
        rows = {table: _count(reading, table) for table in TABLES}
        with _naming(target, "TO"):
            schema.migrate(target)
            steps = _Steps(progress, 2 * sum(rows.values()))
            target.write_now(_fill, _Pages(reading, str(source), rests=rests), str(target), steps)
    return {_name(table): count for table, count in rows.items()}


def _fill(db: pw.Database, source: "_Pages", place: str, steps: "_Steps") -> None:
    """Write all rows into an empty database, and read them back, in the caller's transaction."""
    steps.begin()
    _lock_tables(db)
    if any(_count(db, table) for table in TABLES):
        raise CopyFailed(
            f"{place} has rows already, and a copy replaces nothing. Make a new database for it, or drop this one."
        )
    written = {}
    for table in TABLES:
        with _rules_of(place, table):
            written[table] = _copy_table(db, table, source, steps)
    for table in TABLES:
        found = _Sum()
        for rows in _Pages(db, place, rests=source.rests).of(table):
            found.add(rows)
            steps.done(len(rows))
        if found != written[table]:
            raise CopyFailed(
                f"{place} did not give back the rows of {_name(table)} as they were written. Nothing was kept there; "
                "check its disk and its encoding, then copy again."
            )
        _set_sequence(db, table)


def _copy_table(db: pw.Database, table: type[pw.Model], source: "_Pages", steps: "_Steps") -> "_Sum":
    written = _Sum()
    for page in source.of(table):
        rows = _without_nul(page) if isinstance(db, pw.PostgresqlDatabase) else page
        _insert(db, table, rows)
        written.add(rows)
        steps.done(len(rows))
    return written


def _insert(db: pw.Database, table: type[pw.Model], rows: list[Row]) -> None:
    """Insert all rows with one statement, which is no query of Peewee's: a copy of ten million rows runs it 20,000
    times, and Peewee would need longer to build it than the database to execute it."""
    insert = insert_many_into(table).for_count(len(rows))
    db.execute_sql(insert.text(db), [value for row in rows for value in row])  # type: ignore[no-untyped-call]


def _without_nul(rows: list[Row]) -> list[Row]:
    """PostgreSQL's text cannot hold NUL; it becomes U+FFFD, as when a server writes to PostgreSQL."""
    return [
        tuple(value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value for value in row)
        for row in rows
    ]


def _lock_tables(db: pw.Database) -> None:
    """Lock all tables against other writers until the end of the transaction. Another copy waits, and then finds rows.

    SQLite needs no lock: it has one writer at a time.
    """
    if isinstance(db, pw.PostgresqlDatabase):
        names = ", ".join(f'"{_name(table)}"' for table in TABLES)
        db.execute_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")  # type: ignore[no-untyped-call]


def _set_sequence(db: pw.Database, table: type[pw.Model]) -> None:
    """Let PostgreSQL's next number follow the highest one that was copied. SQLite finds the number by itself."""
    key = table._meta.primary_key
    if not (isinstance(db, pw.PostgresqlDatabase) and isinstance(key, pw.AutoField)):
        return
    newest = table.select(pw.fn.MAX(key)).scalar(db)
    if newest is not None:
        sequence = "SELECT setval(pg_get_serial_sequence(%s, %s), %s)"
        db.execute_sql(sequence, (f'"{_name(table)}"', key.column_name, newest))  # type: ignore[no-untyped-call]


def _demand_current(source: Database, reading: pw.Database) -> None:
    if names := schema.pending_on(source, reading):
        raise CopyFailed(
            f"{source} lacks {len(names)} migration{'s' if len(names) != 1 else ''}, and a copy never changes its "
            "source. Run `nextarget init-db` with DATABASE_URL naming it, then copy again."
        )


def _count(db: pw.Database, table: type[pw.Model]) -> int:
    return int(table.select().count(db))


def _name(table: type[pw.Model]) -> str:
    return str(table._meta.table_name)


class _Pages:
    """Reads tables in pages, in the order of the key, and may rest between them. `place` is the database's name for
    people."""

    def __init__(self, db: pw.Database, place: str, *, rests: bool) -> None:
        self._db = db
        self._place = place
        self.rests = rests

    def of(self, table: type[pw.Model]) -> Iterator[list[Row]]:
        """All rows of a table, as Python values, which are equal for both kinds of database."""
        fields, key = table._meta.sorted_fields, table._meta.primary_key
        position = fields.index(key)
        query = table.select(*fields).order_by(key).limit(BATCH)
        between = Rests()
        page = self._rows(query)
        while page:
            yield page
            if self.rests:
                between.take()
            page = self._rows(query.where(key > page[-1][position]))

    def _rows(self, query: Any) -> list[Row]:
        try:
            return list(query.tuples().execute(self._db))
        except (pw.PeeweeException, sqlite3.Error) as error:
            raise CopyFailed(f"{self._place} cannot be read.", note=_first_line(error)) from error


class _Sum:
    """The number of rows and the sum of their digests. Two databases may return the same rows in different orders, and
    the sum does not depend on the order."""

    def __init__(self) -> None:
        self._rows = self._digests = 0

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            text = repr(row).encode(errors="surrogatepass")
            self._rows += 1
            self._digests += int.from_bytes(hashlib.blake2b(text, digest_size=16).digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sum) and (self._rows, self._digests) == (other._rows, other._digests)

    __hash__ = None  # type: ignore[assignment]


class _Steps:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def begin(self) -> None:
        """Start to count from zero. The transaction may be executed more than once."""
        self._done = 0

    def done(self, steps: int) -> None:
        self._done += steps
        self._progress(self._done, self._total)


@contextmanager
def _naming(database: Database, argument: str) -> Iterator[None]:
    """Adds to an error which of the two databases it is about."""
    try:
        yield
    except (DatabaseUnavailable, SchemaError) as error:
        name = str(database)
        told = error.for_operator_of(argument) if isinstance(error, DatabaseUnavailable) else error.for_operator
        detail = told if name in told else f"{name}: {told}"
        raise CopyFailed(detail, note=error.note) from error


@contextmanager
def _rules_of(place: str, table: type[pw.Model]) -> Iterator[None]:
    """Translates the error of a row that the database refuses."""
    try:
        yield
    except (pw.IntegrityError, pw.DataError) as error:
        raise CopyFailed(
            f"A row of {_name(table)} breaks a rule of {place}. Nothing was kept there.", note=_first_line(error)
        ) from error


def _first_line(error: Exception) -> str:
    """The first line of a database's error. The next lines may quote the row, and are left out."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
