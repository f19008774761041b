"""The commands of the page about backups that need no service manager: dumping PostgreSQL, and moving to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.documents import blocks, run
from tests.postgres import Cluster, program

pytestmark = pytest.mark.slow

HOST = "db.example.org"
"""The database's host on the page. In the tests it is a server of their own."""
CHAPTER = "Backup and restore"
MAKE_USER = ("issue-token", "--email", "ada@example.org", "--provider", "google", "--create", "--allow-production")


@pytest.fixture
def server(cluster: Cluster) -> Cluster:
    """A PostgreSQL server with the page's user and an empty database of that user."""
    cluster.execute("CREATE ROLE nextarget LOGIN CREATEDB")
    cluster.execute("CREATE DATABASE nextarget OWNER nextarget")
    return cluster


def environ_for(server: Cluster, folder: Path) -> dict[str, str]:
    """The variables of an operator whose PATH has `nextarget` and PostgreSQL's programs."""
    (folder / "bin").mkdir(exist_ok=True)
    command = folder / "bin/nextarget"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nextarget "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    programs = Path(str(program("pg_dump"))).parent
    return {
        "PATH": f"{folder}/bin:{programs}:{os.environ['PATH']}",
        "PGPORT": str(server.port),
        "HOME": str(folder),
        "JWT_SECRET_KEY": "a secret of forty characters for the tests only",
        "ENVIRONMENT": "development",
    }


def nextarget(*arguments: str, folder: Path, environ: dict[str, str], database: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nextarget", *arguments],
        cwd=folder, env=environ | {"DATABASE_URL": database}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dump_of_postgresql_becomes_a_database_with_the_same_users(server: Cluster, tmp_path: Path) -> None:
    """The page's `pg_dump`, `createdb` and `pg_restore` fit together."""
    environ = environ_for(server, tmp_path)
    url = f"postgresql://nextarget@127.0.0.1:{server.port}/nextarget"
    nextarget("init-db", folder=tmp_path, environ=environ, database=url)
    nextarget(*MAKE_USER, folder=tmp_path, environ=environ, database=url)
    run(blocks(CHAPTER, "pg_dump --format=custom --file").replace(HOST, "127.0.0.1"), tmp_path, environment=environ)
    assert server.execute('SELECT email FROM "user"', database="nextarget_restored") == [("ada@example.org",)]


def test_a_sqlite_file_is_copied_into_postgresql(server: Cluster, tmp_path: Path) -> None:
    """The page's `copy-db` moves the users."""
    environ = environ_for(server, tmp_path)
    file = f"sqlite:///{tmp_path}/nextarget.db"
    nextarget("init-db", folder=tmp_path, environ=environ, database=file)
    nextarget(*MAKE_USER, folder=tmp_path, environ=environ, database=file)
    command = blocks(CHAPTER, "copy-db").replace(HOST, "127.0.0.1").replace("/var/lib/nextarget", str(tmp_path))
    run(command, tmp_path, environment=environ)
    assert server.execute('SELECT email FROM "user"', database="nextarget") == [("ada@example.org",)]
