"""SQL that is written once and executed many times, and rows whose columns have names.

One rule decides how a storage function speaks to the database: what runs with every request is a `Statement`, and
everything else (the terminal, start-up, purging, migrations) is a Peewee query. Peewee needs about ten times as long to
build a query as the database needs to answer it. That does not matter once a minute, and it does with every request.
A request is a request over HTTP. The inserts of a copy are statements too: they run once for every 500 rows.

What a `Query` returns are rows of a NamedTuple. Its fields are the columns, so the list of columns in the SQL cannot
differ from the type, and mypy checks every use of a column.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import peewee as pw

Row = TypeVar("Row", bound=NamedTuple)
Other = TypeVar("Other", bound=NamedTuple)


class Statement:
    """One SQL statement. `{0}` in the template is a value, for which every database has its own placeholder.

    `{1}` is the place of `lock`, a clause that locks rows. It is left out for SQLite, which has one writer at a time.
    """

    def __init__(self, template: str, *, lock: str = "") -> None:
        self._template = template
        self._lock = lock
        self._texts: dict[str, str] = {}

    def run(self, db: pw.Database, values: Sequence[object]) -> Any:
        """Execute the statement; returns the driver's cursor. To read rows, call `rows`, which reads all of them."""
        return db.connection().execute(self.text(db), values)  # type: ignore[no-untyped-call]

    def changed(self, db: pw.Database, values: Sequence[object]) -> int:
        """Execute the statement; returns the number of rows that it inserted, updated or deleted."""
        return int(self.run(db, values).rowcount)

    def rows(self, db: pw.Database, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """All rows. A cursor with unread rows would keep SQLite's snapshot, and later reads would miss commits."""
        cursor = db.connection().execute(self.text(db), values)  # type: ignore[no-untyped-call]
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows

    def text(self, db: pw.Database) -> str:
        """The SQL for this database."""
        text = self._texts.get(db.param)
        if text is None:
            text = self._texts[db.param] = self._template.format(db.param, self._lock if db.for_update else "")
        return text


class StatementForMany:
    """A statement about several rows: `{many}` in the template is replaced by `item`, once for every row.

    On a database across a network, a statement about many rows costs little more than a statement about one.
    """

    def __init__(self, template: str, *, item: str = "{0}", lock: str = "") -> None:
        self._template = template
        self._item = item
        self._lock = lock
        self._statements: dict[int, Statement] = {}

    def for_count(self, count: int) -> Statement:
        """The statement about `count` rows."""
        statement = self._statements.get(count)
        if statement is None:
            many = ", ".join([self._item] * count)
            statement = self._statements[count] = Statement(self._template.replace("{many}", many), lock=self._lock)
        return statement


class Query(Generic[Row]):
    """A statement that returns rows. `{columns}` in the template becomes the fields of the row type."""

    def __init__(self, row: type[Row], template: str, *, lock: str = "") -> None:
        self._make = row._make
        self._statement = Statement(template.replace("{columns}", columns(row)), lock=lock)

    def rows(self, db: pw.Database, values: Sequence[object]) -> list[Row]:
        """All rows."""
        return [self._make(row) for row in self._statement.rows(db, values)]

    def first(self, db: pw.Database, values: Sequence[object]) -> Row | None:
        """The first row, or None."""
        rows = self._statement.rows(db, values)
        return self._make(rows[0]) if rows else None


class QueryForMany(Generic[Row]):
    """A statement about several rows that returns rows."""

    def __init__(self, row: type[Row], template: str, *, item: str = "{0}", lock: str = "") -> None:
        self._make = row._make
        self._statement = StatementForMany(template.replace("{columns}", columns(row)), item=item, lock=lock)

    def rows(self, db: pw.Database, values: Sequence[object], *, count: int) -> list[Row]:
        """All rows; `count` is how often `{many}` has its item."""
        return [self._make(row) for row in self._statement.for_count(count).rows(db, values)]


class JoinQuery(Generic[Row, Other]):
    """As `Query`, for a join of two tables, called `s` and `u`: it returns pairs of rows."""

    def __init__(self, row: type[Row], other: type[Other], template: str) -> None:
        self._make, self._make_other = row._make, other._make
        self._count = len(row._fields)
        names = f"{columns(row, 's')}, {columns(other, 'u')}"
        self._statement = StatementForMany(template.replace("{columns}", names))

    def rows(self, db: pw.Database, values: Sequence[object], *, count: int = 1) -> list[tuple[Row, Other]]:
        """All pairs of rows; `count` is the number of values for `{many}`."""
        found = self._statement.for_count(count).rows(db, values)
        return [(self._make(row[: self._count]), self._make_other(row[self._count :])) for row in found]


def columns(row: type[NamedTuple], table: str = "") -> str:
    """The fields of a row type as a list of columns, for SELECT and RETURNING."""
    return ", ".join(f'{table}."{name}"' if table else f'"{name}"' for name in row._fields)


def fields_of(table: type[pw.Model], row: type[NamedTuple]) -> list[Any]:
    """The fields of a row type as Peewee's fields of a table, for a query of Peewee's."""
    return [table._meta.columns[name] for name in row._fields]


def insert_into(table: type[pw.Model], row: type[NamedTuple]) -> str:
    """The SQL that inserts one row; its values are a `row`."""
    return _insert(table, row._fields) + _placeholders(row._fields)


def insert_many_into(table: type[pw.Model]) -> StatementForMany:
    """INSERT several rows; their values are in the order of the table's columns."""
    names = [field.column_name for field in table._meta.sorted_fields]
    return StatementForMany(_insert(table, names) + "{many}", item=_placeholders(names))


def _insert(table: type[pw.Model], names: Iterable[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f'INSERT INTO "{table._meta.table_name}" ({quoted}) VALUES '  # noqa: S608 - names of ours


def _placeholders(names: Sequence[str]) -> str:
    return f"({', '.join(['{0}'] * len(names))})"
