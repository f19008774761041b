"""Several workers: they are replaced when they die or on SIGHUP, and stopped without losing a request."""

import asyncio
import os
import select
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.postgres import Cluster
from tests.serving import SECRET, Line, Served, issue_token, served

pytestmark = pytest.mark.slow

BODY = "grant_type=refresh_token&client_id=nextarget-app&refresh_token=none"
POST = (
    "POST /auth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n"
)
CLIENTS = 6

Dial = Callable[[int], Awaitable[Line]]


def ended(*pids: int, seconds: float = 60) -> bool:
    """Whether all of these processes end within this time."""
    for pid in pids:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        waiting = select.poll()
        waiting.register(process, select.POLLIN)
        found = waiting.poll(seconds * 1000)
        os.close(process)
        if not found:
            return False
    return True


@contextmanager
def served_by(workers: int, folder: Path, **settings: str) -> Iterator[Served]:
    """A server whose workers have all started. A single worker does not log its start."""
    with served(folder, "--workers", str(workers), **settings) as server:
        if workers > 1:
            server.workers(workers)
        yield server


async def until_the_last(line: Line) -> int:
    """The number of answers on a kept connection, up to the last one. All of them must be successful."""
    answered = 0
    last = False
    while not last:
        status, last = await line.ask("/health")
        assert status == 200
        answered += 1
    return answered


def write_key(path: Path) -> None:
    """A new private key for access tokens."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def until_all_stop(server: Served, workers: int) -> None:
    """Wait until every worker is stopping, so that any answer says so."""
    server.wait_for("stopping" if workers == 1 else "worker_stopping", workers)


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Opens connections to a port of this machine, and closes them after the test."""
    lines: list[Line] = []

    async def connect(port: int) -> Line:
        line = await Line.open(port)
        lines.append(line)
        return line

    yield connect
    for line in lines:
        await line.close()


async def keep_asking(port: int, over: asyncio.Event, seen: Counter[str], *, keep_alive: bool) -> None:
    """Send requests without a pause, on new connections or on one kept as long as possible. Requests without an answer
    and failed connections are counted."""
    while not over.is_set():
        try:
            line = await Line.open(port)
        except OSError as error:
            seen[f"not connected: {type(error).__name__}"] += 1
            continue
        try:
            last = False
            while not last and not over.is_set():
                status, last = await line.ask("/health/ready", close=not keep_alive)
                seen[f"{status}"] += 1
        except (OSError, EOFError, TimeoutError) as error:
            seen[f"lost: {type(error).__name__}"] += 1
        finally:
            await line.close()


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    """After a SIGKILL, as when memory runs out, another worker takes the place, and the log says so."""
    with served(tmp_path, "--workers", "2") as server:
        first, second = server.workers(2)
        os.kill(first, signal.SIGKILL)
        third = server.workers(3)[2]
        assert len({first, second, third}) == 3
        assert [line["pid"] for line in server.events("worker_ended")] == [first]
        assert server.get("/health/ready")[0] == 200
        server.send(signal.SIGTERM)
        assert server.end() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_drains_then_finishes_what_is_in_flight_and_ends_with_0(
    tmp_path: Path, dial: Dial, workers: int
) -> None:
    """The node is not ready, but answers all other requests and accepts connections. A request whose body is incomplete
    is answered. Then the server stops listening."""
    with served_by(workers, tmp_path, DRAIN_SECONDS="6") as server:
        port = server.port
        token = issue_token(tmp_path)
        slow = await dial(port)
        slow.send(POST + BODY[:1])
        assert server.get("/health/ready")[0] == 200
        server.send(signal.SIGTERM)
        until_all_stop(server, workers)
        status, headers, problem = server.get("/health/ready")
        assert (status, problem["code"], problem["check"]) == (503, "not_ready", "draining")
        status, headers, profile = server.get("/users/me", token)
        assert (status, profile["email"]) == (200, "ada@example.org")
        assert headers["Connection"] == "close"
        slow.send(BODY[1:])
        assert await slow.answer() == (400, True)
        assert server.end() == 0
    with pytest.raises(ConnectionRefusedError):
        await dial(port)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stop_without_a_drain_answers_whoever_is_connected(tmp_path: Path, dial: Dial, workers: int) -> None:
    """Clients with a kept connection, or with a new one, get one more answer and are not reset."""
    with served_by(workers, tmp_path) as server:
        port = server.port
        kept = [await dial(port) for _ in range(CLIENTS)]
        assert {await line.ask("/health") for line in kept} == {(200, False)}
        new = [await dial(port) for _ in range(CLIENTS)]
        server.get("/health")  # connections are accepted in order
        server.send(signal.SIGTERM)
        server.wait_for("stopping" if workers == 1 else "worker_stopping")
        # All at the same time, because the limit is two seconds. A worker that has no signal yet gets another request.
        answered = await asyncio.gather(*map(until_the_last, [*kept, *new]))
        assert workers > 1 or set(answered) == {1}
        assert server.end() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_nobody_who_is_connected_loses_a_request_to_sigterm(tmp_path: Path, dial: Dial, workers: int) -> None:
    """Under load, every request on a kept connection is answered, up to the answer that says that it is the last."""
    with served_by(workers, tmp_path) as server:
        lines = [await dial(server.port) for _ in range(CLIENTS)]
        clients = [asyncio.create_task(until_the_last(line)) for line in lines]
        await asyncio.to_thread(server.wait_for, "request", 200)
        server.send(signal.SIGTERM)
        assert min(await asyncio.gather(*clients)) > 1
        assert server.end() == 0


