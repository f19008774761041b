"""The pool of threads before a database: a waiting request gets an answer in time, even if the database does not
respond."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines import pool as pool_module
from nextarget.storage.engines.pool import ANSWER_SECONDS, WAITING_SECONDS, Pool


@dataclass(eq=False)
class Timer:
    """A callback that is due at a time, unless it is cancelled."""

    when: float
    step: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """The pool's clock, in seconds. The test moves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[Timer] = []

    def monotonic(self) -> float:
        return self.now

    def call_later(self, delay: float, step: Callable[..., None], *arguments: object) -> Timer:
        self._timers.append(Timer(self.now + delay, lambda: step(*arguments)))
        return self._timers[-1]

    def advance(self, to: float) -> None:
        """Run all due callbacks up to this time, in order."""
        while due := [timer for timer in self._timers if timer.when <= to and not timer.cancelled]:
            timer = min(due, key=lambda timer: timer.when)
            self._timers.remove(timer)
            self.now = timer.when
            timer.step()
        self.now = to


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of this test's pool."""
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", clock.call_later)
    monkeypatch.setattr(pool_module, "time", clock)
    return clock


class Line:
    """A worker with an event in place of a connection. Cutting the connection sets the event."""

    def __init__(self) -> None:
        self.lost = threading.Event()
        self.closed = False

    def perform(self, work: Callable[[Any], Any], *, writes: bool) -> Any:
        return work(self)

    def cut(self) -> None:
        self.lost.set()

    def close(self) -> None:
        self.closed = True


class Lines:
    """Makes and records workers. `pool` has at most two."""

    def __init__(self) -> None:
        self.made: list[Line] = []
        self.pool = Pool(self._make, 2)
        self._held: list[threading.Event] = []

    def _make(self) -> Line:
        self.made.append(Line())
        return self.made[-1]

    async def hold(self) -> "tuple[asyncio.Task[str], threading.Event]":
        """A job that runs until its event is set."""
        begun, go_on = threading.Event(), threading.Event()
        self._held.append(go_on)

        def wait(_: Line) -> str:
            begun.set()
            assert go_on.wait(60)
            return "done"

        task = asyncio.create_task(self.pool.perform(wait, writes=False))
        assert await asyncio.to_thread(begun.wait, 60)
        return task, go_on

    async def ask(self) -> "tuple[asyncio.Task[None], threading.Event]":
        """A queued job that will hang until its connection is lost, and an event that is set when it starts."""
        begun = threading.Event()

        def hang(line: Line) -> None:
            begun.set()
            assert line.lost.wait(60)

        task = asyncio.create_task(self.pool.perform(hang, writes=False))
        await asyncio.sleep(0)
        return task, begun

    async def hang(self) -> "asyncio.Task[None]":
        """A job as from `ask`, which has started."""
        task, begun = await self.ask()
        assert await asyncio.to_thread(begun.wait, 60)
        return task

    async def hang_after(self, seconds: float, clock: Clock) -> "asyncio.Task[None]":
        """A job as from `hang`, which waited this long before it started. No other job remains."""
        busy = [await self.hold() for _ in range(2)]
        task, begun = await self.ask()
        clock.advance(seconds)
        self.let_go()
        await asyncio.gather(*(held for held, _ in busy))
        assert await asyncio.to_thread(begun.wait, 60)
        return task

    def let_go(self) -> None:
        for held in self._held:
            held.set()


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.let_go()
    for line in lines.made:
        line.lost.set()
    lines.pool.close()
    assert all(line.closed for line in lines.made)


def number_of(line: Line) -> int:
    return id(line)


async def test_one_at_a_time_needs_one_connection(lines: Lines) -> None:
    """A new connection is made only if none is free."""
    for _ in range(20):
        await lines.pool.perform(number_of, writes=False)
    assert len(lines.made) == 1


async def test_there_are_never_more_connections_than_allowed(lines: Lines) -> None:
    """The number of connections never exceeds the limit, and all of many simultaneous jobs are done."""
    answers = await asyncio.gather(*(lines.pool.perform(number_of, writes=False) for _ in range(200)))
    assert set(answers) <= {id(line) for line in lines.made}
    assert len(lines.made) <= 2


async def test_a_job_runs_beside_one_that_takes_long(lines: Lines) -> None:
    """A slow job occupies its own connection only."""
    slow, go_on = await lines.hold()
    assert await lines.pool.perform(number_of, writes=False) == id(lines.made[1])
    go_on.set()
    assert await slow == "done"


async def test_what_a_job_raises_reaches_its_caller(lines: Lines) -> None:
    """The caller gets the job's error, and the thread continues to work."""

    def fail(_: Line) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await lines.pool.perform(fail, writes=False)
    assert await lines.pool.perform(number_of, writes=False)


async def test_a_connection_that_does_not_answer_is_cut(lines: Lines, clock: Clock) -> None:
    """If the database does not respond, the caller gets an error and the connection is cut, so that its thread is free
    again."""
    hanging = await lines.hang()
    clock.advance(ANSWER_SECONDS - 0.1)
    assert lines.pool.cuts == 0
    clock.advance(ANSWER_SECONDS)
    assert lines.pool.cuts == 1
    with pytest.raises(DatabaseUnavailable) as caught:
        await hanging
    assert "no answer" in str(caught.value.note)
    await asyncio.gather(*(lines.pool.perform(number_of, writes=False) for _ in range(10)))


async def test_one_that_does_not_answer_makes_the_others_suspect(lines: Lines, clock: Clock) -> None:
    """If one connection does not respond, the machine may be gone. So idle connections are replaced before their next
    use."""
    for _ in range(2):
        await lines.hold()
    lines.let_go()
    hanging = await lines.hang()
    clock.advance(ANSWER_SECONDS)
    with pytest.raises(DatabaseUnavailable):
        await hanging
    assert not any(line.closed for line in lines.made)
    for _ in range(2):
        await lines.hold()
    assert [line.closed for line in lines.made] == [True, True]


