"""Real PostgreSQL servers, replicas and PgBouncers for a test, in temporary directories and on free ports.

PostgreSQL refuses to run as root, so as root everything here runs as Debian's user `postgres`. The tests use the
machine's PostgreSQL programs, but not its servers.
"""

import os
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from pwd import getpwnam
from shutil import chown, which
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from nextarget.storage.engines.addresses import database_at
from nextarget.storage.upkeep.schema import migrate
from tests.running import free_port

OWNER = "postgres"
PATIENCE_SECONDS = 60
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",  # the kernel keeps what a killed process wrote; only a power cut would need fsync
    "dynamic_shared_memory_type": "mmap",  # files in the data directory: a kill leaves nothing in /dev/shm
}
_SHAPE = """
    SELECT md5(string_agg(line, ' ' ORDER BY line)) FROM (
        SELECT format('%s.%s %s', attrelid::regclass, attname, atttypid) AS line
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT rulename FROM pg_rules WHERE schemaname = 'public'
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT setconfig::text FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
            WHERE datname = current_database()
        UNION ALL SELECT string_agg(name, ' ' ORDER BY name) FROM schema_migration
    ) AS shape
"""
"""A digest of everything in a database that a test may change, except the rows."""
_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_TRUNCATE = """
    DO $$ BEGIN EXECUTE (
        SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') || ' RESTART IDENTITY'
        FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migration'
    ); END $$
"""
_LAUNCHER = ThreadPoolExecutor(1)
"""The kernel sends a process its parent-death signal when the thread that started it ends. This thread lives as long
as the test run."""


def program(name: str) -> str | None:
    """The path of one of PostgreSQL's programs. Debian keeps those of the newest version off the PATH."""
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(packaged[-1]) if packaged else which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")


def able(*programs: str) -> bool:
    """Whether these programs are installed, and the user exists that they must run as."""
    with suppress(KeyError):
        if os.geteuid() == 0:
            getpwnam(OWNER)
        return all(program(name) for name in (*programs, "setpriv"))
    return False


def name_of(url: str) -> str:
    """The database that a URL names."""
    return urlsplit(url).path[1:]


def as_owner(name: str, *arguments: object) -> list[str]:
    """The command line that runs a program as a user that is not root, and ends it when this process ends."""
    user = ["--reuid", OWNER, "--regid", OWNER, "--init-groups"] if os.geteuid() == 0 else []
    # For PostgreSQL this signal means an immediate shutdown. PgBouncer ends with any signal.
    return ["setpriv", *user, "--pdeathsig", "QUIT", "--", str(program(name)), *map(str, arguments)]


