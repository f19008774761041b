"""The limit of refreshes, which must not be predictable for clients."""

from types import SimpleNamespace

import pytest
from aiohttp.test_utils import make_mocked_request

from nextarget.services import quotas
from nextarget.services.quotas import Share, Verdict
from nextarget.web.rate_limits import RateLimits


async def test_where_the_limit_of_refreshing_lies_tells_nobody_who_else_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is random for every minute, session and address, and depends on the seed. So a client that uses up most
    of it learns nothing from the rest. All nodes compute the same limit."""
    now = 1_800_000_000.0
    monkeypatch.setattr("nextarget.web.rate_limits.time.time", lambda: now)

    async def drawn(seed: bytes = b"seed", about: str = "session/", address: str = "198.51.100.7") -> list[int]:
        limits, asked = RateLimits("memory://", (), seed=seed), []

        async def remember(shares: list[Share]) -> Verdict:
            asked.extend(share.quota for share in shares)
            return Verdict(1, None)

        monkeypatch.setattr(limits._storage, "count", remember)
        request = make_mocked_request("GET", "/").clone(remote=address)
        await limits.count_address(request, "refresh", 120, about=about, shows_quota=False)
        return asked

    assert await drawn() == await drawn()
    seeds = [(await drawn(bytes([number])))[0] for number in range(200)]
    assert len(set(seeds)) > 80
    assert 120 <= min(seeds) < 130
    assert 230 < max(seeds) < 240
    minutes = []
    for _ in range(50):
        now += 60
        minutes.append((await drawn())[0])
    assert len(set(minutes)) > 30
    assert len({tuple(await drawn(about=f"{number}/")) for number in range(50)}) > 30
    narrow, wide = await drawn(address="2001:db8:1:2::3")
    assert 16 * 120 <= wide < 2 * 16 * 120
    assert wide - 16 * 120 != 16 * (narrow - 120)


async def test_the_time_to_wait_tells_nobody_when_others_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of the counts in memory does not begin with a request. If it did, a client that uses up a quota of its
    own would read from Retry-After when the first other request came, such as a refresh."""
    waits = set()
    for others in ([], [75], [61, 119], [3, 90]):
        clock = SimpleNamespace(now=1_800_000_007.5)
        monkeypatch.setattr(quotas, "time", SimpleNamespace(time=lambda clock=clock: clock.now))
        counts, began = quotas.MemoryCounts(), clock.now
        for clock.now in [began + seconds for seconds in others]:
            await counts.count([Share("another", 9)])
        clock.now = began + 130
        assert (await counts.count([Share("own", 1)])).refused_for is None
        waits.add((await counts.count([Share("own", 1)])).refused_for)
    assert waits == {50}
