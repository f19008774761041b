"""Servers that restart, end or are down behind the shipped proxy files, and the proxies' logs of this."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.apps import App, refresh
from tests.deploy.conftest import Site
from tests.deploy.site import NAME
from tests.running import Answer, Browser, query_of

pytestmark = pytest.mark.slow

MARK = "hush-7rq2-do-not-repeat"


@pytest.fixture
async def visitor(pair: Site) -> AsyncIterator[Browser]:
    async with pair.visitor() as visitor:
        yield visitor


async def until(done: asyncio.Event, ask: Callable[[], Awaitable[Answer]]) -> list[Answer]:
    """Repeat a request until the event is set."""
    answers = []
    while not done.is_set():
        answers.append(await ask())
    return answers


async def until_answered(visitor: Browser, path: str) -> None:
    async with asyncio.timeout(30):
        while (await visitor.get(path)).status != 200:
            await asyncio.sleep(0)


async def test_servers_restarted_one_after_the_other_lose_no_request(pair: Site, visitor: Browser) -> None:
    """The proxy repeats a safe request on the other server. An interrupted POST may fail, and the app's next attempt
    succeeds."""
    tokens = (await visitor.sign_in()).json
    held = {"refresh_token": tokens["refresh_token"]}
    done = asyncio.Event()

    async def keep_fresh() -> Answer:
        answer = await refresh(visitor, held["refresh_token"])
        if answer.status == 200:
            held["refresh_token"] = answer.json["refresh_token"]
        return answer

    reading = [asyncio.create_task(until(done, lambda: visitor.me(tokens["access_token"]))) for _ in range(3)]
    refreshing = asyncio.create_task(until(done, keep_fresh))
    for number in range(2):
        await pair.restart(number)
        await until_seen_by_proxy(pair, visitor, number)
    done.set()
    read = [answer for task in reading for answer in await task]
    refreshed = await refreshing
    assert {answer.status for answer in read} == {200}
    assert {answer.status for answer in refreshed} <= {200, 429, 502, 503}, "no app is signed out"
    assert any(answer.status == 200 for answer in refreshed)
    assert (await visitor.me(tokens["access_token"])).status == 200


async def until_seen_by_proxy(pair: Site, visitor: Browser, number: int) -> None:
    """Wait until the proxy sends requests to this server again, as an operator does before the next restart."""
    async with asyncio.timeout(60):
        while not any('"/users/me"' in line for line in pair.servers[number].lines):
            await visitor.get("/health")


async def test_a_sign_in_begun_before_a_server_was_killed_is_finished_on_the_other(
    pair: Site, visitor: Browser
) -> None:
    """The proxy uses the other server, and all data of a login is in the database."""
    back = await visitor.approve((await visitor.begin())["auth_url"])
    await pair.servers[0].end(signal.SIGKILL)
    answer = await visitor.get(back)
    assert (answer.status, answer.json["provider"]) == (200, "google")
    assert {(await visitor.get("/auth/providers")).status for _ in range(10)} == {200}


async def test_servers_that_are_away_are_an_error_worth_a_retry(pair: Site, visitor: Browser) -> None:
    """Clients get a 502 or 503 and may try again. When the servers are back, the proxy needs no restart."""
    for server in pair.servers:
        await server.end(signal.SIGKILL)
    answer = await visitor.get("/auth/providers")
    assert answer.status in (502, 503)
    if pair.proxy.name == "nginx":
        assert (answer.status, answer.headers["Retry-After"], answer.json["retryable"]) == (503, "5", True)
        assert answer.headers["Content-Type"] == "application/problem+json"
    await pair.start(0)
    await until_answered(visitor, "/auth/providers")


async def test_nginx_names_a_request_that_no_server_answered(pair: Site, visitor: Browser) -> None:
    """The header, the document and the log have one id, and the log has the route. The next request gets another id."""
    if pair.proxy.name == "nginx":
        for server in pair.servers:
            await server.end(signal.SIGKILL)
        answers = [
            await visitor.get("/users/me", headers={"X-Request-ID": MARK}),
            await visitor.ask("POST", "/auth/token", data=b"x" * 60_000),
            await visitor.get(f"/users/me/sessions/{MARK}"),
        ]
        lines = []
        for answer in answers:
            assert (answer.status, answer.json["request_id"]) == (503, answer.headers["X-Request-ID"])
            assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
            async with asyncio.timeout(30):
                while answer.headers["X-Request-ID"] not in pair.proxy.access_log:
                    await asyncio.sleep(0)
            log = pair.proxy.access_log.splitlines()
            lines += [line for line in log if line.endswith(f"request_id={answer.headers['X-Request-ID']}")]
        named = [re.findall(r'"(.*?) HTTP/1.1" 503 ', line) for line in lines]
        assert named == [["GET /users/me"], ["POST /auth/token"], ["GET /users/me/sessions/{session_id}"]]
        assert MARK not in pair.proxy.all_logs


async def test_no_log_of_the_proxy_holds_a_query(pair: Site, visitor: Browser) -> None:
    """This holds for successful and failed requests, and for a Referer."""
    app = App(visitor)
    begun = await app.begin()
    back = await visitor.approve(begun)
    ended = await visitor.get(back, headers={"Referer": begun})
    code = query_of(ended.headers["Location"])["code"]
    tokens = (await app.redeem(code)).json
    await visitor.me(tokens["access_token"])
    await visitor.get(f"/deletion/{MARK}")
    await visitor.get(f"http://{NAME}:{pair.proxy.ports.http}/auth/google/callback?code={MARK}&state={MARK}")
    await visitor.ask("POST", f"/auth/token?x={MARK}", data=b"x" * 70_000)
    await visitor.get("/health?" + MARK * 500)
    for server in pair.servers:
        await server.end(signal.SIGKILL)
    failed = await visitor.get(f"/auth/google/callback?code={MARK}&state={MARK}")
    assert failed.status in (502, 503)
    async with asyncio.timeout(30):  # this line is the last, so the earlier lines are there too
        while not {f'" {failed.status} ', f'"DownstreamStatus":{failed.status}'} & found_in(pair.proxy.access_log):
            await asyncio.sleep(0)
    secrets = {
        MARK, app.state, app.verifier, code, query_of(begun)["state"], query_of(back)["code"],
        tokens["access_token"], tokens["refresh_token"],
    }  # fmt: skip
    assert [secret for secret in secrets if secret in pair.proxy.all_logs] == []


def found_in(log: str) -> set[str]:
    """The marks of a failed request in a log, for either proxy."""
    marks = {form.format(status) for status in (502, 503) for form in ('" {} ', '"DownstreamStatus":{}')}
    return {mark for mark in marks if mark in log}
