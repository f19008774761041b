"""SQL written once, for what runs with every request: building it through Peewee costs ten times its execution."""

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
        text = self._texts.get(db.param)
        if text is None:
            text = self._texts[db.param] = self._template.format(db.param, self._lock if db.for_update else "")
        return db.connection().execute(text, values)  # type: ignore[no-untyped-call]

    def rows(self, db: pw.Database, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """Every row. A half-read cursor would hold SQLite's snapshot, and later reads would miss commits."""
        rows: list[tuple[Any, ...]] = self.run(db, values).fetchall()
        return rows


def insert_into(table: type[pw.Model], columns: tuple[Any, ...]) -> Statement:
    """One row, the columns in this order."""
    names = ", ".join(f'"{column.column_name}"' for column in columns)
    places = ", ".join(["{0}"] * len(columns))
    return Statement(f'INSERT INTO "{table._meta.table_name}" ({names}) VALUES ({places})')  # noqa: S608 - names of ours
