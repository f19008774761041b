"""Rate limits of clients, counted in memory and in a real Redis."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from redis import Redis

from nextarget.errors import RateLimited
from nextarget.services import quotas
from nextarget.services.quotas import Share, Verdict
from nextarget.settings.validators import storage_url
from nextarget.web import rate_limits
from nextarget.web.rate_limits import ALLOWANCE, RateLimits
from tests.apps import App, refresh
from tests.conftest import need
from tests.running import Answer, Browser, Server, free_listener, open_browser, running
from tests.web.conftest import Log


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with rate limits, counted in memory."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true") as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """A new Redis server. Returns its URL."""
    program = shutil.which("redis-server")
    need(program, "redis-server is not installed")
    with free_listener() as listener:
        port = listener.getsockname()[1]
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Ready to accept connections" in line:
            break
    else:
        pytest.fail("Redis did not start")
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


async def test_one_address_begins_thirty_logins_a_minute_and_no_more(limited: Server) -> None:
    """The 31st request is refused. The usual headers say when the client may try again."""
    answers = [await limited.get("/auth/google/start") for _ in range(31)]
    assert [answer.status for answer in answers] == [200] * 30 + [429]
    assert answers[0].headers["RateLimit-Policy"] == '"start";q=30;w=60'
    assert [answer.headers["RateLimit"] for answer in answers[:30]] == [
        f'"start";r={left}' for left in range(29, -1, -1)
    ]
    refused = answers[30]
    assert refused.code == "rate_limited"
    assert refused.json["retryable"] is True
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert (await limited.get("/health")).status == 200
    assert (await limited.get("/auth/facebook/callback?state=" + "A" * 43 + "&code=x")).code == "invalid_state"


@pytest.mark.parametrize(
    ("method", "path", "quota"),
    [
        ("GET", "/auth/authorize", 30),
        ("POST", "/auth/nonce", 30),
        ("GET", "/auth/google/callback", 60),
        ("GET", "/account", 60),
        ("GET", "/account/delete", 60),
        ("POST", "/account", 60),
        ("POST", "/account/delete", 60),
        ("POST", "/auth/token", 60),
    ],
)
async def test_every_limited_route_has_its_own_quota(limited: Server, method: str, path: str, quota: int) -> None:
    """Malformed requests count too."""
    form = {"grant_type": "authorization_code"} if path == "/auth/token" else None
    answers = [await limited.ask(method, path, data=form) for _ in range(quota + 1)]
    assert all(answer.status != 429 for answer in answers[:quota])
    assert answers[quota].status == 429
    if path in {"/auth/token", "/auth/authorize"}:
        assert answers[quota].json["error"] == "temporarily_unavailable"


@pytest.mark.parametrize(
    ("body", "header"),
    [
        ("grant_type=authorization_code&client_id=wrong", {}),
        ("grant_type=refresh_token&client_secret=x", {}),
        ("client_id=nextarget-app", {}),
        ("grant_type=other", {}),
        ("grant_type=refresh_token&grant_type=refresh_token", {}),
        ("grant_type=refresh_token&refresh_token=x&refresh_token=x", {}),
        ("{}", {"Content-Type": "application/json"}),
        ("grant_type=refresh_token", {"Authorization": "Basic eDp4"}),
    ],
)
@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke"])
async def test_what_is_refused_unread_counts_against_its_address(
    limited: Server, path: str, body: str, header: dict[str, str]
) -> None:
    """A refused request counts for its address, whatever is wrong with it, so that guessing is limited."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"} | header
    statuses = [(await limited.ask("POST", path, data=body, headers=headers)).status for _ in range(61)]
    assert set(statuses[:60]) <= {400, 401}
    assert statuses[60] == 429


async def test_made_up_revocations_use_up_a_quota_that_signing_out_does_not_need(limited: Server) -> None:
    """RFC 7009, 2.2: revoking an unknown token is not an error, but counts. Valid tokens can be revoked beyond the
    limit."""
    async with open_browser(limited.url) as browser:
        one, other = [await App(browser).sign_in() for _ in range(2)]
    answers = [await limited.ask("POST", "/auth/revoke", data={"token": "made up"}) for _ in range(60)]
    used = 2  # the two codes that were redeemed
    assert [answer.status for answer in answers] == [200] * (60 - used) + [429] * used
    assert answers[0].headers["RateLimit"] == f'"token";r={60 - used - 1}'
    assert answers[-1].json["error"] == "temporarily_unavailable"
    for token in (one["refresh_token"], other["access_token"]):
        revoked = await limited.ask("POST", "/auth/revoke", data={"token": token})
        assert (revoked.status, "RateLimit" in revoked.headers) == (200, False)
    assert (await refresh(limited, one["refresh_token"])).json["error"] == "invalid_grant"
    assert (await refresh(limited, other["refresh_token"])).json["error"] == "invalid_grant"


