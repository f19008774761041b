"""Several processes purge one database: they share the work or leave it to one, and block no other work."""

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nextarget.model import AuditEvent, Millis
from nextarget.services import purging
from nextarget.services.sessions import DAY_MS
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, nonces
from nextarget.storage.upkeep import purge
from tests.contract.databases import Place, run_together, start
from tests.contract.rows import HOUR, NOW, add_login, add_session, admit, event, later

OVER = purge.BATCH * 6
LASTING = 100
PROCESSES = 3

BEGIN = """
import asyncio, sys
from nextarget.model import Millis
from nextarget.services import purging
from nextarget.storage.upkeep import purge
from tests.contract.databases import Place

database, now = Place(sys.argv[1]).connect(), Millis(int(sys.argv[2]))
"""
AS_A_SERVER = f"""{BEGIN}
async def main():
    database.open()
    print("ready", flush=True)
    sys.stdin.readline()
    print(await purging.purge_now(database, now=now, audit_days=1))
    database.close()

asyncio.run(main())
"""
AS_A_COMMAND = f"""{BEGIN}
print("ready", flush=True)
sys.stdin.readline()
print(sum(purging.purge_here(database, now=now, audit_days=1)))
database.close()
"""
HOLD_ON = f"""{BEGIN}
def hold(db):
    assert purge.take_turn(db)
    print("ready", flush=True)
    sys.stdin.readline()

with database.sole_purger() as alone:
    assert alone
    database.write_now(hold)
"""


def add_nonces(db: Connection, name: str, number: int, expires_at: Millis) -> None:
    for index in range(number):
        nonces.use(db, f"{name}-{index}", purpose=nonces.NATIVE, expires_at=expires_at)


def left(database: Database) -> dict[str, int]:
    """The number of remaining rows, expired and not expired."""

    def count(db: Connection) -> dict[str, int]:
        rows = db.execute_sql("SELECT digest FROM nonce").fetchall()
        names = [str(digest).partition("-")[0] for (digest,) in rows]
        return {name: names.count(name) for name in set(names)}

    return database.read_now(count)


@pytest.fixture
def filled(database: Database) -> Iterator[Database]:
    """A database with many expired rows."""
    database.write_now(add_nonces, "over", OVER, later(-HOUR - 1))
    database.write_now(add_nonces, "lasting", LASTING, later(-HOUR))
    assert database.read_now(purging.due, now=NOW, audit_days=1) == OVER
    return database


@pytest.mark.slow
def test_servers_leave_a_purge_to_one_of_them(filled: Database, place: Place) -> None:
    """All expired rows are deleted once, and no others. In PostgreSQL another server may take over between two batches,
    because the lock that lasts longer than a transaction belongs to a session."""
    outputs = run_together(AS_A_SERVER, [[place.url, str(NOW)]] * PROCESSES)
    counts = sorted(int(count) for (count,) in outputs)
    assert sum(counts) == OVER
    assert left(filled) == {"lasting": LASTING}
    if place.url.startswith("sqlite:"):
        assert counts[:-1] == [0] * (PROCESSES - 1)


@pytest.mark.slow
def test_commands_purge_together_while_others_write(filled: Database, place: Place) -> None:
    """Several purge commands all succeed while another process writes. Nobody gets an error because of a lock."""
    over, written = threading.Event(), []

    def write() -> None:
        other = place.connect()
        while not over.wait(0.002):  # in SQLite, a writer without pauses leaves the others too little time
            other.write_now(add_nonces, f"written{len(written)}", 1, later(0))
            written.append(1)
        other.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        outputs = run_together(AS_A_COMMAND, [[place.url, str(NOW)]] * PROCESSES)
    finally:
        over.set()
        writer.join()
    assert sum(int(count) for (count,) in outputs) == OVER
    remaining = left(filled)
    assert remaining.pop("lasting") == LASTING
    assert sum(remaining.values()) == len(written) > 0


@pytest.mark.slow
async def test_a_purge_that_crashed_is_in_nobodys_way(filled: Database, place: Place) -> None:
    """While a process purges, others do not. After it was killed, they can purge."""
    with start(HOLD_ON, place.url, str(NOW)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        assert await purging.purge_now(filled, now=NOW, audit_days=1) == 0
        assert left(filled)["over"] == OVER
        holder.kill()
    async with asyncio.timeout(60):
        while "over" in left(filled):
            await purging.purge_now(filled, now=NOW, audit_days=1)
    assert left(filled) == {"lasting": LASTING}


@pytest.mark.parametrize(("audit_days", "kept"), [(365, 7), (7, 7), (3, 3)])
def test_what_strangers_did_is_kept_for_a_week(database: Database, audit_days: int, kept: int) -> None:
    """Events without a user are kept for at most a week, or for less if other events are kept for less. No row is
    counted twice."""
    for days in range(10):
        for name in ("login_failed", "login_succeeded"):
            database.write_now(audit.record, AuditEvent(Millis(NOW - days * DAY_MS), name))
    over = 9 - kept + max(0, 9 - audit_days)
    assert database.read_now(purging.due, now=NOW, audit_days=audit_days) == over
    assert database.write_now(purging.one_batch, now=NOW, audit_days=audit_days) == over
    assert database.read_now(purging.due, now=NOW, audit_days=audit_days) == 0


def test_a_batch_is_found_by_an_index_where_most_rows_are_expired(database: Database, place: Place) -> None:
    """PostgreSQL would read such a table from its beginning, and in every batch again all that it has deleted."""

    def fill(db: Connection) -> None:
        user = admit(db)
        for number in range(1000):
            add_nonces(db, f"over{number}", 1, NOW)
            add_login(db, str(number))
            add_session(db, user)
            audit.record(db, event("user_deleted", user_id=None))
            audit.record(db, event("login_failed", user_id=None))

    def plan(db: Connection, expired: Any) -> str:
        sql, values = db.get_sql_context().sql(purge._oldest(db, expired, purge.BATCH)).query()
        explain = "EXPLAIN" if db.for_update else "EXPLAIN QUERY PLAN"
        rows = db.execute_sql(f"{explain} {sql}", values).fetchall()
        return "\n".join(str(row[-1]) for row in rows)

    database.write_now(fill)
    database.write_now(lambda db: db.execute_sql("ANALYZE"))
    for expired in purge._expired(purging._limits(later(400 * DAY_MS), 365)):
        told = database.write_now(plan, expired)
        assert re.search("index", told, re.IGNORECASE), told
        assert not re.search("Seq Scan|Sort|SCAN|TEMP B-TREE", told), told
