"""Batches of database requests: how many batches there are, and that a request that fails does not affect the
others."""

import asyncio
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.jobs import MAX_WAITING
from nextarget.storage.engines.postgres import batching
from nextarget.storage.engines.postgres.batching import MAX_KEYS, Batcher
from tests.serving import PATIENCE_SECONDS


@dataclass
class Sent:
    """A batch that was sent, or a key alone, and the future of its outcome."""

    name: str
    asked: list[str] | str
    outcome: "asyncio.Future[Any]"

    @property
    def keys(self) -> list[str]:
        return [self.asked] if isinstance(self.asked, str) else self.asked


class Door:
    """Answers every key with itself, or with its error. Records all batches."""

    def __init__(self, **choking: BaseException) -> None:
        self.batches: list[list[str]] = []
        self.choking = choking

    def __call__(self, work: Any, *, writes: bool, single: bool) -> "asyncio.Future[Any]":
        sent = Sent(*work(None), asyncio.get_running_loop().create_future())
        self.batches.append(list(sent.keys))
        self.take(sent)
        return sent.outcome

    def take(self, sent: Sent) -> None:
        asyncio.get_running_loop().call_soon(self.answer, sent)

    def answer(self, sent: Sent) -> None:
        errors = [self.choking[key] for key in sent.keys if key in self.choking]
        answers = [f"{sent.name} {key}" for key in sent.keys]
        if errors:
            sent.outcome.set_exception(errors[0])
        else:
            sent.outcome.set_result(answers[0] if isinstance(sent.asked, str) else answers)


class Held(Door):
    """Answers a batch only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Sent] = []

    def take(self, sent: Sent) -> None:
        self.waiting.append(sent)

    async def answer_next(self) -> None:
        await self.answer_one(0)

    async def answer_one(self, place: int) -> None:
        self.answer(self.waiting.pop(place))
        await asyncio.sleep(0)


def unheard(_error: DatabaseUnavailable) -> None:
    """A callback for failures, for tests that check the answers only."""


@dataclass(frozen=True)
class Function:
    """In place of a Batchable. It tells the door what is asked, which answers."""

    name: str

    def __call__(self, _db: None, keys: list[str]) -> tuple[str, list[str]]:
        return self.name, keys

    def one(self, _db: None, key: str) -> tuple[str, str]:
        return self.name, key


look: Any = Function("look")
listen: Any = Function("listen")


async def test_the_first_request_goes_at_once_and_the_others_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request of a function waits for nothing. Those that come before its answer share one batch."""
    monkeypatch.setattr(batching, "MAX_COLLECTING_SECONDS", PATIENCE_SECONDS)
    door = Held()
    batcher = Batcher("read", door, unheard)
    asked = [batcher.submit(*each) for each in ((look, "a"), (listen, "b"), (look, "c"), (look, "d"), (listen, "e"))]
    assert door.batches == [["a"], ["b"]]
    await door.answer_next()
    assert door.batches == [["a"], ["b"], ["c", "d"]]
    for _ in range(3):
        await door.answer_next()
    assert await asyncio.gather(*asked) == ["look a", "listen b", "look c", "look d", "listen e"]
    later = batcher.submit(look, "f")
    await door.answer_next()
    assert await later == "look f"
    assert door.batches == [["a"], ["b"], ["c", "d"], ["e"], ["f"]]