async def test_fifty_parallel_refreshes_pass_and_agree_with_limits_on(limited: Server) -> None:
    """Refreshes count for their session at this address, not for the address that other clients share."""
    async with open_browser(limited.url) as browser:
        token = (await App(browser).sign_in())["refresh_token"]
        answers = await asyncio.gather(*(refresh(limited, token) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["refresh_token"] for answer in answers}) == 1
    assert not any("RateLimit" in answer.headers for answer in answers)


@pytest.fixture
def same_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still, so that no new minute with new counts and limits begins during a test."""
    clock = SimpleNamespace(time=lambda: 1_900_000_000.0, monotonic=time.monotonic)
    for module in (quotas, rate_limits):
        monkeypatch.setattr(module, "time", clock)


@pytest.fixture
async def behind_proxy(tmp_path: Path, storage: str, same_minute: None) -> AsyncIterator[Server]:
    """A server with rate limits, which trusts the client addresses in X-Forwarded-For."""
    settings = {"RATE_LIMIT_STORAGE_URL": storage, "TRUSTED_PROXIES": "127.0.0.1"}
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", **settings) as server:
        yield server


async def refresh_from(server: Server, address: str, token: str) -> Answer:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return await server.ask("POST", "/auth/token", data=form, headers={"X-Forwarded-For": address})


async def test_whoever_refreshes_elsewhere_does_not_use_up_what_the_app_may_ask(behind_proxy: Server) -> None:
    """A refresh counts for session and address together. For IPv6 the address is the /64 and the /48."""
    async with open_browser(behind_proxy.url) as browser:
        token = (await App(browser).sign_in())["refresh_token"]
        other = (await App(browser).sign_in())["refresh_token"]
    for thief, app in (("198.51.100.7", "203.0.113.1"), ("2001:db8:1:2::3", "2001:db8:1:3::3")):
        statuses = [(await refresh_from(behind_proxy, thief, token)).status for _ in range(242)]
        taken = statuses.count(200)
        assert 120 <= taken < 240
        assert statuses == [200] * taken + [429] * (242 - taken)
        assert (await refresh_from(behind_proxy, app, token)).status == 200
        assert (await refresh_from(behind_proxy, thief, other)).status == 200


async def test_no_answer_to_a_refresh_tells_of_other_refreshes(behind_proxy: Server) -> None:
    """Answers to refreshes contain neither the remaining quota nor the end of the minute, because other clients may
    share the app's address."""
    async with open_browser(behind_proxy.url) as browser:
        token, ended = [(await App(browser).sign_in())["refresh_token"] for _ in range(2)]
    await behind_proxy.ask("POST", "/auth/revoke", data={"token": ended})
    answers = [await refresh_from(behind_proxy, "198.51.100.7", each) for each in (token, ended, "made up", "")]
    assert [answer.status for answer in answers] == [200, 400, 400, 400]
    for _ in range(240):
        answers.append(await refresh_from(behind_proxy, "198.51.100.7", token))
    assert answers[-1].status == 429
    assert answers[-1].headers["Retry-After"] == "60"
    assert answers[-1].json["error"] == "temporarily_unavailable"
    assert not [answer.status for answer in answers if answer.headers.keys() & {"RateLimit", "RateLimit-Policy"}]


async def test_one_bad_client_behind_an_address_keeps_nobody_from_refreshing(limited: Server) -> None:
    """Made-up refresh tokens use up the quota of the address. A token with a valid MAC does not need this quota."""
    async with open_browser(limited.url) as browser:
        token = (await App(browser).sign_in())["refresh_token"]
    for _ in range(61):
        last = await refresh(limited, "made up")
    assert last.status == 429
    assert (await refresh(limited, token)).status == 200


