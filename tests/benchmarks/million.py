"""Compares the cost with a million users and with a thousand: a profile, a start, the list of users, purging.

`python -m tests.benchmarks.million [--users N] [--database URL --small-database URL]`
"""

import argparse
import os
import subprocess
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from nextarget.model import Millis, Session
from nextarget.runtime import Runtime, utc_now
from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.database import Connection
from nextarget.storage.rows import sessions as store
from nextarget.storage.rows.tables import LoginTable, UserTable
from nextarget.storage.upkeep.schema import migrate
from nextarget.tokens.encoding import digest
from nextarget.tokens.refresh import NEW_SESSION
from tests.benchmarks.load import ask_each, get_request
from tests.benchmarks.servers import (
    NEXTARGET,
    ROOT,
    ServerProcess,
    free_port,
    production_settings,
    production_values,
    real_server,
)

SAMPLE = 2000
"""The number of users, spread over all users, whose profiles are read."""
ROUNDS = 21
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """A database with a number of users, and the requests for the profiles of some users."""

    directory: Path
    values: dict[str, str]
    requests: list[bytes]


def main() -> None:
    options = _options()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        places = {
            count: _furnished(Path(name) / str(count), count, url)
            for count, url in ((1000, options.small_database), (options.users, options.database))
        }
        print(f"{'':<34}" + "".join(f"{f'{count:,} users':>18}" for count in places))
        _row("size of the file", [_size(place) for place in places.values()])
        servers: list[ServerProcess] = []
        starts = []
        for place in places.values():
            began = time.monotonic()
            servers.append(stack.enter_context(real_server(place.directory, place.values)))
            starts.append(f"{time.monotonic() - began:.2f} s")
        _row("start, until it answers", starts)
        costs = [[_profiles(*each) for each in zip(servers, places.values(), strict=True)] for _ in range(ROUNDS)]
        _row("GET /users/me, CPU", [f"{median(column):.0f} us" for column in zip(*costs, strict=True)])
        _row("  as a multiple (budget 1.2)", ["1", f"{median(large / small for small, large in costs):.2f}"])
        _row("memory of the server", [f"{server.resident_mib():.1f} MiB" for server in servers])
        stack.close()
        for command in (["list-users", "--json"], ["purge"]):
            _row(f"nextarget {' '.join(command)}", [_command(place, command) for place in places.values()])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.million", description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000, help="beside a thousand (%(default)s)")
    parser.add_argument("--database", metavar="URL", help="an empty PostgreSQL database for them")
    parser.add_argument("--small-database", metavar="URL", help="an empty PostgreSQL database for the thousand")
    return parser.parse_args()


def _furnished(directory: Path, count: int, url: str | None) -> Place:
    """A database with users, a session for every user, and as many expired logins."""
    directory.mkdir()
    port = free_port()
    values = production_values(directory, port, database_url=url)
    runtime = Runtime(production_settings(directory, values))
    migrate(runtime.database)
    requests = []
    for first in range(0, count, BATCH):
        sessions = runtime.database.write_now(_add, range(first, min(first + BATCH, count)))
        now = runtime.clock()
        for session in sessions[:: max(1, count // SAMPLE)]:
            token = runtime.sessions.access_token(session, now).token
            requests.append(get_request(port, "/users/me", {"Authorization": f"Bearer {token}"}))
    runtime.database.close()
    return Place(directory, values, requests)


def _add(db: Connection, numbers: range) -> list[Session]:
    """Add a user, a session and an expired login for every number."""
    now = utc_now()
    over, later = Millis(now - 2 * DAY_MS), Millis(now + 30 * DAY_MS)
    users = [
        {
            "id": str(uuid.uuid4()),
            "provider": "google",
            "subject_digest": digest(f"google:{number}"),
            "email": f"user{number}@example.org",
            "email_verified": True,
            "is_active": True,
            "created_at": over,
        }
        for number in numbers
    ]
    sessions = [
        Session(str(uuid.uuid4()), user["id"], "nextarget-app", None, now, later, None, NEW_SESSION) for user in users
    ]
    logins = [
        {
            "id": session.id,
            "state_digest": digest(session.id),
            "provider": "google",
            "mode": "app",
            "key_id": "key",
            "created_at": over,
            "expires_at": over,
        }
        for session in sessions
    ]
    UserTable.insert_many(users).execute(db)
    LoginTable.insert_many(logins).execute(db)
    for session in sessions:
        store.add(db, session)
    return sessions


def _profiles(server: ServerProcess, place: Place) -> float:
    """The server's CPU time for one profile, in microseconds. Every user of the sample is read once."""
    before = server.cpu_seconds()
    ask_each(server.port, place.requests)
    return (server.cpu_seconds() - before) / len(place.requests) * 1e6


def _command(place: Place, command: list[str]) -> str:
    """The CPU time and the largest memory of a command."""
    process = subprocess.Popen(
        [*NEXTARGET, *command],
        cwd=place.directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | place.values,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"nextarget {' '.join(command)} failed.")
    return f"{usage.ru_utime + usage.ru_stime:.1f} s, {usage.ru_maxrss / 1024:.0f} MiB"


def _size(place: Place) -> str:
    file = place.directory / "nextarget.db"
    return f"{file.stat().st_size / 2**20:.1f} MiB" if file.exists() else ""


def _row(name: str, cells: list[str]) -> None:
    print(f"{name:<34}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