async def test_sighup_replaces_every_worker_and_loses_no_request(tmp_path: Path) -> None:
    """Clients send requests without a pause on kept and new connections, for three generations of workers. There is no
    drain, and the server is always ready."""
    with served(tmp_path, "--workers", "2", DRAIN_SECONDS="600") as server:
        pids = server.workers(2)
        over, seen = asyncio.Event(), Counter[str]()
        clients = [
            asyncio.create_task(keep_asking(server.port, over, seen, keep_alive=number % 2 == 0))
            for number in range(CLIENTS)
        ]
        for generation in (1, 2, 3):
            server.send(signal.SIGHUP)
            await asyncio.to_thread(server.wait_for, "worker_ended", generation * 2)
        over.set()
        await asyncio.gather(*clients)
        assert seen.keys() == {"200"}
        pids = server.workers(8)
        assert len(set(pids)) == 8
        assert ended(*pids[:6])
        server.send(signal.SIGINT)
        assert server.end() == 0


def test_sighup_reads_the_settings_again(tmp_path: Path) -> None:
    """A changed number of workers in `.env` takes effect. A wrong value changes nothing, and the log names it."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("WORKERS=2\nLOG_FORMAT=json\n")
    with served(tmp_path) as server:
        server.workers(2)
        dotenv.write_text("WORKERS=3\nHOST=0.0.0.0\n")
        server.send(signal.SIGHUP)
        pids = server.workers(5)[2:]
        server.wait_for("worker_ended", 2)
        assert server.events("restart_needed")[0]["settings"] == ["HOST", "LOG_FORMAT"]
        dotenv.write_text("WORKERS=many\nAPP_CLIENT_ID=\x07\n")
        server.send(signal.SIGHUP)
        refused = server.wait_for("reload_refused")[0]
        assert "WORKERS: cannot be read." in refused["detail"]
        assert server.get("/health/ready")[0] == 200
        assert not any(ended(pid, seconds=0) for pid in pids)
        server.send(signal.SIGTERM)
        assert server.end() == 0


def test_sighup_changes_nothing_when_a_new_worker_cannot_serve(tmp_path: Path) -> None:
    """If new workers cannot start, the old ones continue with their settings. Here only the parent can read the key,
    once."""
    write_key(tmp_path / "key.pem")
    dotenv = tmp_path / ".env"
    pipe, end = os.pipe()
    with served(tmp_path, "--workers", "2", stdin=pipe) as server:
        os.close(pipe)
        first, second = server.workers(2)
        os.write(end, (tmp_path / "key.pem").read_bytes())
        os.close(end)
        dotenv.write_text("JWT_PRIVATE_KEY_FILE=/dev/stdin\n")
        server.send(signal.SIGHUP)
        assert "cannot serve" in server.wait_for("reload_refused")[0]["detail"]
        assert "JWT_PRIVATE_KEY_FILE" in server.events("worker_failed")[0]["detail"]
        assert server.get("/health")[0] == 200
        assert not any(ended(pid, seconds=0) for pid in (first, second))
        os.kill(first, signal.SIGKILL)
        pids = server.workers(3)
        dotenv.unlink()
        server.send(signal.SIGHUP)
        server.workers(5)
        assert ended(*pids)
        assert server.get("/health/ready")[0] == 200
        server.send(signal.SIGTERM)
        assert server.end() == 0


def test_sighup_changes_nothing_while_the_database_is_away(tmp_path: Path, cluster: Cluster) -> None:
    """While the database is unavailable, the old workers continue. Afterwards another SIGHUP replaces them."""
    with served(tmp_path, "--workers", "2", DATABASE_URL=cluster.create_database()) as server:
        old = server.workers(2)
        cluster.stop()
        server.send(signal.SIGHUP)
        server.wait_for("reload_refused")
        assert server.get("/health")[0] == 200
        assert not any(ended(pid, seconds=0) for pid in old)
        cluster.start()
        server.send(signal.SIGHUP)
        new = server.workers(4)[2:]
        assert ended(*old)
        assert server.get("/health/ready")[0] == 200
        assert not any(ended(pid, seconds=0) for pid in new)
        server.send(signal.SIGTERM)
        assert server.end() == 0


def test_a_stop_waits_for_no_new_worker_after_sighup(tmp_path: Path) -> None:
    """A stop is not delayed by new workers that have not started yet, and neither is a second stop. Here their key
    never arrives."""
    write_key(tmp_path / "key.pem")
    key = tmp_path / "key.fifo"
    os.mkfifo(key)
    with served(tmp_path, "--workers", "2", DRAIN_SECONDS="600") as server:
        old = server.workers(2)
        (tmp_path / ".env").write_text(f"JWT_PRIVATE_KEY_FILE={key}\n")
        server.send(signal.SIGHUP)
        key.write_bytes((tmp_path / "key.pem").read_bytes())
        server.wait_for("reloading")
        server.send(signal.SIGTERM)
        server.wait_for("stopping")
        assert not any(ended(pid, seconds=0) for pid in old)
        server.send(signal.SIGTERM)
        assert server.end() == -signal.SIGTERM
        assert ended(*old)


def test_workers_share_a_postgresql_database(tmp_path: Path, postgres_url: str) -> None:
    """The parent migrates the database and closes its connection. Every worker has its own connections."""
    with served(tmp_path, "--workers", "2", DATABASE_URL=postgres_url) as server:
        first, second = server.workers(2)
        token = issue_token(tmp_path, DATABASE_URL=postgres_url)
        os.kill(first, signal.SIGKILL)
        server.workers(3)
        server.send(signal.SIGHUP)
        server.workers(5)
        assert ended(first)
        for _ in range(20):
            assert server.get("/users/me", token)[0] == 200
        server.wait_for("worker_ended", 3)
        assert ended(second)
        server.send(signal.SIGTERM)
        assert server.end() == 0


def test_one_worker_says_that_it_cannot_be_replaced(tmp_path: Path) -> None:
    """SIGHUP ends a process by default. A server with one worker refuses it instead, so that a reload is not an
    outage."""
    with served(tmp_path) as server:
        assert server.get("/health")[0] == 200
        server.send(signal.SIGHUP)
        server.wait_for("reload_refused")
        assert server.get("/health")[0] == 200
        server.send(signal.SIGTERM)
        assert server.end() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_ctrl_c_waits_for_no_drain(tmp_path: Path, dial: Dial, workers: int) -> None:
    """After Ctrl-C, only requests in progress are finished, without a drain. The terminal sends the signal to every
    process."""
    with served_by(workers, tmp_path, DRAIN_SECONDS="600") as server:
        port = server.port
        idle, slow = await dial(port), await dial(port)
        assert await idle.ask("/health") == (200, False)
        slow.send(POST + BODY[:1])
        server.get("/health")
        os.killpg(server.process.pid, signal.SIGINT)
        until_all_stop(server, workers)
        slow.send(BODY[1:])
        assert await slow.answer() == (400, True)
        assert server.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_signal_ends_it_at_once(
    tmp_path: Path, dial: Dial, workers: int, number: signal.Signals
) -> None:
    """A second signal ends all processes at once, during a drain and with open connections."""
    with served_by(workers, tmp_path, DRAIN_SECONDS="600") as server:
        line = await dial(server.port)
        assert await line.ask("/health") == (200, False)
        pids = server.workers(2) if workers > 1 else []
        server.send(signal.SIGTERM)
        server.wait_for("stopping")
        server.send(number)
        assert server.end() == -number
        assert ended(*pids)


async def test_a_stop_after_sighup_waits_for_no_old_worker(tmp_path: Path, dial: Dial) -> None:
    """A stop is not delayed by a replaced worker with a request in progress, and neither is a second stop."""
    with served_by(2, tmp_path, DRAIN_SECONDS="600") as server:
        old = server.workers(2)
        slow = await dial(server.port)
        slow.send(POST + BODY[:1])
        server.get("/health")
        server.send(signal.SIGHUP)
        server.wait_for("worker_stopping", 2)
        pids = server.workers(4)
        server.send(signal.SIGTERM)
        server.wait_for("stopping")
        assert not ended(*old, seconds=0)
        server.send(signal.SIGTERM)
        assert server.end() == -signal.SIGTERM
        assert ended(*pids)


def test_a_stop_in_the_midst_of_the_start_reaches_every_worker(tmp_path: Path) -> None:
    """A worker that gets a stop before it handles signals stops as soon as it does. None has to be killed."""
    for _ in range(3):
        with served(tmp_path, "--workers", "4") as server:
            server.wait_for("listening")
            server.send(signal.SIGTERM)
            assert server.end() == 0
            assert len(server.events("worker_stopping")) == 4


def test_workers_go_when_their_parent_was_killed(tmp_path: Path) -> None:
    """Workers end after their parent was killed. Otherwise the next server could not use the address."""
    with served(tmp_path, "--workers", "2") as server:
        pids = server.workers(2)
        server.send(signal.SIGKILL)
        assert server.end() == -signal.SIGKILL  # the log ends when the last worker ends
        assert ended(*pids)


def test_a_worker_that_cannot_start_ends_the_server(tmp_path: Path) -> None:
    """The server ends with an error and status 1, and does not restart the worker for ever. Here only the parent can
    read the key, once."""
    write_key(tmp_path / "key.pem")
    with (tmp_path / "key.pem").open("rb") as key:
        pipe, end = os.pipe()
        os.write(end, key.read())
        os.close(end)
    with served(tmp_path, "--workers", "2", stdin=pipe, JWT_PRIVATE_KEY_FILE="/dev/stdin") as server:
        os.close(pipe)
        assert server.end() == 1
        assert "JWT_PRIVATE_KEY_FILE" in server.events("worker_failed")[0]["detail"]
        assert "workers cannot serve" in server.events("cannot_serve")[0]["detail"]


def test_a_replacement_that_cannot_start_takes_nobody_down(tmp_path: Path) -> None:
    """While other workers serve, a replacement that cannot start is tried again until it can."""
    key = tmp_path / "key.pem"
    write_key(key)
    pem = key.read_bytes()
    with served(tmp_path, "--workers", "2", JWT_PRIVATE_KEY_FILE=str(key)) as server:
        first, second = server.workers(2)
        key.unlink()
        os.kill(first, signal.SIGKILL)
        server.wait_for("worker_failed", 2)
        assert server.get("/health/ready")[0] == 200
        assert not ended(second, seconds=0)
        key.write_bytes(pem)
        assert server.workers(3)[2] != first
        server.send(signal.SIGTERM)
        assert server.end() == 0


@pytest.mark.parametrize("log_level", ["debug", "info"])
def test_gunicorn_takes_its_settings_from_nowhere_and_tells_no_secret(tmp_path: Path, log_level: str) -> None:
    """Gunicorn's variables and its file have no effect. There is no control socket, and every log line is ours."""
    (tmp_path / "gunicorn.conf.py").write_text("workers = 5\naccesslog = '-'\nbind = '127.0.0.1:1'\n")
    environ = {"GUNICORN_CMD_ARGS": "--workers 4 --access-logfile - --print-config", "WEB_CONCURRENCY": "3"}
    with served(tmp_path, "--workers", "2", LOG_LEVEL=log_level, **environ) as server:
        server.workers(2)
        assert server.get("/health")[0] == 200
        server.send(signal.SIGTERM)
        assert server.end() == 0
        assert len(server.events("worker_started")) == 2
        assert len(server.events("request")) == 1
        assert SECRET not in str(server.lines)
        assert not any("configuration" in line["event"].lower() for line in server.lines)
        said = [line["event"] for line in server.lines if line.get("logger") == "gunicorn.error"]
        assert bool(said) is (log_level == "debug")
    assert not (tmp_path / ".gunicorn").exists()


