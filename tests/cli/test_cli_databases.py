"""`copy-db` and `backup`, as an operator uses them."""

import json
import signal
import sqlite3
import subprocess
from contextlib import closing

import psycopg
import pytest

from nextarget.storage.engines.addresses import database_at
from nextarget.storage.rows import audit
from nextarget.storage.upkeep.schema import migrate
from tests.contract.rows import event

pytestmark = pytest.mark.sqlite_only("moves from and to databases of its own")

TABLES = ["user", "session", "login", "nonce", "audit_event", "signing_key"]


@pytest.fixture
def source(runtime, admit, folder) -> str:
    """The URL of a database with two users and an event."""
    admit("ada@example.org")
    admit("zoë@example.org")
    runtime.database.write_now(audit.record, event())
    runtime.database.close()
    return f"sqlite:///{folder / 'nextarget.db'}"


@pytest.mark.slow
def test_a_copy_prints_each_table_with_its_rows(run, source, postgres_url):
    """Standard output has the data, standard error the messages, and neither has a password."""
    target = postgres_url.replace("//postgres@", "//postgres:hunter2@")
    result = run("copy-db", source, target)
    assert result.status == 0
    lines = [line.split("\t") for line in result.out.splitlines()]
    assert [line[0] for line in lines] == TABLES
    assert dict(lines)["user"] == "2"
    assert "read each of them back" in result.err
    assert "hunter2" not in result.out + result.err
    again = run("copy-db", source, target)
    assert (again.status, again.out) == (1, "")
    assert "has rows already" in again.err
    assert "hunter2" not in again.err


def test_a_copy_tells_all_as_json(run, source, folder):
    """The output is one object, and the target is a new file."""
    result = run("copy-db", source, f"sqlite:///{folder}/copy.db", "--json")
    told = json.loads(result.out)
    assert (told["from"], told["to"]) == (str(folder / "nextarget.db"), str(folder / "copy.db"))
    assert told["rows"]["user"] == 2


@pytest.mark.slow
def test_a_copy_needs_no_settings(execute, source, folder):
    """The command works on two databases without a server, so it does not need the secret."""
    assert execute("copy-db", source, f"sqlite:///{folder}/copy.db", JWT_SECRET_KEY="").status == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sqlite:///", "sqlite:///b.db"), "names no database"),
        (("sqlite:///a.db", "mysql://root:hunter2@localhost/x"), "names no database"),
        (("sqlite:///a.db", "postgresql://root:hunter2@localhost:99999/x"), "is not a URL of PostgreSQL"),
        (("sqlite:///a.db",), "Missing argument 'TO'.\n"),
        ((), "Missing argument 'FROM'.\n"),
    ],
)
def test_what_is_no_url_is_a_usage_error_that_quotes_nothing(run, arguments, said):
    """The status is 2, and the error shows the form of a URL."""
    result = run("copy-db", *arguments)
    assert (result.status, result.out) == (2, "")
    assert said in result.err
    assert "hunter2" not in result.err


def test_a_parameter_that_nobody_knows_is_told_without_the_password(run, source):
    """The client library's own message would quote the whole URL."""
    result = run("copy-db", source, "postgresql://root:hunter2@localhost/x?bogus=1")
    assert result.status != 0
    assert "hunter2" not in result.err


