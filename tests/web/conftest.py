"""What the tests of the HTTP edge share: the log as it is written, line by line."""

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
    """Everything that reached standard error since the test began."""

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
        """Every line, each of which must be a JSON object."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        assert all(isinstance(line, dict) for line in lines)
        return lines

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The lines that tell of failures."""
        return [line for line in self.lines if line["event"] in FAILURES]

    @property
    def only_failure(self) -> dict[str, Any]:
        """The one line that tells of a failure."""
        (line,) = self.failures
        return line

    def requests(self, route: str | None) -> list[dict[str, Any]]:
        """The access log of one route."""
        return [line for line in self.events("request") if line["route"] == route]

    def holds(self, secret: str) -> bool:
        """Whether the log holds a text, in any of the forms that a URL or JSON gives it."""
        forms = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
        return any(form in self.text for form in forms)


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """The log of this test.

    Loggers keep the stream that they first wrote to, and pytest changes `sys.stderr` between setup and call: all are
    pointed at the file descriptor, which stays.
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
    """A browser with cookies of its own."""
    async with open_browser(server.url) as browser:
        yield browser


@pytest.fixture
async def second(server: Server, tmp_path: Path) -> AsyncIterator[Server]:
    """Another server of the same installation."""
    async with running(tmp_path, PUBLIC_URL=server.url) as second:
        yield second


@pytest.fixture
async def impatient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Server]:
    """A server that gives a provider up long before the fault `slow` is over, and long after any other."""
    callspec = getattr(request.node, "callspec", None)
    fault = callspec.params.get("fault") if callspec else None
    patience = (
        0.25 if fault == "slow" else 3 if fault is None else 60
    )  # a test without `fault` goes through all of them
    monkeypatch.setattr("nextarget.providers.base.TOTAL_SECONDS", patience)
    async with running(tmp_path, slow_seconds=30) as server:
        yield server


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs what a test does on a loop of either kind."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run  # type: ignore[misc]


@pytest.fixture
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server looks at no connection by itself: the test does, as of the moments that it chooses."""
    monkeypatch.setattr(connections, "LOOK_SECONDS", 10**6)


@pytest.fixture
def _watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.01)
