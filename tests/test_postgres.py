"""The servers that the tests on PostgreSQL use do what a test asks, and leave nothing behind."""

import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.conftest import need_pgbouncer, need_postgres
from tests.postgres import PATIENCE_SECONDS, Cluster, PgBouncer, Replica

ROOT = Path(__file__).parents[1]


def test_every_database_is_new_and_can_be_dropped(postgres: Cluster) -> None:
    """Two tests share a server, but no database."""
    one, other = postgres.create_database(), postgres.create_database()
    with psycopg.connect(one) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.commit()
        with psycopg.connect(other) as elsewhere:
            assert elsewhere.execute("SELECT to_regclass('kept')").fetchone() == (None,)
        postgres.drop_database(one)  # also while a client is connected
    postgres.drop_database(other)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(one)


@pytest.mark.slow
def test_what_was_committed_is_there_after_every_way_to_end(cluster: Cluster) -> None:
    """After a shutdown, an immediate shutdown or a kill, the restarted server has every commit, at the same address."""
    cluster.execute("CREATE TABLE kept (n int)")
    for number, end in enumerate((cluster.stop, lambda: cluster.stop("immediate"), cluster.kill)):
        cluster.execute("INSERT INTO kept VALUES (%s)", number)
        end()
        assert not cluster.running
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(cluster.url("postgres"))
        cluster.start()
    assert cluster.execute("SELECT n FROM kept ORDER BY n") == [(0,), (1,), (2,)]


@pytest.mark.slow
def test_a_frozen_server_answers_nothing_until_it_is_thawed(cluster: Cluster) -> None:
    """The port of a frozen server still accepts connections, so a client waits until its timeout."""
    cluster.freeze()
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        psycopg.connect(cluster.url("postgres"), connect_timeout=2)
    cluster.thaw()
    assert cluster.execute("SELECT 1") == [(1,)]


@pytest.mark.slow
def test_a_replica_that_was_cut_off_lacks_the_last_commits(cluster: Cluster) -> None:
    """Replication is asynchronous: commits after the cut are lost, and the promoted replica accepts writes."""
    cluster.execute("CREATE TABLE kept (n int)")
    with Replica(cluster) as replica:
        cluster.execute("INSERT INTO kept VALUES (1)")
        replica.catch_up()
        replica.cut()
        cluster.execute("INSERT INTO kept VALUES (2)")
        cluster.kill()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            replica.execute("INSERT INTO kept VALUES (3)")
        replica.promote()
        replica.execute("INSERT INTO kept VALUES (3)")
        assert replica.execute("SELECT n FROM kept ORDER BY n") == [(1,), (3,)]


@pytest.mark.slow
def test_pgbouncer_shares_one_connection_among_clients(postgres: Cluster, postgres_url: str) -> None:
    """In transaction mode, two clients use the same server process in turn."""
    need_pgbouncer()
    with PgBouncer(postgres, pool_size=1) as bouncer:
        url = bouncer.in_front_of(postgres_url)
        with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as other:
            pids = [each.execute("SELECT pg_backend_pid()").fetchone() for each in (one, other, one)]
    assert len(set(pids)) == 1


USE_A_SERVER = """
import sys
from tests.postgres import Cluster

with Cluster() as cluster:
    print(cluster.pid, cluster.directory, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_server_does_not_outlive_whoever_started_it() -> None:
    """A PostgreSQL server ends when the process that started it is killed."""
    need_postgres()
    script = [sys.executable, "-c", USE_A_SERVER]
    with subprocess.Popen(script, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        pid, directory = process.stdout.readline().split()
        server = os.pidfd_open(int(pid))
        process.kill()
    try:
        assert select.select([server], [], [], PATIENCE_SECONDS)[0], "it is still running"
    finally:
        os.close(server)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.slow
def test_nothing_is_left_of_a_server() -> None:
    """A killed or frozen server leaves neither its directory nor its shared memory."""
    need_postgres()
    for end in (Cluster.kill, Cluster.freeze):
        with Cluster() as cluster:
            segment = (cluster.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
            end(cluster)
        assert not cluster.directory.exists()
        listing = subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout
        assert segment not in [line.split()[1] for line in listing.splitlines() if line.startswith("0x")]
