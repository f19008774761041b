"""The interface of a database. `sqlite` and `postgres` implement it."""

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
"""The first argument of a storage function: the open database, on the thread where the function runs."""
Work = Callable[Concatenate[Connection, P], R]
"""A storage function, or a function of `services` that calls several in one transaction."""

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

    Every method raises DatabaseUnavailable when the database cannot be used, and the asynchronous ones report that to
    `trouble`. An error of a storage function undoes the changes of that function and reaches the caller.
    `str(database)` is a name for people, without a password.
    """

    shared: bool
    """Whether the database may hold tables of other programs, too."""
    prefers_one_statement: bool
    """Whether one statement that reads and writes is better than two: it saves a round trip, and is a transaction by
    itself. Known once the database is open."""
    trouble: Trouble
    """Counts and logs the failures of this database."""

    @abstractmethod
    def __str__(self) -> str: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    @abstractmethod
    def open(self) -> None:
        """Prepare for `read` and `write`. Raises DatabaseUnavailable."""

    @abstractmethod
    def close(self) -> None:
        """Finish all queued writes, then disconnect. A closed database may be opened again."""

    @abstractmethod
    async def read(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a storage function that only reads. It sees all writes that were acknowledged before."""

    @abstractmethod
    async def write(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a storage function in a transaction; returns once its changes are on the disk.

        The function may be run again after its changes were undone, so it must have no effect outside the database.
        """

    @abstractmethod
    def read_batched(self, fn: Batchable[K, R], key: K) -> Awaitable[R]:
        """As `read`, for one key. Keys of the same time become one batch."""

    @abstractmethod
    def write_batched(self, fn: Batchable[K, R], key: K) -> Awaitable[R]:
        """As `write`, for one key. A batch is one transaction; if it fails, its keys may be written one by one."""

    async def try_writing(self) -> None:
        """If the database is suspected, write a probe and remove it. Raises DatabaseUnavailable when that fails."""
        if self.trouble.suspected:
            began = time.monotonic()
            await self.write(trouble.fill_probe)
            await self.write(trouble.clear_probe)
            self.trouble.probe_succeeded(since=began)

    @abstractmethod
    def unavailable(self, error: Exception) -> DatabaseUnavailable:
        """Translate an error of Peewee's or of the driver's."""

    @abstractmethod
    def read_now(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `read`, on this thread: for the terminal, which has no event loop. Works without `open`."""

    @abstractmethod
    def write_now(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `write`, on this thread."""

    @abstractmethod
    def write_unsynced(self, fn: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `write_now`, but it does not wait for the disk: a power cut may undo it, whole. For work that is then done
        again. Others see it at once."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether the database exists, migrated or not."""

    @abstractmethod
    def probe(self) -> AbstractContextManager[pw.Database]:
        """Read-only probe, a connection of its own; never creates or alters the database."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[pw.Database]:
        """A read-only connection of its own, on which all reads see the same moment."""

    @abstractmethod
    def migration_lock(self) -> AbstractContextManager[None]:
        """Lock migrations against other processes, which wait. Take the lock outside a transaction: inside one, SQLite
        would not switch foreign keys off, and rebuilding a table would delete rows of other tables by cascade."""

    @abstractmethod
    def sole_purger(self) -> AbstractContextManager[bool]:
        """Try to become the only process that purges; False if another one is. The lock is released in any case."""

    @abstractmethod
    def schema_changes(self) -> AbstractContextManager[pw.Database]:
        """The Peewee database, outside a transaction, for the migration runner."""
