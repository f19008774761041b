"""Errors of commands about a database file that cannot be used: they name the cause, not only to try again."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.disks import small_disk

pytestmark = pytest.mark.sqlite_only("files are SQLite's")

READING = [
    ("list-users",), ("show-user", "ada@example.org"), ("init-db",), ("init-db", "--check"), ("purge",),
    ("backup", "copy.db"), ("copy-db", "sqlite:///nextarget.db", "sqlite:///other.db"),
]  # fmt: skip
WRITING = [
    ("issue-token", "--email", "ada@example.org", "--provider", "google", "--create"),
    ("deactivate-user", "ada@example.org"), ("activate-user", "ada@example.org"),
    ("revoke-sessions", "ada@example.org"), ("delete-user", "--yes", "ada@example.org"), ("purge",),
]  # fmt: skip


@pytest.fixture
def letter(folder: Path) -> Path:
    """A text file with the database's name."""
    path = folder / "nextarget.db"
    path.write_text("Dear aunt, thank you for the socks. " * 1000)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("command", [*READING, *WRITING], ids=" ".join)
def test_a_file_that_is_no_database_is_called_that(run, secret, letter, command):
    """Every command that opens the file says so, and says what to do."""
    result = run(*command)
    assert result.status == 1
    assert f"{letter} is not an SQLite database" in result.err
    assert "Try again in a little while" not in result.err
    assert letter.read_text().startswith("Dear aunt")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_server_starts_on_a_file_that_is_no_database(execute, secret, letter, workers):
    """The log has the reason in one line at level error."""
    result = execute("serve", "--port", "0", "--workers", workers)
    assert result.status == 1
    failed = json.loads(result.err.splitlines()[-1])
    assert (failed["event"], failed["level"]) == ("cannot_serve", "error")
    assert f"{letter} is not an SQLite database" in failed["detail"]
    assert "DATABASE_URL" in failed["detail"]


def test_check_config_finds_a_file_that_is_no_database(run, secret, letter):
    """check-config reports what would stop serve, as a problem of DATABASE_URL."""
    result = run("check-config", "--json")
    assert result.status == 78
    (problem,) = json.loads(result.out)["problems"]
    assert problem["setting"] == "DATABASE_URL"
    assert problem["problem"] == f"{letter} is not an SQLite database, or damaged from its beginning on."
    assert "put the newest backup in its place" in problem["remedy"]


def test_check_config_finds_a_folder_that_is_not_there(run, secret, monkeypatch):
    """SQLite creates a file, but no folder."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:////nowhere/at/all/x.db")
    result = run("check-config")
    assert result.status == 78
    assert "DATABASE_URL: /nowhere/at/all/x.db cannot be opened." in result.err


def test_check_config_makes_no_database(run, secret, folder):
    """If the database does not exist yet but can be created, there is no problem, and none is created."""
    assert run("check-config").status == 0
    assert list(folder.iterdir()) == []


@pytest.fixture
def read_only(run, secret, tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A database with a user, on a disk that was remounted read-only."""
    with small_disk(tmp_path / "disk") as disk:
        path = disk.folder / "nextarget.db"
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")
        assert run("init-db").status == 0
        assert run("issue-token", "--email", "ada@example.org", "--provider", "google", "--create").status == 0
        disk.make_read_only()
        yield path


@pytest.mark.parametrize("command", [("list-users",), *WRITING], ids=" ".join)
def test_a_file_that_cannot_be_written_to_is_called_that(run, read_only, command):
    """SQLite needs other files beside the database, so on a read-only disk it cannot even read it."""
    result = run(*command)
    assert result.status == 1
    assert f"{read_only} cannot be written to: it is read-only." in result.err
    assert "Try again in a little while" not in result.err


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_server_starts_on_a_file_that_cannot_be_written_to(execute, read_only, workers):
    """No one could sign in on such a server."""
    result = execute("serve", "--port", "0", "--workers", workers, DATABASE_URL=f"sqlite:///{read_only}")
    assert result.status == 1
    failed = json.loads(result.err.splitlines()[-1])
    assert f"{read_only} cannot be written to: it is read-only." in failed["detail"]


def test_check_config_finds_a_file_that_cannot_be_written_to(run, read_only):
    """A container may have its volume mounted read-only."""
    result = run("check-config")
    assert result.status == 78
    assert f"DATABASE_URL: {read_only} cannot be written to: it is read-only." in result.err


def test_a_full_disk_is_called_that_on_the_terminal(run, secret, tmp_path: Path, monkeypatch):
    """This also holds while a database is being created."""
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{disk.folder / 'nextarget.db'}")
        disk.fill(up_to=64 * 1024)
        result = run("init-db")
    assert result.status == 1
    assert "disk is full" in result.err
    assert "Try again in a little while" not in result.err
    assert "rollback" not in result.err


