"""The doors to a database, whichever kind it is. `sqlite` and `postgres` are what is behind them."""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Concatenate, Generic, ParamSpec, TypeAlias, TypeVar

import peewee as pw

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines import trouble
from nextarget.storage.engines.trouble import Trouble

P = ParamSpec("P")
K = TypeVar("K")
R = TypeVar("R")
Connection: TypeAlias = pw.Database
"""What storage functions take first: the open database, on whichever thread they run."""
Work = Callable[Concatenate[Connection, P], R]
"""A storage function, or one of `services` that calls several in one transaction."""

Many = Callable[[Connection, Sequence[K]], list[R]]
"""A storage function for a batch of keys. It answers in their order, and takes as many statements as for one key."""


@dataclass(frozen=True, slots=True, eq=False)
class Batchable(Generic[K, R]):
    """A storage function for one key, and the same for a batch of keys. Calling it chooses by their number."""

    one: Callable[[Connection, K], R]
    many: Many[K, R]

    def __call__(self, db: Connection, keys: Sequence[K]) -> list[R]:
        return [self.one(db, keys[0])] if len(keys) == 1 else self.many(db, keys)


class Database(ABC):
    """One database. Open it in the process that uses it: neither connections nor threads survive a fork.

    Every door raises DatabaseUnavailable when the database cannot be used; those of the event loop have `trouble` tell
    of it. What a storage function raises rolls its own changes back and reaches the caller. `str(database)` names it
    for people, without a password.
    """

    shared: bool
    """Whether tables of other programs may stand beside ours."""
    trouble: Trouble
    """What went wrong of late."""

    @abstractmethod
    def __str__(self) -> str: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    @abstractmethod
    def open(self) -> None:
        """Make ready for `read` and `write`. Raises DatabaseUnavailable."""

    @abstractmethod
    def close(self) -> None:
        """Finish every queued write, then disconnect. A closed database may be opened again."""

    @abstractmethod
    async def read(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a storage function that only reads. It sees every write that was acknowledged before."""

    @abstractmethod
    async def write(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a storage function in a transaction; returns once its changes are on the disk.

        It may be run again after its changes were undone, so all that it does it does to the database.
        """

    @abstractmethod
    def read_batched(self, fn: Batchable[K, R], key: K) -> Awaitable[R]:
        """As `read`, for one key. On a database across a network, keys of the same time become one batch."""

    @abstractmethod
    def write_batched(self, fn: Batchable[K, R], key: K) -> Awaitable[R]:
        """As `write`, for one key. A batch is one transaction; if it fails, its keys may be written one by one."""

    async def try_writing(self) -> None:
        """Write something for the sake of it, if there is a doubt that it works; raises DatabaseUnavailable if not."""
        if self.trouble.suspected:
            began = time.monotonic()
            await self.write(trouble.fill_probe)
            await self.write(trouble.clear_probe)
            self.trouble.probe_succeeded(since=began)

    @abstractmethod
    def unavailable(self, error: Exception) -> DatabaseUnavailable:
        """What an error of Peewee's means, if it means that the database cannot be used."""

    @abstractmethod
    def read_now(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `read`, on this thread: for the terminal, which has no event loop. Needs no `open`."""

    @abstractmethod
    def write_now(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `write`, on this thread."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is a database to ask, migrated or not."""

    @abstractmethod
    def probe(self) -> AbstractContextManager[pw.Database]:
        """Read-only probe on a connection of its own; never creates or alters the database."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[pw.Database]:
        """A connection of its own on which everything is read as of one moment, and nothing can be written."""

    @abstractmethod
    def migration_lock(self) -> AbstractContextManager[None]:
        """Held by one process at a time; the others wait. Taken outside any transaction: inside one, SQLite would
        not switch foreign keys off, and rebuilding a table would cascade."""

    @abstractmethod
    def sole_purger(self) -> AbstractContextManager[bool]:
        """Whether this is the one process that purges. Held by one at a time, and given back however that ends."""

    @abstractmethod
    def schema_changes(self) -> AbstractContextManager[pw.Database]:
        """The Peewee database itself, outside any transaction, for the migration runner."""
