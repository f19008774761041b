"""The final rows of a database of either kind, read without our own code."""

import sqlite3
from contextlib import closing
from typing import Any

import psycopg


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, in SQL that both kinds of database understand."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return connection.execute(query).fetchall()
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def is_sound(url: str) -> bool:
    """Whether a SQLite file is intact. PostgreSQL has no such check for clients."""
    return not url.startswith("sqlite:///") or rows(url, "PRAGMA integrity_check") == [("ok",)]
