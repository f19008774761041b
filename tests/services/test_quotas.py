"""Counting requests: in memory, with a bounded number of counts, and what a failure of Redis is called."""

import pytest

from nextarget.services import quotas
from nextarget.services.quotas import MemoryCounts, RedisCounts, Share, Unavailable
from tests.running import free_port


class Clock:
    """A clock that a test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(quotas, "time", clock)
    return clock


async def used_up(counts: MemoryCounts, *shares: Share) -> bool:
    return (await counts.count(shares)).refused_for is not None


async def test_counts_start_again_after_a_minute_and_not_before(clock: Clock) -> None:
    """The minute begins with the first request. At its very end the counts start again."""
    counts = MemoryCounts()
    assert not await used_up(counts, Share("a", 1))
    clock.now += quotas.WINDOW_SECONDS - 1
    assert (await counts.count([Share("a", 1)])).refused_for == 1
    clock.now += 1
    assert not await used_up(counts, Share("a", 1))


async def test_counts_start_again_when_the_clock_was_set_back(clock: Clock) -> None:
    """Otherwise clients would be refused until the clock has caught up."""
    counts = MemoryCounts()
    await counts.count([Share("a", 1)])
    clock.now -= 10 * quotas.WINDOW_SECONDS
    assert not await used_up(counts, Share("a", 1))


async def test_beyond_the_limit_new_keys_share_counts_by_width(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """A key that has a count of its own keeps it; later keys share hashed counts with keys of the same width."""
    monkeypatch.setattr(quotas, "_OWN_COUNTS", 2)
    counts = MemoryCounts()
    for key in ("a", "b"):
        await counts.count([Share(key, 9)])
    for _ in range(8):
        await counts.count([Share("a", 9)])
    assert await used_up(counts, Share("a", 9))
    assert not await used_up(counts, Share("b", 9))
    monkeypatch.setattr(quotas, "_SHARED_COUNTS", 1)
    assert not await used_up(counts, Share("c", 1))
    assert await used_up(counts, Share("d", 1)), "it shares the count of c"
    assert await used_up(counts, Share("a", 99), Share("d", 0))
    assert not await used_up(counts, Share("b", 9), Share("d", 1)), "a wider network has another count"


async def test_keys_beyond_the_limit_have_many_counts(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """One client that uses up its quota does not block all others that share counts."""
    monkeypatch.setattr(quotas, "_OWN_COUNTS", 0)
    counts = MemoryCounts()
    refused = [await used_up(counts, Share(f"client {number}", 1)) for number in range(20)]
    assert refused.count(False) > 10


async def test_a_failure_of_redis_is_named_also_during_the_pause() -> None:
    """The log says which error it was. No request waits for Redis during the pause."""
    clock = Clock()
    counts = RedisCounts(f"redis://127.0.0.1:{free_port()}", clock.time)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"^ConnectionError$"):
            await counts.count([Share("a", 1)])
    await counts.close()
