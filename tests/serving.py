"""Runs `nextarget serve`, with its workers, as a process, and reads its log while it is written."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SECRET = "nVq7TzX2_wKf83hLr-Yc5PmBd0sJgUaE4oRtZi6NlHxQ"
PATIENCE_SECONDS = 60
"""After this time a test gives up. It is long enough for a busy machine."""


@dataclass
class Served:
    """A server as a process. `lines` are the lines of its log so far; every line must be JSON."""

    process: subprocess.Popen[bytes]
    lines: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return self.wait_for("listening")[0]["url"]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    def wait_for(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until the log has `count` lines of an event, and return these lines."""
        with self.arrived:
            found = self.arrived.wait_for(
                lambda: len(self.events(event)) >= count or self.process.poll() is not None, PATIENCE_SECONDS
            )
            assert found, f"no {event!r} among {self.lines}"
        if self.process.poll() is not None:
            self.end()
        assert len(self.events(event)) >= count, (self.lines, self.broken)
        return self.events(event)

    def workers(self, count: int) -> list[int]:
        """Wait until `count` workers have started. Return their process ids, in the order of their starts."""
        return [line["pid"] for line in self.wait_for("worker_started", count)]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end of the process and return the exit status. The whole log was read, and was JSON."""
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        assert not self._reader.is_alive(), "a process still has the log open: a worker was left behind"
        assert self.broken == []
        return status

    def close(self) -> None:
        """Wait for the end of the process, and close its log."""
        self.process.wait()
        self._reader.join(PATIENCE_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def listen(self) -> None:
        """Read the log on a thread, until all processes that write to it have ended."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            with self.arrived:
                try:
                    line = json.loads(text)
                    line["event"]
                except (ValueError, KeyError, TypeError):
                    self.broken.append(text.decode(errors="replace"))
                else:
                    self.lines.append(line)
                self.arrived.notify_all()
        with self.arrived:
            self.arrived.notify_all()

    def get(self, path: str, token: str | None = None) -> tuple[int, dict[str, str], Any]:
        """Send a GET on a new connection. Return the status, headers and JSON of the answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, dict(answer.headers), json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), json.load(error)


def environ_for(folder: Path, **settings: str) -> dict[str, str]:
    """The environment of a server in `folder`: the package's path, the one required setting, and a home folder."""
    inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    own = {
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JWT_SECRET_KEY": SECRET,
        "TMPDIR": str(folder),
    }
    return {**inherited, **own, **settings}


@contextmanager
def served(folder: Path, *options: str, stdin: int = subprocess.DEVNULL, **settings: str) -> Iterator[Served]:
    """Run `nextarget serve` on a free port, in `folder`. Processes that are left at the end are killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nextarget", "serve", "--port", "0", *options],
        cwd=folder,
        env=environ_for(folder, **settings),
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    server = Served(process)
    server.listen()
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        server.close()


def issue_token(folder: Path, **settings: str) -> str:
    """Create a user in the database in `folder`, and return an access token for this user."""
    command = ("issue-token", "--email", "ada@example.org", "--provider", "google", "--create")
    done = subprocess.run(
        [sys.executable, "-m", "nextarget", *command],
        cwd=folder,
        env=environ_for(folder, **settings),
        stdout=subprocess.PIPE,
        timeout=PATIENCE_SECONDS,
        check=True,
        text=True,
    )
    return done.stdout.strip()


class Line:
    """One connection without a client library: no request is sent again by itself, so a test sees a lost request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> "Line":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, path: str, *, close: bool = False) -> tuple[int, bool]:
        """Send a GET. Return the answer's status and whether it ends the connection. Raises without an answer."""
        self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{'Connection: close' if close else 'X-Y: z'}\r\n\r\n")
        return await self.answer()

    def send(self, text: str) -> None:
        self.writer.write(text.encode())

    async def answer(self) -> tuple[int, bool]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            (length,) = (int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length"))
            await self.reader.readexactly(length)
        return int(head.split()[1]), "\r\nconnection: close\r\n" in head

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()