@pytest.mark.slow
async def test_counts_in_memory_stop_growing_within_their_minute(same_minute: None) -> None:
    """Beyond fifty thousand clients, new ones share a fixed number of counts. Clients are not refused for that, the
    limit still holds, and earlier clients keep their own counts."""
    limits = RateLimits("memory://", (), seed=b"seed")
    await _ask_each(limits, range(300_000))
    tracemalloc.start()
    try:
        await _ask_each(limits, range(300_000, 400_000))
        assert tracemalloc.get_traced_memory()[0] < 2**20
    finally:
        tracemalloc.stop()
    assert await left(limits, _network(0)) == 28
    with pytest.raises(RateLimited):
        await _ask_each(limits, [400_000] * 31)


@pytest.mark.slow
async def test_counts_of_networks_stop_growing_too(same_minute: None) -> None:
    """Clients from ever new IPv6 networks have two counts. Beyond a limit they share both kinds."""
    counts = quotas.MemoryCounts()

    async def ask_from(numbers: Iterable[int]) -> None:
        for number in numbers:
            network = _network(number * 7)
            await counts.count([Share(network, 30), Share(network.replace("/64", "/48"), 480)])

    await ask_from(range(400_000))
    tracemalloc.start()
    try:
        await ask_from(range(400_000, 450_000))
        assert tracemalloc.get_traced_memory()[0] < 2**20
    finally:
        tracemalloc.stop()


async def test_all_that_a_request_counts_against_is_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis cluster runs a script on keys of one slot only. The part in braces determines the slot."""
    limits, asked = RateLimits("memory://", (), seed=b"seed"), []

    async def remember(shares: list[Share]) -> Verdict:
        asked.extend(shares)
        return Verdict(1, None)

    monkeypatch.setattr(limits._storage, "count", remember)
    await limits.count_address(
        make_mocked_request("GET", "/").clone(remote="2001:db8:1:2::3"), "refresh", 120, about="session/"
    )
    assert [share.quota // quota for share, quota in zip(asked, (120, 16 * 120), strict=True)] == [1, 1]
    assert len({share.key for share in asked}) == 2
    assert {re.findall("{(.*)}", share.key)[0] for share in asked} == {"session/2001:db8:1::/48"}


async def _ask_each(limits: RateLimits, clients: Iterable[int]) -> None:
    request = make_mocked_request("GET", "/")
    for number in clients:
        await limits.count(request, "start", 30, _network(number))


def _network(number: int) -> str:
    return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64"


async def test_limits_that_are_off_are_off_altogether(tmp_path: Path) -> None:
    """With RATE_LIMIT_ENABLED=false nothing is counted, and answers have no quota."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="false") as server:
        answers = [await server.get("/auth/google/start") for _ in range(40)]
    assert {answer.status for answer in answers} == {200}
    assert all("RateLimit" not in answer.headers for answer in answers)


async def test_forged_forwarding_headers_change_nothing(limited: Server) -> None:
    """Without a trusted proxy, the header comes from the client and is ignored."""
    for number in range(31):
        answer = await limited.get("/auth/google/start", headers={"X-Forwarded-For": f"198.51.100.{number}"})
    assert answer.status == 429


async def test_a_trusted_proxy_tells_clients_apart(tmp_path: Path) -> None:
    """Behind a trusted proxy, every client has its own quota."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", TRUSTED_PROXIES="127.0.0.1") as server:
        for number in range(40):
            headers = {"X-Forwarded-For": f"203.0.113.9, 198.51.100.{number}"}
            assert (await server.get("/auth/google/start", headers=headers)).status == 200


async def test_servers_that_share_a_redis_share_the_count(tmp_path: Path, redis: str) -> None:
    """Two nodes with one Redis have one common limit."""
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_STORAGE_URL=redis))
            for _ in range(2)
        ]
        statuses = [(await (one, two)[number % 2].get("/auth/google/start")).status for number in range(32)]
    assert statuses == [200] * 30 + [429] * 2


async def test_three_hundred_requests_at_once_share_one_quota(
    tmp_path: Path, redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests wait for a free connection to Redis. A burst neither fails nor exceeds the limit."""
    for patience in ("_REDIS_SECONDS", "_TURN_SECONDS"):
        monkeypatch.setattr(quotas, patience, 60)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_STORAGE_URL=redis)
        )
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        crowd = Browser(session, server.url)
        answers = await asyncio.gather(*(crowd.get("/auth/google/start") for _ in range(300)))
    assert Counter(answer.status for answer in answers) == {200: 30, 429: 270}


