"""Processes that write to one file at the same time all get their turns."""

from pathlib import Path

import pytest

from nextarget.storage.engines.sqlite import SqliteDatabase
from tests.contract.databases import run_together

GREEDY = """
import sys, time
from nextarget.storage.engines.sqlite import SqliteDatabase, connection

connection.BUSY_TIMEOUT_MS = 3000  # a third of what is given them in earnest
database = SqliteDatabase(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + 6
written = 0
while time.monotonic() < end:
    database.write_now(lambda db: db.execute_sql("UPDATE counter SET written = written + 1"))
    written += 1
print(written)
"""


@pytest.mark.slow
def test_nobody_starves_beside_processes_that_write_without_a_pause(tmp_path: Path) -> None:
    """No process gets an error because the database is locked, and every write counts."""
    path = tmp_path / "nextarget.db"
    database = SqliteDatabase(path)
    database.write_now(lambda db: db.execute_sql("CREATE TABLE counter AS SELECT 0 AS written"))
    written = [int(lines[0]) for lines in run_together(GREEDY, [[str(path)]] * 4)]
    (row,) = database.read_now(lambda db: db.execute_sql("SELECT written FROM counter").fetchall())
    database.close()
    assert all(written)
    assert row == (sum(written),)
