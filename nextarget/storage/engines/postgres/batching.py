"""Batching for PostgreSQL, as a DataLoader does it: keys that are submitted at the same time become one query.

A query across the network costs the same for one row as for twenty: a round trip and, when it writes, a commit. The
first key is sent at once. Keys that come before its answer are collected, and sent when the answer arrives. So a
request that comes alone waits for nothing, and batches grow with the load.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Literal, Protocol

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import Batchable, Connection, K, R, Work
from nextarget.storage.engines.jobs import MAX_WAITING, settle
from nextarget.storage.engines.postgres.errors import is_held
from nextarget.telemetry import metrics

MAX_KEYS = 64
"""How many keys a batch may have."""
MAX_COLLECTING_SECONDS = 0.02
"""A batch is sent after this time even if the batch before it has no answer, as when it waits for a locked row."""


class Submit(Protocol):
    """Executes a job; returns its future result, as `Pool.submit`."""

    def __call__(self, work: Work[[], Any], *, writes: bool, single: bool) -> "asyncio.Future[Any]": ...


class Batcher:
    """Collects the keys for one kind of access, read or write, and executes them in batches, one for every function.

    `note` is called with every failure of the database that a caller is given.
    """

    def __init__(
        self, kind: Literal["read", "write"], submit: Submit, note: Callable[[DatabaseUnavailable], None]
    ) -> None:
        self._kind = kind
        self._submit = submit
        self._note = note
        self._sent: dict[Batchable[Any, Any], object] = {}
        """The newest batch without an answer, for every function; for a key alone, its future answer."""
        self._collecting: dict[Batchable[Any, Any], _Batch] = {}
        self._waiting = 0

    def submit(self, fn: Batchable[K, R], key: K) -> "asyncio.Future[R]":
        """Send a key alone, or add it to a batch; returns its future answer.

        When the database cannot be used, all keys of the batch fail with DatabaseUnavailable. Any other error, or a row
        that another transaction has locked, undoes the whole batch although it concerns one key. Then every key is
        executed again by itself, all keys at the same time. A request may then take twice as long.
        """
        if fn not in self._sent:
            return self._send_alone(fn, key)
        if self._waiting >= MAX_WAITING:
            error = DatabaseUnavailable(note=f"{MAX_WAITING} requests wait for the database already", cause="crowded")
            self._note(error)
            raise error
        self._waiting += 1
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        batch = self._collecting.get(fn)
        if batch is None:
            batch = self._collecting[fn] = _Batch(fn)
            batch.timer = loop.call_later(MAX_COLLECTING_SECONDS, self._send, batch)
        batch.keys.append(key)
        batch.answers.append(answer)
        if len(batch.keys) == MAX_KEYS:
            self._send(batch)
        return answer

    def _send_alone(self, fn: Batchable[K, R], key: K) -> "asyncio.Future[R]":
        """The caller awaits the job itself: a second future would cost a request that comes alone a tenth."""
        began = perf_counter()
        answer: asyncio.Future[R] = self._submit(lambda db: fn.one(db, key), writes=self._kind == "write", single=True)
        self._sent[fn] = answer
        answer.add_done_callback(partial(self._answered_alone, fn, began))
        return answer

    def _answered_alone(self, fn: Batchable[K, R], began: float, answer: "asyncio.Future[R]") -> None:
        self._has_ended(fn, answer)
        self._account(perf_counter() - began, None if answer.cancelled() else answer.exception())

    def _send(self, batch: "_Batch") -> None:
        if batch.timer is not None:
            batch.timer.cancel()
        del self._collecting[batch.fn]
        self._sent[batch.fn] = batch
        self._execute(batch)

    def _has_ended(self, fn: Batchable[Any, Any], sent: object) -> None:
        """Send the keys that were collected meanwhile."""
        if self._sent.get(fn) is sent:
            del self._sent[fn]
            if (collected := self._collecting.get(fn)) is not None:
                self._send(collected)

    def _execute(self, batch: "_Batch") -> None:
        outcome = self._submit(batch.work, writes=self._kind == "write", single=True)
        outcome.add_done_callback(partial(self._answered, batch))

    def _answered(self, batch: "_Batch", outcome: "asyncio.Future[Any]") -> None:
        """Give every caller its answer."""
        fn, keys = batch.fn, batch.keys
        self._has_ended(fn, batch)
        error = outcome.exception()
        if error is not None and len(keys) > 1 and _may_concern_one_key(error):
            for key, answer in zip(keys, batch.answers, strict=True):
                self._execute(_Batch(fn, batch.began, [key], [answer]))
            return
        seconds = perf_counter() - batch.began
        results = outcome.result() if error is None else [None] * len(keys)
        for answer, result in zip(batch.answers, results, strict=True):
            self._waiting -= 1
            self._account(seconds, error)
            settle(answer, result, error)

    def _account(self, seconds: float, error: BaseException | None) -> None:
        """Count a caller that waited so long, and note a failure of the database."""
        metrics.observe_database(self._kind, seconds)
        if isinstance(error, DatabaseUnavailable):
            Context().run(self._note, error)  # the log line must not carry the id of another request


def _may_concern_one_key(error: BaseException) -> bool:
    """Whether nothing was written, and the other keys of the batch may succeed by themselves."""
    return is_held(error) if isinstance(error, DatabaseUnavailable) else isinstance(error, Exception)


@dataclass(slots=True)
class _Batch:
    """Keys, and the futures of the callers who wait for their answers. `timer` is set if it collects keys."""

    fn: Batchable[Any, Any]
    began: float = field(default_factory=perf_counter)
    keys: list[Any] = field(default_factory=list)
    answers: "list[asyncio.Future[Any]]" = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None

    def work(self, db: Connection) -> list[Any]:
        return self.fn(db, self.keys)
