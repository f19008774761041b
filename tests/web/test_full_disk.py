"""A full disk under a running server: what people who sign in get, and what operators see."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from nextarget.web.server import readiness
from tests.disks import SmallDisk, small_disk
from tests.running import Answer, Server, running
from tests.web.conftest import Log

pytestmark = pytest.mark.sqlite_only("the disk under PostgreSQL is another machine's; it has tests of its own")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
async def server(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server with its database on the small disk. It repeats its readiness check for every request."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0)
    async with running(disk.folder, RATE_LIMIT_ENABLED="false") as server:
        yield server


async def until_it_fails(server: Server) -> Answer:
    """Sign in until the disk is full. Some sign-ins still fit into the existing file."""
    for _ in range(300):
        answer = await server.sign_in()
        if answer.status != 200:
            return answer
    pytest.fail("the disk never was full")


@pytest.mark.slow
async def test_a_full_disk_is_told_once_and_by_its_name(server: Server, disk: SmallDisk, log: Log) -> None:
    """The first failure is logged as an error with a remedy. Hundreds of further failures add only their requests'
    lines. Answers do not contain the path."""
    disk.fill()
    first = await until_it_fails(server)
    assert (first.status, first.code) == (503, "database_unavailable")
    assert str(disk.folder) not in first.text
    answers = [await asyncio.gather(*(server.sign_in() for _ in range(20))) for _ in range(10)]
    assert {answer.status for many in answers for answer in many} == {503}
    (told,) = log.events("database_unavailable")
    assert (told["level"], told["cause"], told["failures"]) == ("error", "disk_full", 1)
    assert told["reason"] == "database or disk is full (SQLITE_FULL)"
    assert told["free_bytes"] < 100_000
    assert "Make room" in told["remedy"]
    assert "cannot rollback" not in log.text
    others = {line["event"] for line in log.lines if line["event"] != "login_succeeded"}
    assert others <= {"request", "database_unavailable"}


async def test_a_full_disk_is_not_ready_until_there_is_room(server: Server, disk: SmallDisk, log: Log) -> None:
    """While the disk is full, every readiness check fails, even if a small write would succeed. When there is room
    again, the check notices it without another request, and the log says so."""
    assert (await server.get("/health/ready")).status == 200
    disk.fill()
    await until_it_fails(server)
    for _ in range(20):
        answer = await server.get("/health/ready")
        assert (answer.status, answer.json["check"]) == (503, "database")
    disk.empty()
    assert (await server.get("/health/ready")).status == 200
    (over,) = log.events("database_available")
    assert over["level"] == "warning"
    assert over["failures"] >= 21
    assert (await server.sign_in()).status == 200


async def test_from_the_first_failure_on_a_full_disk_is_not_ready(
    server: Server, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A readiness result from before the failure is not used again."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 60)
    assert (await server.get("/health/ready")).status == 200
    disk.fill()
    await until_it_fails(server)
    assert (await server.get("/health/ready")).status == 503


async def test_a_disk_with_some_room_left_is_not_ready_when_sign_ins_fail(server: Server, disk: SmallDisk) -> None:
    """The space that a failed sign-in leaves would be enough for a small write. So the node is not ready, although such
    a write succeeds."""
    disk.fill(up_to=64 * 1024)
    await until_it_fails(server)
    assert {(await server.get("/health/ready")).status for _ in range(20)} == {503}


async def test_a_new_process_on_a_full_disk_is_not_ready(disk: SmallDisk, tmp_path: Path) -> None:
    """The first readiness check of a new process tries to write, before any request failed."""
    async with running(disk.folder, RATE_LIMIT_ENABLED="false") as server:
        disk.fill()
        await until_it_fails(server)
        async with running(disk.folder, RATE_LIMIT_ENABLED="false") as other:
            assert (await other.get("/health/ready")).status == 503


async def test_who_cancels_while_the_disk_is_full_has_one_line(server: Server, disk: SmallDisk, log: Log) -> None:
    """Recording a cancelled sign-in fails too, and this failure is not logged every time."""
    disk.fill()
    await until_it_fails(server)
    for _ in range(5):
        assert (await server.sign_in(person="cancel")).status == 403
    assert len(log.events("login_failed")) == 5
    assert len(log.events("database_unavailable")) == 1
    assert not log.events("audit_failed")


@pytest.fixture
def quiet_log(log: Log) -> Log:
    """The log at LOG_LEVEL=warning."""
    stream = structlog.get_config()["logger_factory"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), logger_factory=stream)
    return log


async def test_a_log_of_warnings_alone_tells_of_a_full_disk(server: Server, disk: SmallDisk, quiet_log: Log) -> None:
    """The start and the end of the failure are logged at the level of warnings."""
    disk.fill()
    await until_it_fails(server)
    disk.empty()
    assert (await server.get("/health/ready")).status == 200
    events = [line["event"] for line in quiet_log.lines if line["event"] != "request"]
    assert events == ["database_unavailable", "database_available"]


async def test_a_server_that_nobody_asks_finds_out_by_itself_that_there_is_room(
    disk: SmallDisk, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server notices free space by itself, without any request."""
    monkeypatch.setattr(readiness, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0)
    async with running(disk.folder, RATE_LIMIT_ENABLED="false") as server:
        disk.fill()
        await until_it_fails(server)
        disk.empty()
        async with asyncio.timeout(30):
            while not log.events("database_available"):
                await asyncio.sleep(0)
