"""The connections to PostgreSQL on the event loop: a waiting request gets an answer in time, even if the database does
not respond."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from psycopg.waiting import Wait

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.postgres import pool as pool_module
from nextarget.storage.engines.postgres.pool import ANSWER_SECONDS, WAITING_SECONDS, Line, Pool


@dataclass(eq=False)
class Timer:
    """A callback that is due at a time, unless it is cancelled."""

    when: float
    step: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """The clock of the connections, in seconds. The test moves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[Timer] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

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
    """The clock of this test's connections."""
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", clock.call_later)
    monkeypatch.setattr(pool_module, "time", clock)
    return clock


class Connection:
    """In place of a session and its connection: a job waits until the connection has an answer, or is cut."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.answered = False
        self.cuts = 0
        self.closed = 0

    def perform(self, work: Callable[[Any], Any], *, writes: bool, single: bool) -> Any:
        return work(self)

    def wait(self) -> None:
        while not self.answered:
            self.line.pause(0, Wait.R)

    def answer(self) -> None:
        self.answered = True
        self.line.go_on()

    def cut(self) -> None:
        self.cuts += 1

    def close(self) -> None:
        self.closed += 1


class Server:
    """Makes and records connections. There are at most two, in `pool`."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.pool = Pool(self._make, 2)  # type: ignore[arg-type]  # a Connection does what a Session does

    def _make(self, line: Line) -> Connection:
        self.made.append(Connection(line))
        return self.made[-1]

    def ask(self, work: Callable[[Any], Any]) -> "asyncio.Future[Any]":
        return self.pool.submit(work, writes=False)

    def hold(self) -> "asyncio.Future[str]":
        """A job that waits for its connection."""

        def wait(connection: Connection) -> str:
            connection.answered = False
            connection.wait()
            return "done"

        return self.ask(wait)

    def let_go(self) -> None:
        for connection in self.made:
            connection.answer()

    async def hold_after(self, seconds: float, clock: Clock) -> "asyncio.Future[str]":
        """A job as from `hold`, which waited this long before it started. No other job remains."""
        busy = [self.hold() for _ in range(2)]
        late = self.hold()
        clock.advance(seconds)
        self.let_go()
        await asyncio.gather(*busy)
        await asyncio.sleep(0)
        assert [connection.line.job is not None for connection in self.made].count(True) == 1
        return late


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.let_go()
    server.pool.close()
    assert all(connection.closed for connection in server.made)


def number_of(connection: Connection) -> int:
    return id(connection)


async def test_one_at_a_time_needs_one_connection(server: Server) -> None:
    """A new connection is made only if none is free."""
    for _ in range(20):
        await server.ask(number_of)
    assert len(server.made) == 1


async def test_there_are_never_more_connections_than_allowed(server: Server) -> None:
    """The number of connections never exceeds the limit, and all of many simultaneous jobs are done."""
    held = [server.hold() for _ in range(2)]
    waiting = [server.ask(number_of) for _ in range(200)]
    server.let_go()
    assert await asyncio.gather(*held) == ["done"] * 2
    assert set(await asyncio.gather(*waiting)) <= {id(connection) for connection in server.made}
    assert len(server.made) == 2


async def test_a_job_runs_beside_one_that_takes_long(server: Server) -> None:
    """A slow job occupies its own connection only."""
    slow = server.hold()
    assert await server.ask(number_of) == id(server.made[1])
    server.let_go()
    assert await slow == "done"


async def test_what_a_job_raises_reaches_its_caller(server: Server) -> None:
    """The caller gets the job's error, and the connection continues to work."""

    def fail(_: Connection) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await server.ask(fail)
    assert await server.ask(number_of)


async def test_jobs_that_fail_at_once_are_all_answered(server: Server) -> None:
    """A long queue of jobs that fail without waiting for the database is worked off without nesting calls."""

    def fail(_: Connection) -> None:
        raise LookupError

    held = [server.hold() for _ in range(2)]
    waiting = [server.ask(fail) for _ in range(pool_module.MAX_WAITING)]
    server.let_go()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError] * pool_module.MAX_WAITING
    await asyncio.gather(*held)


async def test_a_connection_that_does_not_answer_is_cut(server: Server, clock: Clock) -> None:
    """If the database does not respond, the caller gets an error and the connection is cut, so that it is free
    again."""
    hanging = server.hold()
    clock.advance(ANSWER_SECONDS - 0.1)
    assert server.pool.cuts == 0
    clock.advance(ANSWER_SECONDS)
    assert server.pool.cuts == 1
    with pytest.raises(DatabaseUnavailable) as caught:
        await hanging
    assert "no answer" in str(caught.value.note)
    await asyncio.gather(*(server.ask(number_of) for _ in range(10)))


async def test_one_that_does_not_answer_makes_the_others_suspect(server: Server, clock: Clock) -> None:
    """If one connection does not respond, the machine may be gone. So idle connections are replaced before their next
    use."""
    held = [server.hold() for _ in range(2)]
    server.let_go()
    await asyncio.gather(*held)
    hanging = server.hold()
    clock.advance(ANSWER_SECONDS)
    with pytest.raises(DatabaseUnavailable):
        await hanging
    assert [connection.closed for connection in server.made] == [0, 0]
    held = [server.hold() for _ in range(2)]
    assert [connection.closed for connection in server.made] == [1, 1]
    server.let_go()
    await asyncio.gather(*held)


