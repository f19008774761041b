"""Batching for PostgreSQL, as a DataLoader does it: keys that are submitted at the same time become one query.

A query across the network costs the same for one row as for twenty: a job for a thread, a round trip and, when it
writes, a commit. Send the batch when the loop has had three turns without a new request. Under load batches grow; when
quiet there is almost no delay.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, Literal

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import K, Many, R
from nextarget.storage.engines.pool import MAX_WAITING
from nextarget.storage.engines.postgres.errors import is_held
from nextarget.telemetry import metrics

MAX_KEYS = 64
"""How many keys a batch may have."""
QUIET_TURNS = 3
"""After how many turns of the loop without a new key a batch is sent. A request needs two from its socket to here."""

Execute = Callable[[Many[Any, Any], Sequence[Any]], Awaitable[list[Any]]]
"""Calls a storage function with keys, on a thread of the pool."""


class Batcher:
    """Collects the keys for one kind of access, read or write, and executes them in batches, one for every function.

    `note` is called with every failure of the database that a caller is given.
    """

    def __init__(
        self, kind: Literal["read", "write"], execute: Execute, note: Callable[[DatabaseUnavailable], None]
    ) -> None:
        self._kind = kind
        self._execute = execute
        self._note = note
        self._open: dict[Many[Any, Any], _Batch] = {}
        """The batches that still take keys."""
        self._running: set[asyncio.Task[None]] = set()
        self._waiting = 0

    def submit(self, fn: Many[K, R], key: K) -> "asyncio.Future[R]":
        """Add a key to the open batch of `fn`; returns its future answer.

        When the database cannot be used, all keys of the batch fail with DatabaseUnavailable. Any other error, or a row
        that another transaction has locked, undoes the whole batch although it concerns one key. Then every key is
        executed again by itself, all keys at the same time. A request may then take twice as long.
        """
        if self._waiting >= MAX_WAITING:
            error = DatabaseUnavailable(note=f"{MAX_WAITING} requests wait for the database already", cause="crowded")
            self._note(error)
            raise error
        self._waiting += 1
        loop = asyncio.get_running_loop()
        batch = self._open.get(fn)
        if batch is None or batch.loop is not loop or len(batch.keys) >= MAX_KEYS:
            batch = self._open[fn] = _Batch(loop)
            loop.call_soon(self._send_when_quiet, fn, batch)
        answer: asyncio.Future[R] = loop.create_future()
        batch.keys.append(key)
        batch.answers.append(answer)
        return answer

    def _send_when_quiet(self, fn: Many[Any, Any], batch: "_Batch") -> None:
        """Runs in every turn of the loop until the batch is sent."""
        count = len(batch.keys)
        batch.quiet_turns = batch.quiet_turns + 1 if count == batch.seen else 0
        batch.seen = count
        if batch.quiet_turns < QUIET_TURNS and count < MAX_KEYS:
            batch.loop.call_soon(self._send_when_quiet, fn, batch)
        else:
            self._send(fn, batch)

    def _send(self, fn: Many[Any, Any], batch: "_Batch") -> None:
        if self._open.get(fn) is batch:
            del self._open[fn]
        task = batch.loop.create_task(self._run(fn, batch))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, fn: Many[Any, Any], batch: "_Batch") -> None:
        """Execute a batch and give every caller its answer."""
        outcomes: Sequence[Any]
        try:
            outcomes = await self._execute(fn, batch.keys)
        except BaseException as error:  # noqa: BLE001 - given to the callers
            if len(batch.keys) > 1 and _may_concern_one_key(error):
                outcomes = await asyncio.gather(*(self._run_alone(fn, key) for key in batch.keys))
            else:
                outcomes = [error] * len(batch.keys)
        self._waiting -= len(batch.keys)
        seconds = perf_counter() - batch.began
        for answer, outcome in zip(batch.answers, outcomes, strict=True):
            metrics.observe_database(self._kind, seconds)
            if isinstance(outcome, DatabaseUnavailable):
                self._note(outcome)
            if answer.done():
                continue  # the caller was cancelled
            if isinstance(outcome, BaseException):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    async def _run_alone(self, fn: Many[Any, Any], key: Any) -> Any:
        """The answer for one key, or its error."""
        try:
            return (await self._execute(fn, [key]))[0]
        except Exception as error:  # noqa: BLE001 - given to the caller
            return error


def _may_concern_one_key(error: BaseException) -> bool:
    """Whether nothing was written, and the other keys of the batch may succeed by themselves."""
    return is_held(error) if isinstance(error, DatabaseUnavailable) else isinstance(error, Exception)


class _Batch:
    """Keys, and the futures of the callers who wait for their answers."""

    __slots__ = ("answers", "began", "keys", "loop", "quiet_turns", "seen")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.quiet_turns = self.seen = 0
        self.began = perf_counter()
        self.keys: list[Any] = []
        self.answers: list[asyncio.Future[Any]] = []