def test_a_failed_copy_is_status_1_with_a_sentence(run, folder):
    """If the source is missing, neither the source nor the target is created."""
    result = run("copy-db", "sqlite:///missing.db", "sqlite:///other.db")
    assert (result.status, result.out) == (1, "")
    assert f"There is no database at {folder / 'missing.db'}" in result.err
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_copy_that_is_killed_can_be_made_again(command, environ, source, postgres_url, run):
    """After a kill the rows of the copy are rolled back, and the next copy starts on an empty database."""
    migrate(database_at(postgres_url))
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$"
        )
        db.execute("CREATE TRIGGER dawdle BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION dawdle()")
        db.execute("SELECT pg_advisory_lock(1)")
        process = subprocess.Popen([*command, "copy-db", source, postgres_url], env=environ)
        stuck = "SELECT FROM pg_locks, pg_sleep(0.01) WHERE locktype = 'advisory' AND NOT granted"
        while not db.execute(stuck).fetchall():
            assert process.poll() is None, "it ended before it came to the events"
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        db.execute("SELECT pg_advisory_unlock(1)")
        db.execute("DROP FUNCTION dawdle CASCADE")  # waits until PostgreSQL has noticed the kill
        assert db.execute('SELECT count(*) FROM "user"').fetchone() == (0,)
    result = run("copy-db", source, postgres_url, "--json")
    assert (result.status, json.loads(result.out)["rows"]["user"]) == (0, 2)


@pytest.mark.slow
def test_a_copy_shows_a_bar_on_a_terminal_and_nowhere_else(at_terminal, source, folder, run):
    """The bar is on standard error, so standard output has only data."""
    terminal = at_terminal("copy-db", source, f"sqlite:///{folder}/one.db", piped=True)
    assert terminal.end() == 0
    assert [line.split(b"\t")[0].decode() for line in terminal.process.stdout] == TABLES
    assert b"Copying" in terminal.shown
    assert b"100%" in terminal.shown
    assert "Copying" not in run("copy-db", source, f"sqlite:///{folder}/two.db").err


def test_a_backup_is_one_whole_file_that_only_its_owner_may_read(run, source, folder):
    """Standard output is for scripts, and stays empty."""
    result = run("backup", "nightly.db")
    assert (result.status, result.out) == (0, "")
    assert "Backed up" in result.err
    made = folder / "nightly.db"
    assert made.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(made)) as db, db:
        assert db.execute('SELECT count(*) FROM "user"').fetchone() == (2,)
    db.close()
    assert {path.name for path in folder.iterdir() if "nightly" in path.name} == {"nightly.db"}


def test_a_backup_tells_all_as_json(run, source, folder):
    """The object has the backup's path and size."""
    told = json.loads(run("backup", "nightly.db", "--json").out)
    size = (folder / "nightly.db").stat().st_size
    database, file = str(folder / "nextarget.db"), str(folder / "nightly.db")
    assert told == {"database": database, "file": file, "bytes": size, "removed": []}


def test_a_backup_into_a_folder_is_named_by_its_time_and_the_newest_are_kept(run, source, folder):
    """The output names the removed backups. Without --keep all backups stay."""
    backups = folder / "backups"
    backups.mkdir()
    first, second, third = [
        json.loads(run("backup", place, "--json").out) for place in ("backups", "backups/", "backups")
    ]
    assert sorted(map(str, backups.iterdir())) == [first["file"], second["file"], third["file"]]
    last = json.loads(run("backup", "backups/", "--keep", "2", "--json").out)
    assert last["removed"] == [second["file"], first["file"]]
    assert sorted(map(str, backups.iterdir())) == [third["file"], last["file"]]
    assert run("backup", "backups", "--keep", "1").err.count("\nRemoved ") == 2
    assert len(list(backups.iterdir())) == 1