async def test_a_batch_waits_only_so_long_for_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that hangs, as at a locked row, does not hold up the requests behind it. The requests after them follow
    the newer batch."""
    monkeypatch.setattr(batching, "MAX_COLLECTING_SECONDS", 0.001)
    door = Held()
    batcher = Batcher("write", door, unheard)
    hanging = batcher.submit(look, "a")
    second = batcher.submit(look, "b")
    async with asyncio.timeout(30):
        while len(door.batches) < 2:
            await asyncio.sleep(0)
    third = batcher.submit(look, "c")
    await door.answer_one(1)
    assert await second == "look b"
    assert door.batches == [["a"], ["b"], ["c"]]
    await door.answer_next()
    await door.answer_next()
    assert await asyncio.gather(hanging, third) == ["look a", "look c"]


async def test_a_full_batch_goes_at_once() -> None:
    """A batch has at most MAX_KEYS requests. A full one does not wait for the answer to the one before it."""
    door = Held()
    batcher = Batcher("read", door, unheard)
    keys = [str(number) for number in range(2 * MAX_KEYS + 2)]
    asked = [batcher.submit(look, key) for key in keys]
    assert [len(batch) for batch in door.batches] == [1, MAX_KEYS, MAX_KEYS]
    while door.waiting:
        await door.answer_next()
    assert await asyncio.gather(*asked) == [f"look {key}" for key in keys]
    assert [len(batch) for batch in door.batches] == [1, MAX_KEYS, MAX_KEYS, 1]


async def test_one_that_fails_fails_alone() -> None:
    """A request that fails, for example because of text that the driver refuses, does not fail the other requests of
    its batch."""
    door = Door(b=ValueError("surrogates not allowed"))
    batcher = Batcher("write", door, unheard)
    asked = [batcher.submit(look, key) for key in "0abc"]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert (answers[1], answers[3]) == ("look a", "look c")
    assert isinstance(answers[2], ValueError)
    assert door.batches == [["0"], ["a", "b", "c"], ["a"], ["b"], ["c"]]


async def test_a_database_that_cannot_be_used_is_not_asked_again() -> None:
    """If the database is unavailable, all requests of the batch fail at once. A write may have happened, and a retry of
    a read would double the waiting time."""
    door = Door(b=DatabaseUnavailable(note="gone"))
    told: list[DatabaseUnavailable] = []
    batcher = Batcher("write", door, told.append)
    answers = await asyncio.gather(*(batcher.submit(look, key) for key in "0abc"), return_exceptions=True)
    assert [type(answer) for answer in answers[1:]] == [DatabaseUnavailable] * 3
    assert told == answers[1:]
    assert door.batches == [["0"], ["a", "b", "c"]]


@pytest.mark.parametrize("held", [psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected])
async def test_a_request_for_a_locked_row_does_not_delay_its_batch(held: type[psycopg.Error]) -> None:
    """If a row is locked, also in a deadlock, nothing was written. So every request is tried again by itself, and only
    the one for the locked row waits."""
    door = Held()
    told: list[DatabaseUnavailable] = []
    batcher = Batcher("write", door, told.append)
    asked = [batcher.submit(look, key) for key in "0abc"]
    await door.answer_next()
    door.choking = {"a": DatabaseUnavailable(note="held")}
    door.choking["a"].__cause__ = held()
    await door.answer_next()
    assert door.batches == [["0"], ["a", "b", "c"], ["a"], ["b"], ["c"]]
    assert not told  # the first failed batch is not reported
    await door.answer_one(1)
    await door.answer_one(1)
    assert await asyncio.gather(*asked[2:]) == ["look b", "look c"]
    await door.answer_next()
    with pytest.raises(DatabaseUnavailable):
        await asked[1]
    assert told == [door.choking["a"]]


async def test_a_cancelled_request_cancels_no_other_of_its_batch() -> None:
    """A cancelled request does not affect the others of its batch."""
    batcher = Batcher("read", Door(), unheard)
    _, first, second = (batcher.submit(look, key) for key in "0ab")
    first.cancel()
    assert await second == "look b"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_request_alone_that_is_cancelled_holds_up_no_other() -> None:
    """A key alone whose caller has gone may stay without an answer: those that were collected go at once."""
    door = Held()
    batcher = Batcher("read", door, unheard)
    first, second = batcher.submit(look, "a"), batcher.submit(look, "b")
    first.cancel()
    await asyncio.sleep(0)
    assert door.batches == [["a"], ["b"]]
    await door.answer_one(1)
    assert await second == "look b"


async def test_a_failure_of_the_database_is_noted_for_a_request_alone_too() -> None:
    """Every failure that a caller is given is noted. Any other error is the caller's alone."""
    gone, refused = DatabaseUnavailable(note="gone"), ValueError("surrogates not allowed")
    told: list[DatabaseUnavailable] = []
    batcher = Batcher("read", Door(a=gone, b=refused), told.append)
    for key, error in (("a", gone), ("b", refused)):
        with pytest.raises(type(error)):
            await batcher.submit(look, key)
    assert told == [gone]


@pytest.mark.parametrize("keys", ["a", "0a"])
@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
async def test_an_error_that_ends_a_batch_reaches_every_waiting_request(error: BaseException, keys: str) -> None:
    """An error of any kind that ends a batch reaches the waiting requests, so that they do not wait for ever."""
    batcher = Batcher("read", Door(a=error), unheard)
    *_, asked = [batcher.submit(look, key) for key in keys]
    with pytest.raises(type(error)):
        await asked


async def test_only_so_many_wait() -> None:
    """If too many requests wait for the database, further ones are refused at once. Later, requests succeed again."""
    batcher = Batcher("read", Door(), unheard)
    first = batcher.submit(look, "first")
    waiting = [batcher.submit(look, str(number)) for number in range(MAX_WAITING)]
    with pytest.raises(DatabaseUnavailable):
        batcher.submit(look, "late")
    assert len(await asyncio.gather(first, *waiting)) == MAX_WAITING + 1
    assert await batcher.submit(look, "later") == "look later"
