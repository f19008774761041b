"""Reads of one turn of the event loop, which share a query.

A query takes several times as long between the work of other requests as after another query: its code and data have
left the processor's caches. So when many requests come at once, their reads are executed together.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import Batchable, K, R
from nextarget.storage.engines.jobs import settle

MAX_KEYS = 32
"""How many keys a query may have. SQLite's driver keeps 128 prepared statements, and each number of keys is one."""

_Waiting = list[tuple[Any, asyncio.Future[Any]]]
"""Keys, and the futures of the callers who wait for their answers."""


class TurnReads:
    """Executes the reads of one turn together, in the next turn, while requests are many.

    As long as there is one read in a turn, it is executed at once: a request that comes alone waits for nothing.
    `read` executes a storage function on the connection of the event loop, with its last argument. It raises
    DatabaseUnavailable, and `note` is called with the error of every caller.
    """

    def __init__(
        self, read: Callable[[Callable[..., Any], Any], Any], note: Callable[[DatabaseUnavailable], None]
    ) -> None:
        self._read = read
        self._note = note
        self._turns: dict[asyncio.AbstractEventLoop, _Turn] = {}

    async def submit(self, fn: Batchable[K, R], key: K) -> R:
        """The answer for a key. Any error but DatabaseUnavailable concerns this key alone."""
        loop = asyncio.get_running_loop()
        turn = self._turns.get(loop)
        if turn is None:
            turn = self._turns[loop] = _Turn()
        turn.count += 1
        if turn.count == 1:
            loop.call_soon(self._end, turn)
        try:
            if turn.count == 1 and not turn.crowded:
                answer: R = self._read(fn.one, key)
                return answer
            future: asyncio.Future[R] = loop.create_future()
            turn.waiting.setdefault(fn, []).append((key, future))
            return await future
        except DatabaseUnavailable as error:
            self._note(error)
            raise

    def _end(self, turn: "_Turn") -> None:
        turn.crowded, turn.count = turn.count > 1, 0
        waiting, turn.waiting = turn.waiting, {}
        for fn, keys in waiting.items():
            for start in range(0, len(keys), MAX_KEYS):
                self._answer(fn, keys[start : start + MAX_KEYS])

    def _answer(self, fn: Batchable[Any, Any], waiting: _Waiting) -> None:
        """Read the keys in one query. If that fails although the database can be used, read every key by itself."""
        failure: Exception | None = None
        answers = [None] * len(waiting)
        try:
            answers = self._read(fn, [key for key, _ in waiting])
        except Exception as error:  # noqa: BLE001 - given to the callers
            if len(waiting) > 1 and not isinstance(error, DatabaseUnavailable):
                for one in waiting:
                    self._answer(fn, [one])
                return
            failure = error
        for (_, future), answer in zip(waiting, answers, strict=True):
            settle(future, answer, failure)


class _Turn:
    """The reads of a turn: how many there are, and those that wait for its end. `crowded` is whether there was more
    than one in the last turn that had any."""

    def __init__(self) -> None:
        self.count = 0
        self.crowded = False
        self.waiting: dict[Batchable[Any, Any], _Waiting] = {}
