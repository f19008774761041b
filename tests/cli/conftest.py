"""An own folder for every test, and two ways to run the program."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import nextarget
from nextarget import telemetry
from nextarget.cli import priority
from nextarget.cli.main import main
from nextarget.model import Identity, Millis, Provider, User
from nextarget.runtime import Runtime
from nextarget.services import accounts
from nextarget.settings import read_values
from tests import running as servers
from tests.serving import PATIENCE_SECONDS, SECRET
from tests.templates import put_migrated

GOOGLE = Provider("google")
AGAIN_SECONDS = 15


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, request) -> Path:
    """The test's working directory. With --database postgresql, commands use a PostgreSQL database by default."""
    monkeypatch.chdir(tmp_path)
    if request.config.getoption("--database") == "postgresql":
        monkeypatch.setenv("DATABASE_URL", servers.database_in(tmp_path, migrated=False))
    return tmp_path


@pytest.fixture
def secret(monkeypatch) -> str:
    """The one required setting."""
    monkeypatch.setenv("JWT_SECRET_KEY", SECRET)
    return SECRET


@pytest.fixture
def run(capsys, monkeypatch) -> Callable[..., Result]:
    """Runs the program in this process, with streams that are not terminals."""
    # Here the logging would keep the captured stream after the test. Tests of log lines run the program as a process.
    monkeypatch.setattr(telemetry, "configure_logging", lambda **_: None)
    # A long command would lower the priority of this process for all later tests.
    monkeypatch.setattr(priority.os, "nice", lambda _by: 0)
    monkeypatch.setattr(priority.os, "sched_setscheduler", lambda *_: None)

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["nextarget", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        return Result(exit_.value.code or 0, out, err)

    return run


@pytest.fixture
def command() -> list[str]:
    """The command line that runs the program as a process."""
    return [sys.executable, "-m", "nextarget"]


@pytest.fixture
def environ(folder) -> dict[str, str]:
    """The environment of such a process: this environment, the required setting, and the package's path."""
    return {
        **os.environ,
        "PYTHONPATH": str(Path(nextarget.__file__).parents[1]),
        "COLUMNS": "120",
        "JWT_SECRET_KEY": SECRET,
    }


@pytest.fixture
def execute(command, environ) -> Callable[..., Result]:
    """Runs the program as a process, whose streams are pipes."""

    def execute(*arguments: str, **extra: str) -> Result:
        done = subprocess.run(
            [*command, *arguments],
            env={**environ, **extra},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return execute


class Terminal:
    """A program at its own terminal, and the text that the terminal has shown so far."""

    def __init__(self, command: list[str], *, columns: int, piped: bool = False, **options: Any) -> None:
        """With `piped`, the program's standard output is a pipe. `options` are Popen's."""
        self._descriptor, end = pty.openpty()
        termios.tcsetwinsize(end, (24, columns))
        self.process = subprocess.Popen(
            command, stdin=end, stdout=subprocess.PIPE if piped else end, stderr=end, **options
        )
        os.close(end)
        self.shown = b""

    def until(self, text: str) -> None:
        """Read until the terminal shows a text."""
        while text.encode() not in self.shown:
            part = self._read(PATIENCE_SECONDS)
            assert part, f"{text!r} was not shown, but {self.shown!r}"

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def end(self) -> int:
        """Read until the program ends, and return its exit status."""
        with suppress(OSError):  # a terminal without a process reports its end with an error
            while self._read(PATIENCE_SECONDS):
                pass
        return self.process.wait(PATIENCE_SECONDS)

    def interrupt(self) -> int:
        """Interrupt the program, which waits for an answer, and return its exit status.

        Python misses a signal that comes just before it reads: then, as a person would, interrupt it again.
        """
        self.process.send_signal(signal.SIGINT)
        with suppress(OSError):
            while self._read(AGAIN_SECONDS):
                pass
            self.process.send_signal(signal.SIGINT)
        return self.end()

    def _read(self, seconds: float) -> bytes:
        """Add to `shown` what the program writes next, and return it: nothing if it writes nothing for so long."""
        readable, _, _ = select.select([self._descriptor], [], [], seconds)
        part = os.read(self._descriptor, 65536) if readable else b""
        self.shown += part
        return part

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._descriptor)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def at_terminal(command, environ) -> Iterator[Callable[..., Terminal]]:
    """Runs the program at a terminal with this number of columns. With `piped`, its standard output is a pipe."""
    terminals = []
    environ = {name: text for name, text in environ.items() if name != "COLUMNS"} | {"TERM": "xterm"}

    def at_terminal(*arguments: str, piped: bool = False, columns: int = 120, **extra: str) -> Terminal:
        line = [*command, *arguments]
        terminals.append(Terminal(line, columns=columns, piped=piped, env={**environ, **extra}))
        return terminals[-1]

    yield at_terminal
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def runtime(secret, run, folder):
    """A runtime on the database of this folder."""
    if "DATABASE_URL" not in os.environ:
        put_migrated(folder / "nextarget.db")
    assert run("init-db").status == 0
    runtime = Runtime(read_values(folder).settings())
    yield runtime
    runtime.database.close()


@pytest.fixture
def admit(runtime) -> Callable[..., User]:
    """Makes a user. The time of every call is a second after the call before."""
    seconds = iter(range(1_700_000_000, 1_800_000_000))

    def admit(email: str | None, provider: Provider = GOOGLE, subject: str | None = None) -> User:
        now = Millis(next(seconds) * 1000)
        identity = Identity(provider, subject or f"subject-{now}", email, email_verified=provider == Provider("google"))
        return runtime.database.write_now(accounts.admit, identity, now=now)

    return admit
