"""A long run of logins and refreshes. After every two thousand logins a day passes, and expired rows are purged.

The server's memory and the database's size must stop growing once as many logins expire a day as begin.

`python -m tests.benchmarks --long` includes it. Alone: `python -m tests.benchmarks.soak [--logins N]`
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import uvloop

from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Connection
from tests.benchmarks.rows import Row, show
from tests.benchmarks.servers import NEXTARGET, ServerProcess, environment_of
from tests.nodes import Node, service
from tests.running import Browser

LOGINS = 100_000
PLACE = "SQLite, one worker"
CLIENTS = 8
BY_DAY = 2000
SETTINGS = {"REFRESH_TOKEN_EXP_DAYS": "1", "AUDIT_RETENTION_DAYS": "1"}
AGED = {
    "login": ("created_at", "expires_at", "consumed_at", "code_expires_at"),
    "session": ("created_at", "expires_at", "revoked_at", "rotated_at", "recovered_at"),
    "nonce": ("expires_at",),
    "audit_event": ("at",),
}
"""The columns with times. To let a day pass, the program moves them back."""


BUDGET = 1.02
"""No growth, except for the accuracy of the measurement."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", description=__doc__)
    parser.add_argument("--logins", type=int, default=LOGINS, help="each followed by a refresh (%(default)s)")
    for row in rows(parser.parse_args().logins):
        show(row)


def rows(logins: int = LOGINS) -> list[Row]:
    days = uvloop.run(_soak(logins))
    early = days[max(len(days) // 5, 1)]  # the database's log grows until it was once as long as it will be
    unit = f"x after {early.logins:,}"
    return [
        Row.of(
            f"{name} after {logins:,} logins",
            unit,
            [last / first],
            place=PLACE,
            measured=f"{last:.1f} MiB",
            budget=BUDGET,
        )
        for name, first, last in (
            ("memory", early.memory, days[-1].memory),
            ("size of the database", early.size, days[-1].size),
        )
    ]


@dataclass(frozen=True, slots=True)
class Day:
    """What there is after a number of logins: memory and size of the database in MiB."""

    logins: int
    memory: float
    size: float


async def _soak(logins: int) -> list[Day]:
    days = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with service(directory, **SETTINGS) as nodes:
            node = await nodes.start()
            assert node.process is not None
            server = ServerProcess(node.process.pid, node.port)
            database = database_at(nodes.settings["DATABASE_URL"])
            for done in range(0, logins + 1, BY_DAY):
                if done:
                    await asyncio.gather(*(_client(node, BY_DAY // CLIENTS) for _ in range(CLIENTS)))
                    node.lines.clear()
                    database.write_now(_age)
                    _purge(directory, nodes.settings)
                days.append(Day(done, server.resident_mib(), _size(directory)))
                print(f"{days[-1]}", file=sys.stderr, flush=True)
            database.close()
    return days


async def _client(node: Node, logins: int) -> None:
    for number in range(logins):
        await _login(node, "google" if number % 2 else "facebook")


async def _login(browser: Browser, provider: str) -> None:
    """Sign in, and refresh once."""
    answer = await browser.sign_in(provider)
    assert answer.status == 200, answer.text
    form = {"grant_type": "refresh_token", "refresh_token": answer.json["refresh_token"]}
    answer = await browser.ask("POST", "/auth/token", data=form)
    assert answer.status == 200, answer.text


def _age(db: Connection) -> None:
    for table, columns in AGED.items():
        moved = ", ".join(f'"{column}" = "{column}" - {2 * DAY_MS}' for column in columns)
        db.execute_sql(f'UPDATE "{table}" SET {moved}')


def _purge(directory: Path, settings: dict[str, str]) -> None:
    subprocess.run(
        [*NEXTARGET, "purge"],
        cwd=directory, env=environment_of(settings), check=True, capture_output=True,
    )  # fmt: skip


def _size(directory: Path) -> float:
    """The size of the database file and its write-ahead log, in MiB."""
    return sum(file.stat().st_size for file in directory.glob("*.db*") if file.exists()) / 2**20


if __name__ == "__main__":
    main()
