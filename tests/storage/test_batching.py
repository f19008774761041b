"""Batches of database requests: how many batches there are, and that a request that fails does not affect the
others."""

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import Connection
from nextarget.storage.engines.pool import MAX_WAITING
from nextarget.storage.engines.postgres.batching import MAX_KEYS, QUIET_TURNS, Batcher


class Door:
    """Answers every key with itself, or with its error. Records all batches."""

    def __init__(self, **choking: Exception) -> None:
        self.batches: list[list[str]] = []
        self.choking = choking

    async def __call__(self, fn: Any, keys: Sequence[str]) -> list[str]:
        self.batches.append(list(keys))
        await asyncio.sleep(0)
        for key in keys:
            if key in self.choking:
                raise self.choking[key]
        return [f"{fn.__name__} {key}" for key in keys]


def unheard(_error: DatabaseUnavailable) -> None:
    """A callback for failures, for tests that check the answers only."""


def look(_db: Connection, _keys: Sequence[str]) -> list[str]:
    raise AssertionError("the door answers")


def listen(_db: Connection, _keys: Sequence[str]) -> list[str]:
    raise AssertionError("the door answers")


async def test_requests_of_the_same_moment_are_one_batch() -> None:
    """Requests of the same moment share one batch for every function. A later request gets another batch."""
    door = Door()
    batcher = Batcher("read", door, unheard)
    asked = [batcher.submit(look, "a"), batcher.submit(listen, "b"), batcher.submit(look, "c")]
    assert await asyncio.gather(*asked) == ["look a", "listen b", "look c"]
    assert await batcher.submit(look, "d") == "look d"
    assert door.batches == [["a", "c"], ["b"], ["d"]]


async def test_a_request_that_comes_while_the_loop_is_busy_joins_the_batch() -> None:
    """A batch waits for further requests as long as at least one comes within QUIET_TURNS turns of the loop."""
    door = Door()
    batcher = Batcher("read", door, unheard)
    asked = []
    for key in "abcd":
        asked.append(batcher.submit(look, key))
        for _ in range(QUIET_TURNS):
            await asyncio.sleep(0)
    assert await asyncio.gather(*asked) == ["look a", "look b", "look c", "look d"]
    assert door.batches == [["a", "b", "c", "d"]]


async def test_a_single_request_does_not_wait_for_others() -> None:
    """A single request waits for some turns of the loop, not for a time by the clock."""
    door = Door()
    batcher = Batcher("read", door, unheard)
    first = batcher.submit(look, "a")
    for _ in range(QUIET_TURNS + 2):
        await asyncio.sleep(0)
    second = batcher.submit(look, "b")
    assert [await first, await second] == ["look a", "look b"]
    assert door.batches == [["a"], ["b"]]


async def test_a_stream_without_a_pause_keeps_nobody_waiting() -> None:
    """A full batch starts at once, even if further requests keep coming."""
    door = Door()
    batcher = Batcher("read", door, unheard)
    asked = []
    for number in range(2 * MAX_KEYS):
        asked.append(batcher.submit(look, str(number)))
        await asyncio.sleep(0)
        if number == MAX_KEYS + 2:
            assert [len(batch) for batch in door.batches] == [MAX_KEYS]
    await asyncio.gather(*asked)
    assert [len(batch) for batch in door.batches] == [MAX_KEYS, MAX_KEYS]


async def test_a_batch_has_a_limit() -> None:
    """A batch has at most MAX_KEYS requests."""
    door = Door()
    batcher = Batcher("read", door, unheard)
    keys = [str(number) for number in range(2 * MAX_KEYS + 1)]
    assert await asyncio.gather(*(batcher.submit(look, key) for key in keys)) == [f"look {key}" for key in keys]
    assert [len(batch) for batch in door.batches] == [MAX_KEYS, MAX_KEYS, 1]


async def test_one_that_fails_fails_alone() -> None:
    """A request that fails, for example because of text that the driver refuses, does not fail the other requests of
    its batch."""
    batcher = Batcher("write", Door(b=ValueError("surrogates not allowed")), unheard)
    asked = [batcher.submit(look, key) for key in "abc"]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert (answers[0], answers[2]) == ("look a", "look c")
    assert isinstance(answers[1], ValueError)


async def test_a_database_that_cannot_be_used_is_not_asked_again() -> None:
    """If the database is unavailable, all requests of the batch fail at once. A write may have happened, and a retry of
    a read would double the waiting time."""
    door = Door(b=DatabaseUnavailable(note="gone"))
    told: list[DatabaseUnavailable] = []
    batcher = Batcher("write", door, told.append)
    answers = await asyncio.gather(*(batcher.submit(look, key) for key in "abc"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 3
    assert told == answers
    assert door.batches == [["a", "b", "c"]]


@pytest.mark.parametrize("held", [psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected])
async def test_a_request_for_a_locked_row_does_not_delay_its_batch(held: type[psycopg.Error]) -> None:
    """If a row is locked, also in a deadlock, nothing was written. So every request is tried again by itself, and only
    the one for the locked row waits."""
    served: list[str] = []
    rest_served = asyncio.Event()

    async def door(_fn: Any, keys: Sequence[str]) -> list[str]:
        if keys == ["a"]:
            await rest_served.wait()
        if "a" in keys:
            raise DatabaseUnavailable(note="held") from held()
        served.extend(keys)
        if len(served) == 2:
            rest_served.set()
        return list(keys)

    told: list[DatabaseUnavailable] = []
    batcher = Batcher("write", door, told.append)
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(batcher.submit(look, key) for key in "abc"), return_exceptions=True)
    assert isinstance(answers[0], DatabaseUnavailable)
    assert told == answers[:1]  # the first failed batch is not reported
    assert answers[1:] == ["b", "c"]
    assert served == ["b", "c"]


async def test_a_cancelled_request_cancels_no_other_of_its_batch() -> None:
    """A cancelled request does not affect the others of its batch."""
    batcher = Batcher("read", Door(), unheard)
    first, second = batcher.submit(look, "a"), batcher.submit(look, "b")
    first.cancel()
    assert await second == "look b"
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
async def test_an_error_that_ends_a_batch_reaches_every_waiting_request(error: BaseException) -> None:
    """An error of any kind that ends a batch reaches the waiting requests, so that they do not wait for ever."""

    async def door(_fn: Any, _keys: Sequence[str]) -> list[str]:
        raise error

    asked = Batcher("read", door, unheard).submit(look, "a")
    with pytest.raises(type(error)):
        await asked


async def test_only_so_many_wait() -> None:
    """If too many requests wait for the database, further ones are refused at once. Later, requests succeed again."""
    batcher = Batcher("read", Door(), unheard)
    waiting = [batcher.submit(look, str(number)) for number in range(MAX_WAITING)]
    with pytest.raises(DatabaseUnavailable):
        batcher.submit(look, "late")
    assert len(await asyncio.gather(*waiting)) == MAX_WAITING
    assert await batcher.submit(look, "later") == "look later"
