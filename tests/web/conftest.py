"""Fixtures that the tests of the HTTP layer share, the log among them."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import structlog
import uvloop

from nextarget import telemetry
from nextarget.telemetry import configure_logging
from nextarget.web.server import connections
from tests.running import Browser, Server, open_browser, running
from tests.web.guarding import Run

FAILURES = ("login_failed", "problem", "refresh_reused", "unforeseen_error")


class Log:
    """Everything that was written to standard error since the test began."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self._text = ""

    @property
    def text(self) -> str:
        telemetry.flush()
        out, err = self._capfd.readouterr()
        assert out == "", "the log goes to standard error alone"
        self._text += err
        return self._text

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines of the log, which must be JSON objects."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        assert all(isinstance(line, dict) for line in lines)
        return lines

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The log lines about failures."""
        return [line for line in self.lines if line["event"] in FAILURES]

    @property
    def only_failure(self) -> dict[str, Any]:
        """The only log line about a failure."""
        (line,) = self.failures
        return line

    def requests(self, route: str | None) -> list[dict[str, Any]]:
        """The access log of one route."""
        return [line for line in self.events("request") if line["route"] == route]

    def holds(self, secret: str) -> bool:
        """Whether the log contains a text, in any of the forms that it has in a URL or in JSON."""
        forms = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
        return any(form in self.text for form in forms)


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """The log of this test.

    Loggers keep the stream to which they wrote first, and pytest replaces `sys.stderr` between setup and call. So all
    of them get a stream on the file descriptor, which stays the same.
    """
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level, requests = root.handlers[:], root.level, telemetry.logs._requests.stream
    with open(2, "w", encoding="utf-8", closefd=False) as stderr:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stderr)
            _forget_streams()
            configure_logging(level="info", console=False)
        yield Log(capfd)
        _forget_streams()
        structlog.configure(**before)
        telemetry.logs._requests.stream = requests
        root.handlers[:], root.level = handlers, level


def _forget_streams() -> None:
    for name, module in list(sys.modules.items()):
        logger = getattr(module, "log", None) if name.startswith("nextarget.") else None
        if logger is not None:
            vars(logger).pop("bind", None)


@pytest.fixture
async def browser(server: Server) -> AsyncIterator[Browser]:
    """A browser with its own cookies."""
    async with open_browser(server.url) as browser:
        yield browser


@pytest.fixture
async def second(server: Server, tmp_path: Path) -> AsyncIterator[Server]:
    """A second server of the same installation."""
    async with running(tmp_path, PUBLIC_URL=server.url) as second:
        yield second


@pytest.fixture
async def impatient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Server]:
    """A server whose timeout for providers is far shorter than the fault `slow`, and far longer than any other
    fault."""
    callspec = getattr(request.node, "callspec", None)
    fault = callspec.params.get("fault") if callspec else None
    patience = 0.25 if fault == "slow" else 3 if fault is None else 60  # a test without `fault` tries all faults
    monkeypatch.setattr("nextarget.providers.http.client.TOTAL_SECONDS", patience)
    async with running(tmp_path, slow_seconds=30) as server:
        yield server


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a test's coroutine on an event loop of either kind."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run  # type: ignore[misc]


@pytest.fixture
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not check its connections by itself: the test does, and chooses the time of every check."""
    monkeypatch.setattr(connections, "CHECK_SECONDS", 10**6)


@pytest.fixture
def _watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CHECK_SECONDS", 0.01)
