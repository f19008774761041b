"""/metrics of a server with several workers: any worker returns the numbers of all."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.serving import PATIENCE_SECONDS, Served, environ_for, served

pytestmark = pytest.mark.slow

COUNT = 'nextarget_http_request_duration_seconds_count{method="GET",route="/health",status="200"}'


def scrape(server: Served) -> str:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=PATIENCE_SECONDS) as answer:
        return answer.read().decode()


def value(text: str, series: str) -> float | None:
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.M)
    return float(found[1]) if found else None


def test_whichever_worker_is_asked_speaks_for_all(tmp_path: Path) -> None:
    """The numbers of a stopped and of a killed worker are included. The files for the metrics are deleted with the
    server."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with served(tmp_path, "--workers", "2", TMPDIR=str(temporary)) as server:
        first, second = server.workers(2)
        for asked, standing in ((first, second), (second, first)):
            os.kill(standing, signal.SIGSTOP)
            for _ in range(5):
                assert server.get("/health")[0] == 200
            text = scrape(server)
            os.kill(standing, signal.SIGCONT)
            assert value(text, f'process_resident_memory_bytes{{pid="{asked}"}}')
        assert value(text, COUNT) == 10, "the second worker must include the first one's requests"
        assert value(text, f'process_cpu_seconds_total{{pid="{server.process.pid}"}}')

        os.kill(first, signal.SIGKILL)
        server.wait_for("worker_ended")
        (*_, third) = server.workers(3)
        text = scrape(server)
        assert value(text, COUNT) == 10
        pids = set(re.findall(r'^process_cpu_seconds_total\{pid="(\d+)"\}', text, re.M))
        assert str(first) not in pids
        assert {str(second), str(server.process.pid)} <= pids <= {str(second), str(third), str(server.process.pid)}
        assert list(temporary.glob(f"nextarget-metrics-*/counter_{first}.db"))
        assert not list(temporary.glob(f"nextarget-metrics-*/gauge_live*_{first}.db"))

        server.send(signal.SIGHUP)
        server.wait_for("worker_ended", 3)
        assert value(scrape(server), COUNT) == 10, "the counts of replaced workers must remain"

        server.send(signal.SIGTERM)
        assert server.end() == 0
    assert list(temporary.iterdir()) == []


def test_what_the_environment_names_is_left_alone(tmp_path: Path) -> None:
    """The folder that the environment names for metrics belongs to another program. No server and no command reads or
    writes it."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for workers in ("1", "2"):
        with served(tmp_path, "--workers", workers, PROMETHEUS_MULTIPROC_DIR=str(theirs)) as server:
            assert value(scrape(server), 'nextarget_refreshes_total{outcome="rotated"}') == 0
            server.send(signal.SIGTERM)
            assert server.end() == 0
        assert list(theirs.iterdir()) == []
    for folder in (theirs, tmp_path / "missing"):
        for command in ("init-db", "list-users", "purge"):
            done = subprocess.run(
                [sys.executable, "-m", "nextarget", command],
                cwd=tmp_path,
                env=environ_for(tmp_path, PROMETHEUS_MULTIPROC_DIR=str(folder)),
                capture_output=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    assert list(theirs.iterdir()) == []