async def test_whoever_waits_for_a_free_connection_is_told_in_time(server: Server, clock: Clock) -> None:
    """A job that found no free connection in time is never run. No connection is cut because of it."""
    held = [server.hold() for _ in range(2)]
    done: list[str] = []
    waiting = server.ask(lambda _: done.append("late"))
    clock.advance(WAITING_SECONDS)
    with pytest.raises(DatabaseUnavailable) as caught:
        await waiting
    assert "no connection was free" in str(caught.value.note)
    server.let_go()
    await asyncio.gather(*held)
    await asyncio.gather(*(server.ask(lambda _: done.append("now")) for _ in range(10)))
    assert done == ["now"] * 10
    assert server.pool.cuts == 0
    assert not any(connection.closed for connection in server.made)


async def test_a_job_that_waited_long_has_all_the_time_on_its_connection(server: Server, clock: Clock) -> None:
    """The time in the queue does not count for the connection. The caller gets an error in time, but the connection is
    not cut."""
    late = await server.hold_after(WAITING_SECONDS - 1, clock)
    clock.advance(ANSWER_SECONDS)
    with pytest.raises(DatabaseUnavailable):
        await late
    clock.advance(ANSWER_SECONDS + WAITING_SECONDS - 1.1)
    server.let_go()  # the answer arrives
    held = [server.hold() for _ in range(2)]
    clock.advance(2 * ANSWER_SECONDS)
    assert server.pool.cuts == 0
    assert not any(connection.cuts or connection.closed for connection in server.made)
    server.let_go()
    await asyncio.gather(*held)


async def test_a_job_that_waited_long_is_cut_when_it_runs_too_long(server: Server, clock: Clock) -> None:
    """A job is cut after its own time on the connection. Its caller got an error before."""
    late = await server.hold_after(WAITING_SECONDS - 1, clock)
    clock.advance(ANSWER_SECONDS)
    with pytest.raises(DatabaseUnavailable):
        await late
    assert server.pool.cuts == 0
    clock.advance(ANSWER_SECONDS + WAITING_SECONDS - 1)
    assert server.pool.cuts == 1
    assert sorted(connection.cuts for connection in server.made) == [0, 1]


async def test_a_full_queue_is_refused_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue has a limit, so that memory does not grow while the database does not respond."""
    monkeypatch.setattr(pool_module, "MAX_WAITING", 5)
    held = [server.hold() for _ in range(2)]
    waiting = [server.ask(number_of) for _ in range(5)]
    with pytest.raises(DatabaseUnavailable):
        await server.ask(number_of)
    server.let_go()
    assert len(await asyncio.gather(*waiting, *held)) == 7


async def test_a_caller_that_goes_away_takes_nothing_with_it(server: Server) -> None:
    """If a caller is cancelled, its running job is finished and its queued job is dropped."""
    first, second = server.hold(), server.hold()
    done: list[str] = []
    queued = server.ask(lambda _: done.append("dropped"))
    first.cancel()
    queued.cancel()
    server.let_go()
    assert await second == "done"
    await asyncio.gather(*(server.ask(lambda _: done.append("done")) for _ in range(10)))
    assert done == ["done"] * 10
    assert len(server.made) == 2


async def test_a_new_job_does_not_overtake_those_that_wait(server: Server) -> None:
    """A job that comes when a connection has just become free waits behind the jobs that came before."""
    done: list[str] = []
    held = [server.hold() for _ in range(2)]
    first = server.ask(lambda _: done.append("first"))
    server.let_go()
    second = server.ask(lambda _: done.append("second"))
    await asyncio.gather(*held, first, second)
    assert done == ["first", "second"]


async def test_closing_finishes_what_was_queued(server: Server) -> None:
    """Closing finishes queued jobs. Later jobs are refused."""
    held = [server.hold() for _ in range(2)]
    waiting = [server.ask(number_of) for _ in range(20)]
    for connection in server.made:
        connection.answered = True  # the answers arrive while the event loop does not run
    server.pool.close()
    assert len(await asyncio.gather(*waiting, *held)) == 22
    with pytest.raises(DatabaseUnavailable):
        await server.ask(number_of)


async def test_closing_ends_though_the_database_does_not_answer(server: Server, clock: Clock) -> None:
    """Closing cuts jobs that hang, and refuses the jobs behind them."""
    hanging = [server.hold() for _ in range(2)]
    waiting = server.ask(number_of)
    server.pool.close()
    assert clock.now == pytest.approx(ANSWER_SECONDS, abs=0.1)
    for future in (*hanging, waiting):
        with pytest.raises(Exception, match=r"cut|cannot be reached"):
            await future


def test_closing_after_the_loop_has_ended_closes_every_connection() -> None:
    """Nobody waits for the jobs of an event loop that has ended. Their connections are closed all the same."""

    async def leave() -> Server:
        server = Server()
        server.hold()
        return server

    server = asyncio.run(leave())
    server.made[0].answered = True
    server.pool.close()
    assert server.made[0].closed == 1
