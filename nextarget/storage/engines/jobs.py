"""Work that a caller on the event loop gives to a connection, and awaits."""

import asyncio
from collections.abc import Callable
from typing import Any

MAX_WAITING = 1000
"""How many jobs may wait for a connection. More wait only when the database hangs; new jobs are then refused at
once."""


class Job:
    """Some work, its outcome, and the future that its caller awaits."""

    __slots__ = ("error", "future", "result", "work")

    def __init__(self, work: Callable[..., Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Give the caller the outcome."""
        settle(self.future, self.result, self.error)


def settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Give a caller the error if there is one, else the result, unless the caller was cancelled or the event loop is
    closed. Runs on the event loop."""
    if future.done() or future.get_loop().is_closed():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
