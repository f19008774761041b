"""The one thread that writes: writes that share a commit still succeed or fail independently."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nextarget.errors import DatabaseUnavailable
from nextarget.model import User
from nextarget.storage.engines.database import Connection
from nextarget.storage.engines.sqlite import SqliteDatabase, writer
from nextarget.storage.engines.sqlite.writer import MAX_BATCH, QUIET_TURNS
from nextarget.storage.rows import users
from tests.contract.rows import admit, identity


class Gate:
    """A write that blocks the writer until it is opened, and then records the statements that follow."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self._held = threading.Event()
        self._opened = threading.Event()

    def hold(self, db: Connection) -> None:
        self._held.set()
        assert self._opened.wait(30)
        db.connection().set_trace_callback(self.statements.append)

    async def close_behind(self, database: SqliteDatabase) -> "asyncio.Task[None]":
        """Returns once the writer is blocked."""
        task = asyncio.create_task(database.write(self.hold))
        await asyncio.to_thread(self._held.wait, 30)
        return task

    def open(self) -> None:
        self._opened.set()

    @property
    def commits(self) -> int:
        return self.statements.count("COMMIT")


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def admit_as(db: Connection, subject: str) -> User:
    return admit(db, identity(subject), new_id=subject)


def admit_and_fail(db: Connection, subject: str) -> None:
    admit_as(db, subject)
    raise LookupError(subject)


async def queued(*writes: "asyncio.Future[object]") -> "list[asyncio.Future[object]]":
    """The writes, after they were queued."""
    tasks = [asyncio.ensure_future(write) for write in writes]
    await asyncio.sleep(0)
    return tasks


async def test_writes_that_gather_share_one_commit(database: SqliteDatabase, gate: Gate) -> None:
    """Writes that are queued while the writer is busy share commits, up to MAX_BATCH writes in one."""
    holding = await gate.close_behind(database)
    writes = await queued(*(database.write(admit_as, str(number)) for number in range(MAX_BATCH)))
    gate.open()
    await asyncio.gather(holding, *writes)
    assert gate.commits == 2  # one commit for the gate, and one for all the other writes
    assert len(database.read_now(users.page, size=1000)) == MAX_BATCH


