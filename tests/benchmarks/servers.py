"""Servers as processes, and the kernel's measurements of them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from nextarget.settings import Settings, Value, read_values

ROOT = Path(__file__).parents[2]
NEXTARGET = [sys.executable, "-m", "nextarget"]
START_SECONDS = 30
SETTLE_SECONDS = 0.06
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
PROXY = {"TRUSTED_PROXIES": "127.0.0.1"}
"""With this, clients can have many addresses, as in production, and stay below their limits."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server with its workers. Times are seconds of CPU, user and system together; `start_seconds` are those
    of the clock from the start of the program to its first answer."""

    pid: int
    port: int
    start_seconds: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pids(self) -> list[int]:
        """The ids of the process and of its workers."""
        return _tree(self.pid)

    def cpu_seconds(self) -> float:
        return sum(_cpu_seconds(pid) for pid in self.pids)

    def settled_cpu_seconds(self) -> float:
        """The same, a moment after the last answer: a server reports its requests a little later."""
        time.sleep(SETTLE_SECONDS)
        return self.cpu_seconds()

    def resident_mib(self) -> float:
        """The memory of the largest process."""
        return max(_resident_mib(pid) for pid in self.pids)


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in _tree(int(child)))]


def _cpu_seconds(pid: int) -> float:
    """CPU time in nanoseconds if the kernel keeps statistics of its scheduler, otherwise in clock ticks."""
    process = Path(f"/proc/{pid}")
    try:
        files = [path.read_text() for path in process.glob("task/*/schedstat")]
    except OSError:
        files = []
    if files:
        return sum(int(text.split()[0]) for text in files) / 1e9
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def production_values(
    directory: Path,
    port: int,
    *,
    workers: int = 1,
    database_url: str | None = None,
    provider_url: str = "http://127.0.0.1:9",
) -> dict[str, str]:
    """The settings of a server in production, by name. No feature is turned off. Google is at `provider_url`."""
    public_url = f"http://127.0.0.1:{port}"
    return PROXY | {
        "PUBLIC_URL": public_url,
        "PORT": str(port),
        "WORKERS": str(workers),
        "DATABASE_URL": database_url or f"sqlite:///{directory}/nextarget.db",
        "JWT_SECRET_KEY": "benchmark-7f3a9c52e8b14d60a1-benchmark-44c0b9d2",
        "GOOGLE_CLIENT_ID": "benchmark.apps.googleusercontent.com",
        "GOOGLE_CLIENT_SECRET": "GOCSPX-benchmark",
        "GOOGLE_REDIRECT_URI": f"{public_url}/auth/google/callback",
        "GOOGLE_ISSUER": provider_url,
        "GOOGLE_AUTHORIZATION_ENDPOINT": f"{provider_url}/authorize",
        "GOOGLE_TOKEN_ENDPOINT": f"{provider_url}/token",
        "GOOGLE_JWKS_URI": f"{provider_url}/keys",
        "LOG_FORMAT": "json",
    }


def production_settings(directory: Path, values: dict[str, str]) -> Settings:
    fixed = {name: Value(text, "benchmark") for name, text in values.items()}
    return read_values(directory, fixed=fixed, environ={}).settings()


def environment_of(values: dict[str, str]) -> dict[str, str]:
    """The environment of a process with these settings. Python may keep bytecode, as it does where the program is
    installed: to compile all of it takes as long as to start."""
    kept = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
    return kept | {"PYTHONPATH": str(ROOT)} | values


@contextmanager
def bare_server(*, workers: int = 1, python: str = sys.executable, module: str = "bare") -> Iterator[ServerProcess]:
    """The bare route, or what another module here serves with this command line, in `workers` processes."""
    port = free_port()
    command = [python, "-m", f"tests.benchmarks.{module}", str(port), str(workers)]
    with started(command, ROOT, {}, port, None) as server:
        yield server


@contextmanager
def real_server(directory: Path, values: dict[str, str], *, python: str = sys.executable) -> Iterator[ServerProcess]:
    """`nextarget serve` with these settings. It logs every request to a file."""
    port = int(values["PORT"])
    command = [python, "-m", "nextarget", "serve"]
    with started(command, directory, values, port, directory / "server.log") as server:
        yield server


@contextmanager
def started(
    command: list[str], directory: Path, values: dict[str, str], port: int, log: Path | None
) -> Iterator[ServerProcess]:
    """Start a server with these settings, wait until it answers, and end it with the block."""
    environment = environment_of(values)
    began = time.monotonic()
    with open(log or os.devnull, "wb") as sink:  # noqa: PTH123 - os.devnull is a system path
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sink
        )
    try:
        _wait(process, port, log)
        yield ServerProcess(process.pid, port, time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path | None) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except ConnectionError:
            time.sleep(0.005)
        finally:
            connection.close()
    said = log.read_text(errors="replace") if log else ""
    raise SystemExit(f"The server did not start.\n{said}")