def test_heartbeats_need_no_disk(tmp_path: Path) -> None:
    """Heartbeats are in shared memory, so that they work in a container with a read-only file system."""
    with served(tmp_path, "--workers", "2") as server:
        server.workers(2)
        held = [str(link.readlink()) for link in Path(f"/proc/{server.process.pid}/fd").iterdir()]
        beats = [path for path in held if "wgunicorn-" in path]
        assert len(beats) == 2
        assert all(path.startswith("/dev/shm/") for path in beats)


def test_counting_in_memory_is_called_out_when_there_are_several_workers(tmp_path: Path) -> None:
    """Every worker counts by itself in memory, so the limits would be multiplied. A warning says so."""
    with served(tmp_path, "--workers", "2") as server:
        assert any("2 WORKERS" in line["detail"] for line in server.wait_for("settings_warning"))
    with served(tmp_path, "--workers", "2", RATE_LIMIT_ENABLED="false") as server:
        server.workers(2)
        assert not any("WORKERS" in line["detail"] for line in server.events("settings_warning"))


def test_a_person_is_told_in_words(tmp_path: Path) -> None:
    """On a terminal the lines are readable text, the workers' lines too."""
    with served(tmp_path, "--workers", "2", LOG_FORMAT="console") as server:
        with server.arrived:
            assert server.arrived.wait_for(lambda: "Ctrl-C" in "".join(server.broken), 60)
        server.send(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert "Listening on http://127.0.0.1:" in "".join(server.broken)
