"""Reads of one turn of the event loop on SQLite: which share a query, and that a read that fails does not affect the
others."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import Batchable
from nextarget.storage.engines.sqlite.database import SqliteDatabase
from nextarget.storage.engines.sqlite.reads import MAX_KEYS, TurnReads
from nextarget.storage.engines.trouble import Trouble


class Book:
    """Answers every key with itself, or with its error. Records the keys of all queries."""

    def __init__(self, **choking: Exception) -> None:
        self.queries: list[list[str]] = []
        self.choking = choking
        self.fn = Batchable(lambda _db, key: self.look_up([key])[0], lambda _db, keys: self.look_up(keys))
        self.reads = TurnReads(self.execute, lambda _error: None)

    def execute(self, fn: Callable[..., Any], *args: Any) -> Any:
        return fn(None, *args)

    def look_up(self, keys: Sequence[str]) -> list[str]:
        self.queries.append(list(keys))
        errors = [self.choking[key] for key in keys if key in self.choking]
        if errors:
            raise errors[0]
        return [f"about {key}" for key in keys]

    async def read(self, *keys: str) -> list[Any]:
        """Read keys in one turn."""
        reads = (self.reads.submit(self.fn, key) for key in keys)
        return await asyncio.gather(*reads, return_exceptions=True)


async def test_a_read_that_comes_alone_is_executed_at_once() -> None:
    """It is answered before the event loop goes on, as often as it comes."""
    book = Book()
    for key in "ab":
        read = book.reads.submit(book.fn, key)
        with pytest.raises(StopIteration, match=f"about {key}"):
            read.send(None)
        await asyncio.sleep(0)
    assert book.queries == [["a"], ["b"]]


async def test_reads_of_one_turn_share_a_query() -> None:
    """All but the first one of the first turn, and all of the turns that follow."""
    book = Book()
    assert await book.read(*"abc") == ["about a", "about b", "about c"]
    assert await book.read(*"def") == ["about d", "about e", "about f"]
    assert book.queries == [["a"], ["b", "c"], ["d", "e", "f"]]


async def test_after_a_quiet_turn_a_read_is_executed_at_once_again() -> None:
    """One read that comes alone waits for a turn, because there were many in the turn before."""
    book = Book()
    await book.read(*"abc")
    for key in "de":
        await book.read(key)
    with pytest.raises(StopIteration):
        book.reads.submit(book.fn, "f").send(None)


async def test_a_query_has_at_most_so_many_keys() -> None:
    """More keys are several queries, and every caller gets its own answer."""
    book = Book()
    keys = [str(number) for number in range(2 * MAX_KEYS + 2)]
    assert await book.read(*keys) == [f"about {key}" for key in keys]
    assert [len(query) for query in book.queries] == [1, MAX_KEYS, MAX_KEYS, 1]


async def test_two_functions_do_not_share_a_query() -> None:
    """Only keys of one function can be looked up together."""
    book, other = Book(), Book()
    submitted = [book.reads.submit(fn, key) for key in "abc" for fn in (book.fn, other.fn)]
    await asyncio.gather(*submitted)
    assert book.queries == [["a"], ["b", "c"]]
    assert other.queries == [["a", "b", "c"]]


async def test_a_read_that_fails_fails_alone() -> None:
    """The others of its query are read again, each by itself."""
    error = ValueError("of b alone")
    book = Book(b=error)
    assert await book.read(*"abcd") == ["about a", error, "about c", "about d"]
    assert book.queries == [["a"], ["b", "c", "d"], ["b"], ["c"], ["d"]]


async def test_when_the_database_cannot_be_used_nothing_is_read_again() -> None:
    """All reads of the query fail with the reason."""
    error = DatabaseUnavailable(note="gone")
    book = Book(b=error)
    assert await book.read(*"abc") == ["about a", error, error]
    assert book.queries == [["a"], ["b", "c"]]


async def test_a_caller_who_was_cancelled_does_not_disturb_the_others() -> None:
    """Its answer is dropped."""
    book = Book()
    tasks = [asyncio.create_task(book.reads.submit(book.fn, key)) for key in "abc"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, third) == ("about a", "about c")
    assert isinstance(second, asyncio.CancelledError)


async def test_every_failure_of_the_database_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that share a query are reported one by one, as those that come alone are."""

    def fails(_db: object, _keys: object) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    noted: list[DatabaseUnavailable] = []
    monkeypatch.setattr(Trouble, "note", lambda _self, error: noted.append(error))
    database = SqliteDatabase(tmp_path / "x.db")
    database.open()
    reads = (database.read_batched(Batchable(fails, fails), number) for number in range(5))
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    database.close()
    assert {type(outcome) for outcome in outcomes} == {DatabaseUnavailable}
    assert noted == outcomes