async def test_requests_pass_and_one_line_and_a_metric_tell_while_redis_is_down(tmp_path: Path, log: Log) -> None:
    """Without Redis all requests are served. They are counted in a metric, and one log line reports the problem."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
        async with running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_STORAGE_URL=url) as server:
            before = uncounted(await server.get("/metrics"))
            statuses = {(await server.get("/auth/google/start")).status for _ in range(40)}
            assert uncounted(await server.get("/metrics")) - before == 40
    assert statuses == {200}
    assert len(log.events("rate_limits_unavailable")) == 1


class Silent:
    """A server that accepts connections and never answers, like a Redis that hangs or is behind a firewall."""

    def __init__(self, server: asyncio.Server) -> None:
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.callers: list[asyncio.StreamWriter] = []
        self.called = asyncio.Event()

    def hang_up(self) -> None:
        for caller in self.callers:
            caller.close()


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    async def listen(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.callers.append(writer)
        silent.called.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        silent = Silent(server)
        yield silent
        silent.hang_up()


class Clock:
    """A clock in seconds, which the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def left(limits: RateLimits, key: str = "198.51.100.7") -> int | None:
    """Count one request. Returns the rest of its quota of thirty, or None if it was not counted."""
    request = make_mocked_request("GET", "/")
    await limits.count(request, "start", 30, key)
    return request[ALLOWANCE].left if ALLOWANCE in request else None


async def test_a_silent_redis_delays_one_request_a_pause(
    silent: Silent, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that does not answer is tried from time to time by one request. All others are served at once, and the
    metric counts them as uncounted."""
    monkeypatch.setattr(quotas, "_REDIS_SECONDS", 0.05)
    clock = Clock()
    limits = RateLimits(silent.url, (), seed=b"seed", clock=clock)
    before = REGISTRY.get_sample_value("nextarget_rate_limit_failures_total")
    async with asyncio.timeout(10):  # redis-py's own timeout is five seconds, or endless
        assert [await left(limits) for _ in range(5)] == [None] * 5
        assert len(silent.callers) == 1
        for trials in (2, 3):
            clock.now += 5
            assert await asyncio.gather(*(left(limits) for _ in range(20))) == [None] * 20
            assert len(silent.callers) == trials
    assert REGISTRY.get_sample_value("nextarget_rate_limit_failures_total") == before + 45
    assert len(log.events("rate_limits_unavailable")) == 1
    await limits.close()


async def test_a_redis_that_is_back_counts_again(redis: str) -> None:
    """After a Redis has hung, the next trial is counted, and so are all later requests."""
    clock = Clock()
    limits = RateLimits(redis, (), seed=b"seed", clock=clock)
    assert await left(limits) == 29
    with Redis.from_url(redis) as client:
        process = client.info("server")["process_id"]
    os.kill(process, signal.SIGSTOP)
    try:
        assert await left(limits) is None
    finally:
        os.kill(process, signal.SIGCONT)
    assert await left(limits) is None
    clock.now += 5
    counted = [await left(limits) for _ in range(3)]
    assert counted in ([28, 27, 26], [27, 26, 25]), "Redis may have counted the request that it did not answer"
    await limits.close()


async def test_nobody_waits_long_for_a_turn_to_ask(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for a connection to Redis is limited, so that no queue grows without end."""
    for name, value in {"_REDIS_CONNECTIONS": 1, "_REDIS_SECONDS": 600, "_TURN_SECONDS": 0.01}.items():
        monkeypatch.setattr(quotas, name, value)
    limits = RateLimits(silent.url, (), seed=b"seed")
    first = asyncio.create_task(left(limits))
    await silent.called.wait()
    async with asyncio.timeout(10):
        assert await asyncio.gather(left(limits), left(limits)) == [None, None]
    assert not first.done()
    silent.hang_up()
    assert await first is None
    await limits.close()


REDIS_PARTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["h:1", "h", ":", "/", "@", "?", "#", "[", "]", "::1", "6379", "99999", "0", "-1", "%00", "%5B", "&", "="]
        ),
        st.sampled_from(
            ["?db=", "&max_connections=", "?socket_timeout=", "&protocol=", "?ssl_cert_reqs=none", "?foo=", "true"]
        ),
        st.text(max_size=3),
    ),
    max_size=8,
)