def test_a_backup_that_fails_removes_none(run, source, folder):
    """The older backups may be the only ones."""
    (folder / "backups").mkdir()
    assert run("backup", "backups").status == 0
    kept = list((folder / "backups").iterdir())
    (folder / "nextarget.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    result = run("backup", "backups", "--keep", "1")
    assert (result.status, result.out) == (1, "")
    assert "could not be backed up" in result.err
    assert list((folder / "backups").iterdir()) == kept


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("backups.db", "--keep", "2"), 2, "backups.db is not a folder"),
        ((".", "--keep", "0"), 2, "--keep"),
        (("missing/", "--keep", "2"), 1, "No such file or directory"),
        (("missing/",), 1, "No such file or directory"),
    ],
)
@pytest.mark.usefixtures("source")
def test_keeping_wants_a_folder_that_is_there(run, folder, arguments, status, said):
    """If the disk of the folder is not mounted, no backup is written in its place."""
    before = sorted(folder.iterdir())
    result = run("backup", *arguments)
    assert (result.status, result.out) == (status, "")
    assert said in result.err
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
def test_a_backup_needs_no_setting_but_where_the_database_is(execute, source, folder):
    """The server's secrets may be missing, unreadable, or in files that only root may read."""
    (folder / ".env").write_text(
        f"DATABASE_URL={source}\nJWT_SECRET_KEY_FILE=secrets/jwt\nGOOGLE_CLIENT_ID=changeme\nPORT=many\n"
    )
    result = execute("backup", "nightly.db", JWT_SECRET_KEY="")
    assert (result.status, (folder / "nightly.db").exists()) == (0, True), result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dotenv", "said"),
    [
        ("DATABASE_URL=mysql://root:hunter2@localhost/x", "DATABASE_URL: names no database"),
        ("DATABASE_URL_FILE=missing", "DATABASE_URL_FILE: "),
        ("DATABASE_URL sqlite:///nextarget.db", ".env: line 1 is not NAME=value"),
    ],
)
def test_a_backup_never_guesses_where_the_database_is(execute, source, folder, dotenv, said):
    """Only the problem of DATABASE_URL is reported, and the default is not used instead."""
    (folder / ".env").write_text(f"{dotenv}\nPORT=many\n")
    result = execute("backup", "nightly.db", JWT_SECRET_KEY="")
    assert (result.status, result.out) == (78, "")
    assert said in result.err
    assert "1 problem with" in result.err
    assert "hunter2" not in result.err
    assert not (folder / "nightly.db").exists()


@pytest.mark.parametrize("name", ["nextarget.db", "older.db"])
def test_a_backup_replaces_nothing(run, source, folder, name):
    """A backup never overwrites a file, least of all the database."""
    (folder / "older.db").write_text("older")
    before = (folder / name).read_bytes()
    result = run("backup", name)
    assert result.status == 1
    assert "exists already" in result.err
    assert (folder / name).read_bytes() == before


@pytest.mark.parametrize(
    "case",
    [
        ("sqlite:///missing.db", "b.db", "There is no database at"),
        ("sqlite:///nextarget.db", "missing/b.db", "No such file or directory"),
        ("postgresql://127.0.0.1/x", "b.db", "pg_dump"),
        ("sqlite:///damaged.db", "b.db", "could not be backed up"),
    ],
    ids=lambda case: case[2],
)
def test_a_backup_that_cannot_be_made_says_why_and_leaves_nothing(run, source, folder, monkeypatch, case):
    """The exit status is 1, and no file is left behind."""
    url, file, said = case
    (folder / "damaged.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    monkeypatch.setenv("DATABASE_URL", url)
    before = {path.name for path in folder.iterdir()}
    result = run("backup", file)
    assert (result.status, result.out) == (1, "")
    assert said in result.err
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_older_program_refuses_a_newer_database_and_says_what_to_do(execute, source, postgres_url, kind):
    """After a rollback of the program without the backup, neither the server nor a command uses the database."""
    url = source if kind == "sqlite" else postgres_url
    database = database_at(url)
    migrate(database)
    database.write_now(
        lambda db: db.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('9999_later', '2030-01-01')")
    )
    database.close()
    for arguments in (("serve", "--port", "0"), ("init-db",), ("init-db", "--check"), ("list-users",)):
        result = execute(*arguments, DATABASE_URL=url)
        assert (result.status, result.out) == (1, ""), arguments
        assert "migrated by a newer version (9999_later)" in result.err, arguments
        assert "Upgrade this program, or restore the backup" in result.err, arguments
