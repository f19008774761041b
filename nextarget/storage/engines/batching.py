"""Questions of the same kind that come at the same time, put to the database as one.

A statement that travels costs the same whether it is about one row or about twenty: a job for a thread, a journey there
and back, and, when it writes, a commit. So a group sets out once the event loop has nobody new for it: at once when
there is little to do, and when there is much, with those who would have had to wait for the processor anyway.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, Literal

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import K, R, Together
from nextarget.storage.engines.pool import MAX_WAITING
from nextarget.storage.engines.postgres_errors import is_held
from nextarget.telemetry import metrics

MOST = 64
"""Keys that one statement is about at the most."""
QUIET_TURNS = 3
"""Turns of the loop with nobody new, after which a group sets out. A request takes two from its socket to here."""

Ask = Callable[[Together[Any, Any], Sequence[Any]], Awaitable[list[Any]]]
"""A door of a database."""


class Gathering:
    """Before one door: asks it once for all the keys that one function is asked for meanwhile. `note` is told of each
    that failed."""

    def __init__(self, kind: Literal["read", "write"], door: Ask, note: Callable[[DatabaseUnavailable], None]) -> None:
        self._kind = kind
        self._door = door
        self._note = note
        self._groups: dict[Together[Any, Any], _Group] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._waiting = 0

    def ask(self, fn: Together[K, R], key: K) -> "asyncio.Future[R]":
        """What `fn` answers for this key. Raises DatabaseUnavailable, as do the others that are asked together.

        What else goes wrong for one, a row that somebody holds included, goes wrong for that one alone: nothing was
        done, so each is asked for by itself, all at once. That may take as long again.
        """
        if self._waiting >= MAX_WAITING:
            error = DatabaseUnavailable(note=f"{MAX_WAITING} requests wait for the database already", cause="crowded")
            self._note(error)
            raise error
        self._waiting += 1
        loop = asyncio.get_running_loop()
        group = self._groups.get(fn)
        if group is None or group.loop is not loop or len(group.keys) >= MOST:
            group = self._groups[fn] = _Group(loop)
            loop.call_soon(self._look, fn, group)
        answer: asyncio.Future[R] = loop.create_future()
        group.keys.append(key)
        group.answers.append(answer)
        return answer

    def _look(self, fn: Together[Any, Any], group: "_Group") -> None:
        """Whether somebody came with this turn of the loop."""
        count = len(group.keys)
        group.quiet = group.quiet + 1 if count == group.seen else 0
        group.seen = count
        if group.quiet < QUIET_TURNS and count < MOST:
            group.loop.call_soon(self._look, fn, group)
        else:
            self._set_out(fn, group)

    def _set_out(self, fn: Together[Any, Any], group: "_Group") -> None:
        if self._groups.get(fn) is group:
            del self._groups[fn]
        task = group.loop.create_task(self._put(fn, group))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _put(self, fn: Together[Any, Any], group: "_Group") -> None:
        outcomes: Sequence[Any]
        try:
            outcomes = await self._door(fn, group.keys)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for it
            if len(group.keys) > 1 and _may_be_of_one(error):
                outcomes = await asyncio.gather(*(self._outcome(fn, key) for key in group.keys))
            else:
                outcomes = [error] * len(group.keys)
        self._waiting -= len(group.keys)
        seconds = perf_counter() - group.began
        for answer, outcome in zip(group.answers, outcomes, strict=True):
            metrics.observe_database(self._kind, seconds)
            if isinstance(outcome, DatabaseUnavailable):
                self._note(outcome)
            if answer.done():
                continue  # whoever asked has gone away
            if isinstance(outcome, BaseException):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    async def _outcome(self, fn: Together[Any, Any], key: Any) -> Any:
        try:
            return (await self._door(fn, [key]))[0]
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for it
            return error


def _may_be_of_one(error: BaseException) -> bool:
    """Whether nothing was done, and others of the group may fare better alone."""
    return is_held(error) if isinstance(error, DatabaseUnavailable) else isinstance(error, Exception)


class _Group:
    """Keys, and who waits for what they lead to."""

    __slots__ = ("answers", "began", "keys", "loop", "quiet", "seen")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.quiet = self.seen = 0
        self.began = perf_counter()
        self.keys: list[Any] = []
        self.answers: list[asyncio.Future[Any]] = []