async def test_whoever_waits_for_a_free_connection_is_told_in_time(lines: Lines, clock: Clock) -> None:
    """A job that found no free connection in time is never run. No connection is cut because of it."""
    busy = [await lines.hold() for _ in range(2)]
    done: list[str] = []
    waiting = asyncio.create_task(lines.pool.perform(lambda _: done.append("late"), writes=True))
    await asyncio.sleep(0)
    clock.advance(WAITING_SECONDS)
    with pytest.raises(DatabaseUnavailable) as caught:
        await waiting
    assert "no connection was free" in str(caught.value.note)
    lines.let_go()
    await asyncio.gather(*(task for task, _ in busy))
    await asyncio.gather(*(lines.pool.perform(lambda _: done.append("now"), writes=True) for _ in range(10)))
    assert done == ["now"] * 10
    assert lines.pool.cuts == 0
    assert not any(line.closed for line in lines.made)


async def test_a_job_that_waited_long_has_all_the_time_on_its_connection(lines: Lines, clock: Clock) -> None:
    """The time in the queue does not count for the connection. The caller gets an error in time, but the connection is
    not cut."""
    late = await lines.hang_after(WAITING_SECONDS - 1, clock)
    clock.advance(ANSWER_SECONDS)
    with pytest.raises(DatabaseUnavailable):
        await late
    clock.advance(ANSWER_SECONDS + WAITING_SECONDS - 1.1)
    assert not any(line.lost.is_set() for line in lines.made)
    for line in lines.made:
        line.lost.set()  # the answer arrives
    for _ in range(2):
        await lines.hold()
    clock.advance(2 * ANSWER_SECONDS)
    assert lines.pool.cuts == 0
    assert not any(line.closed for line in lines.made)


async def test_a_job_that_waited_long_is_cut_when_it_runs_too_long(lines: Lines, clock: Clock) -> None:
    """A job is cut after its own time on the connection. Its caller got an error before."""
    late = await lines.hang_after(WAITING_SECONDS - 1, clock)
    clock.advance(ANSWER_SECONDS)
    with pytest.raises(DatabaseUnavailable):
        await late
    assert lines.pool.cuts == 0
    clock.advance(ANSWER_SECONDS + WAITING_SECONDS - 1)
    assert lines.pool.cuts == 1
    assert [line.lost.is_set() for line in lines.made].count(True) == 1


async def test_a_full_queue_is_refused_at_once(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue has a limit, so that memory does not grow while the database does not respond."""
    monkeypatch.setattr(pool_module, "MAX_WAITING", 5)
    busy = [await lines.hold() for _ in range(2)]
    waiting = [asyncio.create_task(lines.pool.perform(number_of, writes=False)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(DatabaseUnavailable):
        await lines.pool.perform(number_of, writes=False)
    lines.let_go()
    assert len(await asyncio.gather(*waiting, *(task for task, _ in busy))) == 7


async def test_a_caller_that_goes_away_takes_nothing_with_it(lines: Lines) -> None:
    """If a caller is cancelled, its running job is finished and its queued job is dropped."""
    (first, go_on), (second, _) = await lines.hold(), await lines.hold()
    done: list[str] = []
    queued = asyncio.create_task(lines.pool.perform(lambda _: done.append("dropped"), writes=True))
    await asyncio.sleep(0)
    first.cancel()
    queued.cancel()
    go_on.set()
    lines.let_go()
    assert await second == "done"
    await asyncio.gather(*(lines.pool.perform(lambda _: done.append("done"), writes=True) for _ in range(10)))
    assert done == ["done"] * 10
    assert len(lines.made) == 2


async def test_closing_finishes_what_was_queued(lines: Lines) -> None:
    """Closing the pool finishes queued jobs. Later jobs are refused."""
    await lines.hold()
    await lines.hold()
    waiting = [asyncio.create_task(lines.pool.perform(number_of, writes=False)) for _ in range(20)]
    await asyncio.sleep(0)
    threading.Timer(0, lines.let_go).start()
    lines.pool.close()
    assert len(await asyncio.gather(*waiting)) == 20
    with pytest.raises(DatabaseUnavailable):
        await lines.pool.perform(number_of, writes=False)


async def test_closing_ends_though_the_database_does_not_answer(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing cuts jobs that hang, and refuses the jobs behind them."""
    begun = threading.Barrier(3)

    def never(line: Line) -> None:
        begun.wait(60)
        assert line.lost.wait(60)

    hanging = [asyncio.create_task(lines.pool.perform(never, writes=False)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.to_thread(begun.wait, 60)
    waiting = asyncio.create_task(lines.pool.perform(number_of, writes=False))
    await asyncio.sleep(0)
    monkeypatch.setattr(pool_module, "ANSWER_SECONDS", 0.05)
    lines.pool.close()
    await asyncio.gather(*hanging)
    with pytest.raises(DatabaseUnavailable):
        await waiting


async def test_a_loop_that_ended_meanwhile_ends_no_thread(lines: Lines) -> None:
    """Jobs of an event loop that has ended are dropped. Jobs of another loop are done."""

    async def leave() -> None:
        asyncio.create_task(lines.pool.perform(number_of, writes=False))  # noqa: RUF006 - it is left on purpose
        await asyncio.sleep(0)

    busy, go_on = await lines.hold()
    await asyncio.to_thread(asyncio.run, leave())
    go_on.set()
    assert await busy == "done"
    assert await asyncio.gather(*(lines.pool.perform(number_of, writes=False) for _ in range(10)))
