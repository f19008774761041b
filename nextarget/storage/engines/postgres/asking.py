"""Executing one statement with libpq, PostgreSQL's client library, without a cursor.

A `Statement` has values of four types only, and returns all of its rows at once.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg.abc import PQGen, Transformer
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

_TEXT, _BOOL, _INT8 = 0, 16, 20
"""Types of values (PostgreSQL's catalogue `pg_type`). PostgreSQL derives a type 0 from the place of the value."""


class Answer(NamedTuple):
    """What a statement returned, in the words of a cursor."""

    rows: list[tuple[Any, ...]]
    rowcount: int

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows


def asked(libpq: PGconn, loader: Transformer, query: str | bytes, values: Sequence[object]) -> PQGen[Answer]:
    """Execute a statement, with a placeholder `%s` for every value; as bytes, several statements without values.

    A generator as psycopg's: it yields what it waits for. `loader` reads the rows. Raises PostgreSQL's first error.
    """
    if isinstance(query, bytes):
        libpq.send_query(query)
    else:
        texts, types = _sent(values)
        libpq.send_query_params(_numbered(query), texts, types)
    while libpq.flush():
        if (yield Wait.RW) & Ready.R:
            libpq.consume_input()
    failed: PGresult | None = None
    while True:
        while libpq.is_busy():
            yield Wait.R
            libpq.consume_input()
        result = libpq.get_result()
        if result is None:
            break
        latest = result
        if failed is None and result.status == ExecStatus.FATAL_ERROR:
            failed = result
    if failed is not None:
        raise psycopg.errors.error_from_result(failed)
    loader.set_pgresult(latest)
    return Answer(loader.load_rows(0, latest.ntuples, tuple), latest.command_tuples or 0)


@lru_cache(maxsize=512)
def _numbered(query: str) -> bytes:
    """The query with the placeholders of PostgreSQL's protocol: $1, $2 ..."""
    first, *others = query.split("%s")
    return (first + "".join(f"${number}{text}" for number, text in enumerate(others, 1))).encode()


def without_nul(text: str) -> str:
    """PostgreSQL's text cannot hold NUL. U+FFFD is stored, and searched for, instead."""
    return text.replace("\0", "\ufffd")


def _sent(values: Sequence[object]) -> tuple[list[bytes | None], list[int]]:
    """The values in PostgreSQL's text format, and their types."""
    texts: list[bytes | None] = []
    types = []
    for value in values:
        if type(value) is int:  # not a truth value, which is an `int` too
            texts.append(b"%d" % value)
            types.append(_INT8)
        elif isinstance(value, str):
            texts.append(without_nul(value).encode())
            types.append(_TEXT)
        elif value is None:
            texts.append(None)
            types.append(_TEXT)
        elif isinstance(value, bool):
            texts.append(b"t" if value else b"f")
            types.append(_BOOL)
        else:
            raise TypeError(f"a statement takes text, whole numbers, truth values and None, not {type(value).__name__}")
    return texts, types