@pytest.fixture
def full(run, secret, tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A database with a user, on a full disk. No server has the database open."""
    with small_disk(tmp_path / "disk") as disk:
        path = disk.folder / "nextarget.db"
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")
        assert run("init-db").status == 0
        assert run("issue-token", "--email", "ada@example.org", "--provider", "google", "--create").status == 0
        disk.fill()
        yield path


@pytest.mark.parametrize("command", [("list-users",), ("init-db",), ("init-db", "--check"), *WRITING], ids=" ".join)
def test_a_database_on_a_full_disk_is_called_that(run, full, command):
    """SQLite has no room for a file that it needs to read, and reports an I/O error. The message says that the disk
    is full."""
    result = run(*command)
    assert result.status == 1
    assert f"{full} cannot be written to: its disk is full. Make room" in result.err
    assert "SQLITE_" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_server_starts_on_a_full_disk(execute, full, workers):
    """The log says to make room."""
    result = execute("serve", "--port", "0", "--workers", workers, DATABASE_URL=f"sqlite:///{full}")
    assert result.status == 1
    failed = json.loads(result.err.splitlines()[-1])
    assert f"{full} cannot be written to: its disk is full. Make room" in failed["detail"]


@pytest.mark.parametrize("live", [(), ("--live",)], ids=["", "live"])
def test_check_config_finds_a_full_disk(run, full, live):
    """check-config reports the same as `serve`."""
    result = run("check-config", *live)
    assert result.status == 78
    assert f"DATABASE_URL: {full} cannot be written to: its disk is full. Make room" in result.err


def test_a_database_on_a_full_disk_is_no_source(run, full, folder):
    """A backup and a copy name the full disk of the source, although the target has room."""
    for command in (("backup", str(folder / "b.db")), ("copy-db", f"sqlite:///{full}", f"sqlite:///{folder}/c.db")):
        result = run(*command)
        assert (result.status, result.out) == (1, "")
        assert f"{full} cannot be written to: its disk is full. Make room" in result.err
    assert not (folder / "b.db").exists()


@pytest.mark.parametrize("room", [0, 64 * 1024])
def test_a_full_disk_is_no_target(run, secret, folder, tmp_path, room):
    """A backup and a copy name the target's disk, whether it has no room or too little."""
    assert run("init-db").status == 0
    with small_disk(tmp_path / "disk") as disk:
        disk.fill(up_to=room)
        backup = run("backup", str(disk.folder / "b.db"))
        copy = run("copy-db", f"sqlite:///{folder}/nextarget.db", f"sqlite:///{disk.folder}/c.db")
        assert not list(disk.folder.glob("*b.db*"))
    assert backup.status == copy.status == 1
    assert f"could not be backed up to {disk.folder / 'b.db'}." in backup.err
    assert f"{disk.folder} cannot be written to: its disk is full. Make room" in backup.err
    assert f"{disk.folder / 'c.db'} cannot be written to: its disk is full. Make room" in copy.err


def test_a_database_that_cannot_be_opened_where_it_is_read_only_is_no_source(run, read_only, folder):
    """SQLite cannot create its files beside the database. The error names the source and the remedy."""
    for command in (
        ("backup", str(folder / "b.db")),
        ("copy-db", f"sqlite:///{read_only}", f"sqlite:///{folder}/c.db"),
    ):
        result = run(*command)
        assert result.status == 1
        assert f"{read_only} cannot be written to: it is read-only. Let the user" in result.err


def test_a_folder_that_is_read_only_is_no_target_of_a_backup(run, read_only, folder, monkeypatch):
    """The error names the folder, and not the temporary file."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{folder}/own.db")
    assert run("init-db").status == 0
    result = run("backup", str(read_only.parent / "b.db"))
    assert result.status == 1
    assert f"{read_only.parent} cannot be written to: it is read-only." in result.err
    assert ".b.db." not in result.err


def test_a_backup_does_not_need_to_write_beside_the_database(run, secret, folder, tmp_path, monkeypatch):
    """If other users may write to the target's folder, the backup is first written beside the database, or to the
    folder for temporary files if that is read-only."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/disk/nextarget.db")
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with small_disk(tmp_path / "disk") as disk:
        assert run("init-db").status == 0
        with closing(sqlite3.connect(disk.folder / "nextarget.db")) as db, db:
            db.execute("PRAGMA journal_mode = delete")  # so that SQLite can read it on a read-only disk
        db.close()
        disk.make_read_only()
        result = run("backup", str(shared / "b.db"))
    assert result.status == 0, result.err
    assert [path.name for path in shared.iterdir()] == ["b.db"]


@pytest.mark.parametrize(("arguments", "named"), [(("letter.db", "new.db"), "FROM"), (("old.db", "letter.db"), "TO")])
@pytest.mark.usefixtures("secret")
def test_a_copy_names_its_arguments_and_no_setting(run, folder, letter, arguments, named):
    """copy-db does not use DATABASE_URL, so the error names its argument."""
    letter.rename(folder / "letter.db")
    assert run("init-db").status == 0
    (folder / "nextarget.db").rename(folder / "old.db")
    result = run("copy-db", *(f"sqlite:///{folder}/{name}" for name in arguments))
    assert result.status == 1
    assert f"{folder}/letter.db is not an SQLite database" in result.err
    assert f"Let {named} name another file" in result.err
    assert "DATABASE_URL" not in result.err


@pytest.mark.slow
def test_a_database_of_another_program_is_called_that_by_every_command(run, execute, secret, folder):
    """All commands report the same as `serve`, and the file does not change."""
    path = folder / "nextarget.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE user (a)")
    db.close()
    before = path.read_bytes()
    said = f"{path} has tables of another program (user). Name a database of its own."
    for command in (("list-users",), ("init-db",), ("init-db", "--check"), ("purge",), ("serve", "--port", "0")):
        result = execute(*command)
        assert (result.status, said in result.err) == (1, True), command
    for live in ((), ("--live",)):
        result = run("check-config", *live)
        assert result.status == 78
        assert f"DATABASE_URL: {said}" in result.err
    for arguments in (("nextarget.db", "new.db"), ("nextarget.db", "nextarget2.db")):
        assert said in run("copy-db", *(f"sqlite:///{folder}/{name}" for name in arguments)).err
    assert path.read_bytes() == before


def test_check_config_finds_a_database_of_a_newer_version(run, secret, folder):
    """check-config reports the same as `serve`."""
    assert run("init-db").status == 0
    with closing(sqlite3.connect(folder / "nextarget.db")) as db, db:
        db.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_later', '2030-01-01')")
    db.close()
    result = run("check-config")
    assert result.status == 78
    assert "migrated by a newer version (9999_later). Upgrade this program" in result.err
