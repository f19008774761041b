"""What commands say of a database file that cannot be used: what is wrong with it, and never only to try again."""

import json
from collections.abc import Iterator
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
    """Something else under the database's name."""
    path = folder / "nextarget.db"
    path.write_text("Dear aunt, thank you for the socks. " * 1000)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("command", [*READING, *WRITING], ids=" ".join)
def test_a_file_that_is_no_database_is_called_that(run, secret, letter, command):
    """By every command that opens it, with what to do."""
    result = run(*command)
    assert result.status == 1
    assert f"{letter} is not an SQLite database" in result.err
    assert "Try again in a little while" not in result.err
    assert letter.read_text().startswith("Dear aunt")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_server_starts_on_a_file_that_is_no_database(execute, secret, letter, workers):
    """Its log says why, in one line at error level."""
    result = execute("serve", "--port", "0", "--workers", workers)
    assert result.status == 1
    failed = json.loads(result.err.splitlines()[-1])
    assert (failed["event"], failed["level"]) == ("cannot_serve", "error")
    assert f"{letter} is not an SQLite database" in failed["detail"]
    assert "DATABASE_URL" in failed["detail"]


def test_check_config_finds_a_file_that_is_no_database(run, secret, letter):
    """What serve would stumble over is a problem with the setting that names it."""
    result = run("check-config", "--json")
    assert result.status == 78
    (problem,) = json.loads(result.out)["problems"]
    assert problem["setting"] == "DATABASE_URL"
    assert problem["problem"] == f"{letter} is not an SQLite database, or damaged from its beginning on."
    assert "put the newest backup in its place" in problem["remedy"]


def test_check_config_finds_a_folder_that_is_not_there(run, secret, monkeypatch):
    """SQLite makes files, and no folders."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:////nowhere/at/all/x.db")
    result = run("check-config")
    assert result.status == 78
    assert "DATABASE_URL: /nowhere/at/all/x.db cannot be opened." in result.err


def test_check_config_makes_no_database(run, secret, folder):
    """Where there is none yet and there can be one, nothing is wrong, and there is still none."""
    assert run("check-config").status == 0
    assert list(folder.iterdir()) == []


@pytest.fixture
def read_only(run, secret, tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A database with a user, on a disk that was mounted anew for reading alone."""
    with small_disk(tmp_path / "disk") as disk:
        path = disk.folder / "nextarget.db"
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")
        assert run("init-db").status == 0
        assert run("issue-token", "--email", "ada@example.org", "--provider", "google", "--create").status == 0
        disk.make_read_only()
        yield path


@pytest.mark.parametrize("command", [("list-users",), *WRITING], ids=" ".join)
def test_a_file_that_cannot_be_written_to_is_called_that(run, read_only, command):
    """SQLite makes files beside it, so that it cannot even be read on a disk that is mounted read-only."""
    result = run(*command)
    assert result.status == 1
    assert f"{read_only} cannot be written to: it is read-only." in result.err
    assert "Try again in a little while" not in result.err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_server_starts_on_a_file_that_cannot_be_written_to(execute, read_only, workers):
    """Nobody could sign in there."""
    result = execute("serve", "--port", "0", "--workers", workers, DATABASE_URL=f"sqlite:///{read_only}")
    assert result.status == 1
    failed = json.loads(result.err.splitlines()[-1])
    assert f"{read_only} cannot be written to: it is read-only." in failed["detail"]


def test_check_config_finds_a_file_that_cannot_be_written_to(run, read_only):
    """As a container whose volume is mounted read-only."""
    result = run("check-config")
    assert result.status == 78
    assert f"DATABASE_URL: {read_only} cannot be written to: it is read-only." in result.err


def test_a_full_disk_is_called_that_on_the_terminal(run, secret, tmp_path: Path, monkeypatch):
    """Also while a database is being made."""
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{disk.folder / 'nextarget.db'}")
        disk.fill(up_to=64 * 1024)
        result = run("init-db")
    assert result.status == 1
    assert "disk is full" in result.err
    assert "Try again in a little while" not in result.err
    assert "rollback" not in result.err