class Daemon:
    """A server process in its own directory, whose log is read. A test starts and stops it."""

    def __init__(self, directory: Path | None = None) -> None:
        self._stack = ExitStack()
        # Not pytest's temporary directory: pytest keeps it, and only its owner may enter it.
        self.directory = directory or Path(self._stack.enter_context(TemporaryDirectory(prefix="nextarget-")))
        if os.geteuid() == 0:
            chown(self.directory, OWNER, OWNER)
        self.port = free_port()
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prepare(self) -> None:
        """Do what is necessary once, before the first start."""

    def start(self) -> None:
        """Start the server, and return once it accepts clients."""
        raise NotImplementedError

    def stop(self) -> None:
        """Shut down in order, but without waiting for clients."""
        self._end(signal.SIGTERM)

    def close(self) -> None:
        """End the process, if it runs, and remove its directory."""
        self._end(signal.SIGQUIT)
        self._stack.close()

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        return self._process.pid

    def run(self, name: str, *arguments: object) -> None:
        """Run a program to its end."""
        done = subprocess.run(
            as_owner(name, *arguments),
            cwd=self.directory, env=self._environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def said(self, pattern: str, *, since: int = 0) -> None:
        """Wait until a line of the log, at or after line `since`, matches."""

        def found() -> bool:
            return self._process is None or any(re.search(pattern, line) for line in self.lines[since:])

        with self._said:
            in_time = self._said.wait_for(found, PATIENCE_SECONDS)
        assert in_time, f"never said {pattern!r}: {self.lines[since:]}"
        assert self._process is not None, f"ended before it said {pattern!r}: {self.lines[since:]}"

    def _launch(self, command: Sequence[str], ready: str) -> None:
        assert self._process is None, "it is running already"
        since = len(self.lines)
        self._process = _LAUNCHER.submit(
            subprocess.Popen[str],
            command, cwd=self.directory, env=self._environment(), text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ).result()  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        self.said(ready, since=since)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with self._said:
                    self.lines.append(line.rstrip("\n"))
                    self._said.notify_all()
        process.wait()
        with self._said:  # the process has ended, perhaps by itself: wake the threads that wait for a line
            self._process = None
            self._said.notify_all()

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            self._reader.join()

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


class Cluster(Daemon):
    """A PostgreSQL server with its own databases. Every user of this machine may connect, as `postgres`.

    `settings` are settings of postgresql.conf, by name. They win over SETTINGS above.
    """

    def __init__(self, directory: Path | None = None, **settings: str) -> None:
        super().__init__(directory)
        self.data = self.directory / "data"
        self.settings = SETTINGS | settings
        self._template: str | None = None
        self._shape = ""
        self._idle: list[str] = []

    def prepare(self) -> None:
        self.run(
            "initdb", "-D", self.data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"
        )

    def start(self) -> None:
        options = [part for name, text in self.settings.items() for part in ("-c", f"{name}={text}")]
        command = as_owner("postgres", "-D", self.data, "-p", self.port, *options)
        self._launch(command, "ready to accept (read-only )?connections")

    def stop(self, mode: str = "fast") -> None:
        """Shut down in a mode of pg_ctl: `fast` ends sessions in order; after `immediate`, the next start recovers."""
        self._end({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Send SIGKILL to all server processes at once: unwritten data is lost, and clients get no message."""
        self.freeze()
        for pid in self._children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        segment = (self.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
        self._end(signal.SIGKILL)
        subprocess.run(["ipcrm", "-m", segment], check=False, capture_output=True)

    def freeze(self) -> None:
        """Send SIGSTOP to all server processes: connections stay open, but get no answer."""
        os.kill(self.pid, signal.SIGSTOP)
        for pid in self._children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in (*self._children(), self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def close(self) -> None:
        if self.running:
            self.thaw()
        super().close()

    def url(self, database: str) -> str:
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{database}"

    def create_database(self, *, migrated: bool = False) -> str:
        """Create a database and return its URL. A migrated one is copied from a template, made at the first call."""
        name = f"test_{secrets.token_hex(8)}"
        template = self._migrated() if migrated else "template1"
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def _migrated(self) -> str:
        if self._template is None:
            database = database_at(url := self.create_database())
            migrate(database)
            database.close()
            self._template = name_of(url)
            ((self._shape,),) = self.execute(_SHAPE, database=self._template)
        return self._template

    def lend_database(self) -> str:
        """Return the URL of a migrated database without rows. The caller gives it back with `take_back`."""
        return self._idle.pop() if self._idle else self.create_database(migrated=True)

    def take_back(self, url: str) -> None:
        """End all connections to a lent database and empty it; drop it if more than its rows has changed."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_END_OTHERS)
            if connection.execute(_SHAPE).fetchall() == [(self._shape,)]:
                connection.execute(_TRUNCATE)
                self._idle.append(url)
                return
        self.drop_database(url)

    def drop_database(self, url: str) -> None:
        """Drop the database of a URL, and end its connections."""
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name_of(url))))

    def wait_until(self, condition: str) -> None:
        """Return once a condition in SQL is true. The server itself waits, for at most PATIENCE_SECONDS."""
        limit = f"SET statement_timeout = '{PATIENCE_SECONDS}s'"
        step = "PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot()"
        self.execute(f"{limit}; DO $$ BEGIN WHILE NOT ({condition}) LOOP {step}; END LOOP; END $$")

    def execute(
        self, statement: str | sql.Composed, *parameters: object, database: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Execute one statement outside a transaction, on a new connection. Return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []


class Replica(Cluster):
    """A streaming replica of a running Cluster. It is asynchronous, and readable while it follows."""

    def __init__(self, primary: Cluster, directory: Path | None = None, **settings: str) -> None:
        super().__init__(directory, **settings)
        self.primary = primary

    def prepare(self) -> None:
        # -R makes the copy follow its primary. The primary gets its settings as arguments, so the copy inherits none.
        source = self.primary.url("postgres")
        self.run("pg_basebackup", "-D", self.data, "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync")

    def catch_up(self) -> None:
        """Wait until this replica can read everything that the primary has committed by now."""
        ((position,),) = self.primary.execute("SELECT pg_current_wal_flush_lsn()::text")
        self.wait_until(f"pg_last_wal_replay_lsn() >= '{position}'::pg_lsn")

    def cut(self) -> None:
        """Stop following: later commits of the primary never arrive here."""
        since = len(self.lines)
        self.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.execute("SELECT pg_reload_conf()")
        self.said("terminating walreceiver", since=since)

    def promote(self) -> None:
        """Become a primary. Returns once this server accepts writes."""
        assert self.execute(f"SELECT pg_promote(true, {PATIENCE_SECONDS})") == [(True,)]


class PgBouncer(Daemon):
    """PgBouncer in front of a Cluster, in transaction mode: all clients share `pool_size` connections."""

    def __init__(self, cluster: Cluster, *, pool_size: int, directory: Path | None = None, **settings: str) -> None:
        super().__init__(directory)
        self.cluster = cluster
        self.settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": str(pool_size),
            "max_client_conn": "500",
        } | settings

    def prepare(self) -> None:
        lines = [
            "[databases]",
            f"* = host=127.0.0.1 port={self.cluster.port} user={OWNER}",
            "[pgbouncer]",
            *(f"{name} = {text}" for name, text in self.settings.items()),
        ]
        (self.directory / "pgbouncer.ini").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        self._launch(as_owner("pgbouncer", "pgbouncer.ini"), "process up")

    def url(self, database: str) -> str:
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{database}"

    def in_front_of(self, url: str) -> str:
        """The URL of the same database through this PgBouncer."""
        return self.url(name_of(url))