@given(scheme=st.sampled_from(["redis://", "rediss://", "redis:", "memory://"]), parts=REDIS_PARTS)
def test_every_storage_that_the_settings_take_can_be_made(scheme: str, parts: list[str]) -> None:
    """A wrong URL is a wrong setting. It never causes an error when the server starts or counts for the first time."""
    try:
        url = storage_url(scheme + "".join(parts))
    except ValueError:
        return
    storage = RateLimits(url, (), seed=b"seed")._storage
    if isinstance(storage, quotas.RedisCounts):
        storage._pool.make_connection()


def uncounted(answer: Answer) -> float:
    """The metric of requests that were served without being counted."""
    found = re.search(r"^nextarget_rate_limit_failures_total (\S+)$", answer.text, re.M)
    assert found is not None
    return float(found[1])


@pytest.fixture(params=["memory", "redis"])
def storage(request: pytest.FixtureRequest) -> str:
    """The URL of the storage for counts."""
    return "memory://" if request.param == "memory" else request.getfixturevalue("redis")


@asynccontextmanager
async def counted(storage: str) -> AsyncIterator[Callable[[str], Awaitable[tuple[int | None, bool]]]]:
    """Counts requests of an address. Returns the remaining quota in the answer, and whether the request was allowed."""
    limits = RateLimits(storage, (), seed=b"seed")

    async def ask(address: str) -> tuple[int | None, bool]:
        request = make_mocked_request("GET", "/").clone(remote=address)
        (refused,) = await asyncio.gather(limits.count_address(request, "start", 30), return_exceptions=True)
        assert refused is None or 1 <= refused.retry_after <= 60
        return (request[ALLOWANCE].left if ALLOWANCE in request else None), refused is None

    yield ask
    await limits.close()


@pytest.mark.slow
async def test_neighbours_in_a_48_do_not_share_a_quota(storage: str) -> None:
    """Every /64 has its own quota, and using it up does not affect other /64s."""
    async with counted(storage) as ask:
        asked = [await ask(f"2001:db8:1:2::{number}") for number in range(600)]
        assert asked == [(left, True) for left in range(29, -1, -1)] + [(0, False)] * 570
        assert await ask("2001:db8:1:3::1") == (29, True)


@pytest.mark.slow
async def test_a_48_has_sixteen_quotas(storage: str) -> None:
    """A /48 has sixteen times the quota of a /64, whatever the number of its /64s. Other /48s are not affected."""
    async with counted(storage) as ask:
        passed = [(await ask(f"2001:db8:1:{number:x}::1"))[1] for number in range(500)]
        assert passed == [True] * 480 + [False] * 20
        assert await ask("2001:db8:1:1::1") == (29, False), "its own quota must not be used up"
        assert await ask("2001:db8:2:1::1") == (29, True)


async def test_an_ipv4_address_is_counted_alone(storage: str) -> None:
    """An IPv4 address has one count in all spellings."""
    async with counted(storage) as ask:
        passed = [(await ask(address))[1] for _ in range(20) for address in ("198.51.100.7", "::ffff:198.51.100.7")]
        assert passed == [True] * 30 + [False] * 10
        assert await ask("::ffff:198.51.100.8") == (29, True)


async def test_one_question_to_redis_counts_all_that_a_request_counts_against(redis: str) -> None:
    """One command to Redis counts all keys of a request, so that IPv6 clients do not wait longer than IPv4 clients."""
    with Redis.from_url(redis) as client:
        async with counted(redis) as ask:
            await ask("2001:db8:1:2::1")  # Redis loads the script here
            before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            for _ in range(40):
                await ask("2001:db8:1:2::1")
            statistics = client.info("commandstats")
    assert statistics["cmdstat_evalsha"]["calls"] - before == 40
    assert {name for name in statistics if name.startswith("cmdstat_")} <= {
        f"cmdstat_{name}"
        for name in ("evalsha", "eval", "get", "incr", "expire", "pttl", "info", "hello", "script|load")
    } | {"cmdstat_client|setinfo", "cmdstat_script|load", "cmdstat_client|setname"}