async def test_writes_that_come_soon_after_one_another_share_one_commit(
    database: SqliteDatabase, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer is idle, and waits for the writes that requests of the same time submit a few turns later."""
    monkeypatch.setattr(writer, "MAX_GATHERING_SECONDS", 1_000_000_000)  # on a busy machine, these turns take longer
    gate.open()
    await database.write(gate.hold)
    writes = await queued(*(database.write(admit_as, str(number)) for number in range(2)))
    for number in range(2, 5):
        for _ in range(QUIET_TURNS - 1):
            await asyncio.sleep(0)
        writes += await queued(database.write(admit_as, str(number)))
    await asyncio.gather(*writes)
    assert gate.commits == 2  # one commit for the gate


@pytest.mark.parametrize("count", [1, MAX_BATCH])
async def test_one_write_alone_and_a_full_batch_wait_for_no_other(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Whatever the number of turns that the event loop waits."""
    monkeypatch.setattr(writer, "QUIET_TURNS", 1_000_000_000)
    monkeypatch.setattr(writer, "MAX_GATHERING_SECONDS", 1_000_000_000)
    async with asyncio.timeout(30):
        await asyncio.gather(*(database.write(admit_as, str(number)) for number in range(count)))
    assert len(database.read_now(users.page, size=1000)) == count


async def test_writes_that_never_end_are_gathered_for_a_moment_only(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy loop another write joins in every few turns: none of them waits for the last one."""
    monkeypatch.setattr(writer, "QUIET_TURNS", 1_000_000_000)
    first = await queued(*(database.write(admit_as, str(number)) for number in range(2)))
    async with asyncio.timeout(30):
        await asyncio.gather(*first)


async def test_a_batch_has_a_limit(database: SqliteDatabase, gate: Gate) -> None:
    """A commit contains at most MAX_BATCH writes."""
    holding = await gate.close_behind(database)
    writes = await queued(*(database.write(admit_as, str(number)) for number in range(3 * MAX_BATCH)))
    gate.open()
    await asyncio.gather(holding, *writes)
    assert gate.commits == 4


async def test_in_a_batch_a_write_that_raises_undoes_only_itself(database: SqliteDatabase, gate: Gate) -> None:
    """A write that raises is rolled back, and the others are committed: the batch runs again, with a savepoint for
    every write."""
    holding = await gate.close_behind(database)
    writes = await queued(
        database.write(admit_as, "first"),
        database.write(admit_and_fail, "second"),
        database.write(admit_as, "third"),
        database.write(admit_and_fail, "fourth"),
    )
    gate.open()
    await holding
    first, second, third, fourth = await asyncio.gather(*writes, return_exceptions=True)
    assert gate.commits == 2
    assert isinstance(second, LookupError)
    assert isinstance(fourth, LookupError)
    assert {user.id for user in database.read_now(users.page)} == {"first", "third"}
    assert {first.id, third.id} == {"first", "third"}


def ids_of_users(path: Path) -> set[str]:
    """The ids of all users, read on a connection of its own."""
    looking = SqliteDatabase(path)
    try:
        return {user.id for user in looking.read_now(users.page, size=1000)}
    finally:
        looking.close()


async def test_a_write_is_acknowledged_only_after_its_commit(database: SqliteDatabase, path, gate: Gate) -> None:
    """No write of a batch is visible or acknowledged before the whole batch is committed."""
    holding = await gate.close_behind(database)
    seen = asyncio.ensure_future(database.write(lambda db: (admit_as(db, "1"), ids_of_users(path))))
    (write,) = await queued(database.write(admit_as, "2"))
    gate.open()
    await holding
    assert (await seen)[1] == set()
    await write
    assert ids_of_users(path) == {"1", "2"}


async def test_writes_queued_before_the_end_are_committed(database: SqliteDatabase, path, gate: Gate) -> None:
    """Closing the database commits the queued writes, and every caller gets its result."""
    holding = await gate.close_behind(database)
    writes = await queued(*(database.write(admit_as, str(number)) for number in range(MAX_BATCH + 10)))
    threading.Timer(0, gate.open).start()
    database.close()
    admitted = await asyncio.gather(*writes)
    await holding
    assert ids_of_users(path) == {user.id for user in admitted}
    assert len(admitted) == MAX_BATCH + 10


async def test_only_so_many_writes_wait(database: SqliteDatabase, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue has a limit, so that memory does not grow while the disk does not respond. Afterwards writes are
    accepted again."""
    monkeypatch.setattr(writer, "MAX_WAITING", MAX_BATCH + 1)
    holding = await gate.close_behind(database)
    writes = await queued(*(database.write(admit_as, str(number)) for number in range(MAX_BATCH + 1)))
    for hung_up in writes[:2]:
        hung_up.cancel()
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.write(admit_as, "late")
    assert "wait for the database already" in str(caught.value.note)
    gate.open()
    await asyncio.gather(holding, *writes[2:])
    later = await queued(*(database.write(admit_as, f"later {number}") for number in range(MAX_BATCH + 1)))
    await asyncio.gather(*later)
    assert len(database.read_now(users.page, size=1000)) == 2 * (MAX_BATCH + 1)


async def test_a_closed_database_takes_no_more_writes(database: SqliteDatabase) -> None:
    """A write is refused after closing, and accepted again after opening."""
    database.close()
    with pytest.raises(DatabaseUnavailable):
        await database.write(admit_as, "1")
    database.open()
    assert await database.write(admit_as, "1")


async def test_closing_twice_is_closing_once(database: SqliteDatabase) -> None:
    """Opening or closing twice causes no error."""
    database.open()
    database.open()
    await database.write(admit_as, "1")
    database.close()
    database.close()


async def test_a_waiter_that_goes_away_disturbs_nobody(database: SqliteDatabase, gate: Gate) -> None:
    """If a client hangs up, its write and the other writes of the batch are committed."""
    holding = await gate.close_behind(database)
    first, second, failing, third = await queued(
        database.write(admit_as, "1"),
        database.write(admit_as, "2"),
        database.write(admit_and_fail, "3"),
        database.write(admit_as, "4"),
    )
    second.cancel()
    failing.cancel()
    holding.cancel()
    gate.open()
    assert [(await first).id, (await third).id] == ["1", "4"]
    with pytest.raises(asyncio.CancelledError):
        await second
    assert {user.id for user in database.read_now(users.page)} == {"1", "2", "4"}
    assert await database.write(admit_as, "5")


async def test_a_loop_that_ended_meanwhile_does_not_end_the_writer(database: SqliteDatabase, gate: Gate) -> None:
    """Writes of an event loop that has ended are committed. Writes of another loop in the same batch get their
    results."""

    def in_a_loop_that_ends() -> None:
        async def queue_and_leave() -> None:
            task = asyncio.create_task(database.write(admit_as, "1"))
            await asyncio.sleep(0)
            task.cancel()

        asyncio.run(queue_and_leave())

    holding = await gate.close_behind(database)
    await asyncio.to_thread(in_a_loop_that_ends)
    (beside,) = await queued(database.write(admit_as, "2"))
    gate.open()
    await holding
    assert (await asyncio.wait_for(beside, 30)).id == "2"
    assert {user.id for user in database.read_now(users.page)} == {"1", "2"}


async def test_reads_do_not_wait_for_the_writer(database: SqliteDatabase, gate: Gate) -> None:
    """In WAL mode a read sees the last commit during a write."""
    await database.write(admit_as, "1")
    holding = await gate.close_behind(database)
    assert [user.id for user in await database.read(users.page)] == ["1"]
    gate.open()
    await holding


async def test_writes_are_done_in_the_order_they_were_queued(database: SqliteDatabase) -> None:
    """Writes run in the order of the queue, so that a later write sees an earlier one."""
    user = await database.write(admit)
    writes = [database.write(users.set_active, user.id, active=number % 2 == 0) for number in range(21)]
    await asyncio.gather(*writes)
    assert database.read_now(users.get, user.id) == user
