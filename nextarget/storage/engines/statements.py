"""SQL written once, for what runs with every request: building it through Peewee costs ten times its execution."""

from collections.abc import Sequence
from typing import Any

import peewee as pw


class Statement:
    """A statement with `{0}` where each value goes.

    `lock` goes where `{1}` is, if there can be several writers at a time, who must wait for each other by the row.
    """

    def __init__(self, template: str, *, lock: str = "") -> None:
        self._template = template
        self._lock = lock
        self._texts: dict[str, str] = {}

    def run(self, db: pw.Database, values: tuple[object, ...]) -> Any:
        """Execute it; the driver's own cursor. Whoever reads rows reads them all: see `rows`."""
        return db.connection().execute(self.text(db), values)  # type: ignore[no-untyped-call]

    def text(self, db: pw.Database) -> str:
        """As this database takes it."""
        text = self._texts.get(db.param)
        if text is None:
            text = self._texts[db.param] = self._template.format(db.param, self._lock if db.for_update else "")
        return text

    def rows(self, db: pw.Database, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """Every row. A half-read cursor would hold SQLite's snapshot, and later reads would miss commits."""
        rows: list[tuple[Any, ...]] = self.run(db, values).fetchall()
        return rows


class StatementForMany:
    """A statement with `{many}` where something is repeated, `each`, once for every one that it is about.

    Where a statement travels, one about many costs little more than one about one.
    """

    def __init__(self, template: str, *, each: str = "{0}") -> None:
        self._template = template
        self._each = each
        self._statements: dict[int, Statement] = {}

    def run(self, db: pw.Database, count: int, values: Sequence[object]) -> Any:
        """As `Statement.run`, about `count` of them."""
        return self.about(count).run(db, tuple(values))

    def rows(self, db: pw.Database, count: int, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """As `Statement.rows`, about `count` of them."""
        return self.about(count).rows(db, tuple(values))

    def about(self, count: int) -> Statement:
        """The statement about so many."""
        statement = self._statements.get(count)
        if statement is None:
            many = ", ".join([self._each] * count)
            statement = self._statements[count] = Statement(self._template.replace("{many}", many))
        return statement


def insert_into(table: type[pw.Model], columns: tuple[Any, ...]) -> Statement:
    """One row, the columns in this order."""
    return Statement(_insert(table, columns) + _row(columns))


def insert_or_nothing(table: type[pw.Model], columns: tuple[Any, ...]) -> Statement:
    """As `insert_into`, unless there is such a row already: its `rowcount` tells."""
    return Statement(f"{_insert(table, columns)}{_row(columns)} ON CONFLICT DO NOTHING")


def insert_many_into(table: type[pw.Model], columns: tuple[Any, ...]) -> StatementForMany:
    """Rows, the columns in this order."""
    return StatementForMany(_insert(table, columns) + "{many}", each=_row(columns))


def _insert(table: type[pw.Model], columns: tuple[Any, ...]) -> str:
    names = ", ".join(f'"{column.column_name}"' for column in columns)
    return f'INSERT INTO "{table._meta.table_name}" ({names}) VALUES '  # noqa: S608 - names of ours


def _row(columns: tuple[Any, ...]) -> str:
    return f"({', '.join(['{0}'] * len(columns))})"
