"""Metrics alone: several workers count as one server, and variables of the environment change nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nextarget.settings import metrics_folder, share_metrics
from nextarget.telemetry import metrics

WORKERS = """
import os, sys
from pathlib import Path
from nextarget.settings import metrics_folder, share_metrics
share_metrics(Path(sys.argv[1]))
from nextarget.model import Provider
from nextarget.telemetry import metrics, request_answered
pids, pipes = [], []
for number in (1, 2):
    told, tell = os.pipe()
    stay, leave = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(leave)
        for _ in range(number * 10):
            request_answered("GET", "/health", 200, 0.0005)
        metrics.set_breaker(Provider("google"), is_open=number == 2)
        metrics.set_pool_size(8)
        metrics.count_refresh("rotated")
        os.write(tell, b".")
        os.read(stay, 1)  # until its parent closes the pipe
        os._exit(0)
    os.read(told, 1)
    pids.append(pid)
    pipes.append(leave)
print(metrics.exposition(metrics_folder()).decode())
print("=====")
for pid, leave in zip(pids, pipes):
    os.close(leave)
for pid in pids:
    os.waitpid(pid, 0)
    metrics.worker_gone(pid, metrics_folder())
print(metrics.exposition(metrics_folder()).decode())
print("=====")
print(*pids)
"""


def value(text: str, series: str) -> float | None:
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.M)
    return float(found[1]) if found else None


def test_several_workers_count_as_one_server(tmp_path: Path) -> None:
    """Counters add up whichever worker is asked, and outlive their worker. Values about a worker do not outlive it."""
    alive, gone, pids = run(WORKERS, str(tmp_path)).split("=====")
    count = 'nextarget_http_request_duration_seconds_count{method="GET",route="/health",status="200"}'
    within = 'nextarget_http_request_duration_seconds_bucket{le="0.001",method="GET",route="/health",status="200"}'
    for text in (alive, gone):
        assert value(text, count) == value(text, within) == 30
        assert value(text, 'nextarget_refreshes_total{outcome="rotated"}') == 2
        assert value(text, 'nextarget_refreshes_total{outcome="reused"}') == 0
        assert len(re.findall(r"^nextarget_build_info\{.*\} 1\.0$", text, re.M)) == 1
    assert value(alive, 'nextarget_provider_breaker_open{provider="google"}') == 1
    assert value(gone, 'nextarget_provider_breaker_open{provider="google"}') in {0, None}
    assert value(alive, "nextarget_database_pool_connections_max") == 16
    assert value(gone, "nextarget_database_pool_connections_max") in {0, None}
    for pid in pids.split():
        memory = value(alive, f'process_resident_memory_bytes{{pid="{pid}"}}')
        assert memory is not None
        assert memory > 1_000_000
        assert f'pid="{pid}"' not in gone


@pytest.mark.slow
def test_one_process_counts_for_itself_whatever_the_environment_names(tmp_path: Path) -> None:
    """A folder in the environment, meant for another program's workers, is not used and need not exist."""
    script = (
        "from nextarget.settings import metrics_folder, share_metrics\n"
        "share_metrics(None)\n"
        "from nextarget.telemetry import metrics\n"
        "assert metrics_folder() is None\n"
        "print(metrics.exposition().decode())\n"
    )
    for folder in (tmp_path, tmp_path / "missing"):
        text = run(script, PROMETHEUS_MULTIPROC_DIR=str(folder))
        assert value(text, "nextarget_purged_rows_total") == 0
        assert value(text, "process_resident_memory_bytes")
        assert list(tmp_path.iterdir()) == []


def test_what_has_not_happened_yet_is_nought(tmp_path: Path) -> None:
    """A series exists before its first event, so that an alert on a rate sees the first event."""
    text = run("from nextarget.telemetry import metrics; print(metrics.exposition().decode())")
    for series in (
        *(f'nextarget_refreshes_total{{outcome="{outcome}"}}' for outcome in metrics.Refreshed.__args__),
        *(f'nextarget_logins_total{{outcome="succeeded",provider="{name}"}}' for name in ("google", "facebook")),
        *("nextarget_rate_limit_failures_total", "nextarget_malformed_requests_total"),
        *(f'nextarget_database_duration_seconds_count{{kind="{kind}"}}' for kind in ("read", "write")),
    ):
        assert value(text, series) == 0, series
    assert "_created" not in text


def test_the_folder_of_the_workers_is_named_and_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The code removes both spellings of the variable that the Prometheus client reads."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "elsewhere")
    monkeypatch.setenv("prometheus_multiproc_dir", "elsewhere")
    share_metrics(tmp_path)
    assert metrics_folder() == tmp_path
    share_metrics(None)
    assert metrics_folder() is None
    assert not {"PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"} & os.environ.keys()


def run(script: str, *arguments: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
