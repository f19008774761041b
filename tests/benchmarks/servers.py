"""Servers in processes of their own, and what the kernel says about them."""

import json
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
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
NEXTARGET = [sys.executable, "-m", "nextarget"]
START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that is up. Times are seconds of CPU, user and system together, of all its threads."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """To the nanosecond where the scheduler keeps statistics, else in ticks."""
        process = Path(f"/proc/{self.pid}")
        try:
            files = [path.read_text() for path in process.glob("task/*/schedstat")]
        except OSError:
            files = []
        if files:
            return sum(int(text.split()[0]) for text in files) / 1e9
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def sign_in(self) -> str:
        """An access token of the sandbox's Ada, by a whole login through the stand-in Google."""
        with urlopen(f"{self.url}/auth/google/start") as answer:
            auth_url = json.load(answer)["auth_url"]
        with urlopen(f"{auth_url}&person=ada") as answer:  # follows the redirects, as a browser would
            return str(json.load(answer)["access_token"])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def bare_server() -> Iterator[ServerProcess]:
    port = free_port()
    with _started([sys.executable, "-m", "tests.benchmarks.bare", str(port)], ROOT, port, "/users/me", None) as server:
        yield server


@contextmanager
def real_server(directory: Path) -> Iterator[ServerProcess]:
    """`nextarget serve --sandbox` with a database of its own, and each request logged as JSON to a file."""
    port = free_port()
    command = [*NEXTARGET, "serve", "--sandbox", "--port", str(port)]
    with _started(command, directory, port, "/health", directory / "server.log") as server:
        yield server


@contextmanager
def _started(command: list[str], directory: Path, port: int, path: str, log: Path | None) -> Iterator[ServerProcess]:
    environment = os.environ | {"LOG_FORMAT": "json", "LOG_LEVEL": "info", "PYTHONPATH": str(ROOT)}
    with open(log or os.devnull, "wb") as sink:  # noqa: PTH123 - os.devnull is no path of ours
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sink
        )
    try:
        server = ServerProcess(process.pid, port)
        _wait(process, server, path, log)
        yield server
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _wait(process: subprocess.Popen[bytes], server: ServerProcess, path: str, log: Path | None) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except ConnectionError:
            time.sleep(0.05)
        finally:
            connection.close()
    said = log.read_text(errors="replace") if log else ""
    raise SystemExit(f"The server did not start.\n{said}")
