"""The files that the program makes: who may read them, and which folders are safe for them."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nextarget.errors import CopyFailed, UnsafeFile
from nextarget.storage.engines import files
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.files import open_private, place_of, written_beside
from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.upkeep.backup import back_up, name_at, remove_older
from nextarget.storage.upkeep.copying import copy
from nextarget.storage.upkeep.schema import migrate
from tests.contract.rows import admit
from tests.serving import environ_for

STRANGER = 12_345
"""A user id that no user of this machine has."""


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def modes(folder: Path) -> dict[str, int]:
    """The modes of all files below a folder."""
    return {str(path.relative_to(folder)): mode_of(path) for path in folder.rglob("*") if not path.is_dir()}


WORK = """
import asyncio, os, sys
os.umask(int(sys.argv[1], 8))
from pathlib import Path
from nextarget.storage.upkeep.backup import back_up
from nextarget.storage.upkeep.copying import copy
from nextarget.storage.engines.files import written_beside
from nextarget.storage.upkeep.schema import migrate
from nextarget.storage.engines.sqlite import SqliteDatabase

database = SqliteDatabase("nextarget.db")
migrate(database)
database.open()
with database.sole_purger():
    pass
database.write_now(lambda db: db.execute_sql("INSERT INTO nonce VALUES ('a', 'native', 1)"))
copy(database, SqliteDatabase("copy.db"))
whole = database.write_whole_file
def looking(path):
    whole(path)
    print(path.name, oct(path.stat().st_mode & 0o777))
database.write_whole_file = looking
back_up(database, Path("backup.db"))
with written_beside(Path("other.json"), "{}") as part:
    part.rename("other.json")
print("ready", flush=True)
sys.stdin.readline()
database.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("umask", ["0", "022", "0777"])
def test_whatever_the_umask_only_the_owner_can_read_what_we_make(tmp_path: Path, umask: str) -> None:
    """All files have mode 0600: database, write-ahead log, shared memory, locks, a copy, a backup and its temporary
    file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, umask],
        cwd=tmp_path,
        env=environ_for(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        name, mode = process.stdout.readline().split()
        assert (name[:11], mode) == (".backup.db.", "0o600")
        assert process.stdout.readline() == "ready\n"
        found = modes(tmp_path)
    finally:
        process.communicate("\n")
    beside = {f"nextarget.db{end}" for end in ("", "-wal", "-shm", ".lock", ".purge.lock")}
    assert found.keys() >= beside | {"copy.db", "copy.db.lock", "backup.db", "other.json"}
    assert {name: oct(mode) for name, mode in found.items()} == dict.fromkeys(found, "0o600")
    assert process.returncode == 0


def test_what_was_made_wider_is_narrowed_when_it_is_opened(database: SqliteDatabase, path: Path) -> None:
    """Opening a database narrows the modes of its existing files, for example those of an earlier version."""
    with database.migration_lock(), database.sole_purger():
        pass
    wide = [path.with_name(path.name + end) for end in ("", "-wal", "-shm", ".lock", ".purge.lock")]
    for file in wide:
        file.chmod(0o644)
    other = SqliteDatabase(path)
    other.open()
    with other.migration_lock(), other.sole_purger():
        pass
    other.close()
    assert {file.name: oct(mode_of(file)) for file in wide} == dict.fromkeys((file.name for file in wide), "0o600")


def test_nothing_is_widened(path: Path) -> None:
    """Opening a file never adds permissions, so that a read-only file stays read-only."""
    path.write_text("x")
    path.chmod(0o400)
    os.close(open_private(path))
    assert mode_of(path) == 0o400
    path.chmod(0o440)
    os.close(open_private(path))
    assert mode_of(path) == 0o400


def test_a_file_that_cannot_be_narrowed_is_told_of_and_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the mode cannot be changed, a warning is logged and the file is used."""
    told = []

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    class Log:
        warning = staticmethod(lambda event, **facts: told.append((event, facts)))

    path.touch()
    path.chmod(0o644)
    monkeypatch.setattr(files, "log", Log)
    monkeypatch.setattr(os, "chmod", refuse)
    os.close(open_private(path))
    assert told == [
        ("file_open_to_others", {"path": str(path), "mode": "0644", "reason": "Operation not permitted"}),
    ]


def test_opening_a_second_time_takes_no_lock_away(database: SqliteDatabase, path: Path) -> None:
    """SQLite's locks belong to a process and a file. Closing any descriptor of the file drops all of them.

    So after this process has connected again, another process must still find the database in use.
    """
    database.write_now(admit)
    other = SqliteDatabase(path)
    other.open()
    other.close()
    script = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=0); "
        "print(db.execute('PRAGMA journal_mode = DELETE').fetchone())"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert "locked" in done.stderr, done.stdout


Prepare = Callable[[Path], Path]


def open_to_all(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def sticky(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def of_a_group(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o770)
    return folder


def of_a_stranger(folder: Path) -> Path:
    need_root()
    folder.mkdir()
    os.chown(folder, STRANGER, STRANGER)
    return folder


PREPARED = [open_to_all, sticky, of_a_group, of_a_stranger]


@pytest.mark.parametrize("prepare", PREPARED)
@pytest.mark.parametrize("end", ["", ".lock"])
@pytest.mark.parametrize("leads_to", ["a file", "nothing"])
def test_a_link_in_a_folder_that_others_may_write_to_is_not_followed(
    tmp_path: Path, prepare: Prepare, end: str, leads_to: str
) -> None:
    """A link in place of the database or its lock is refused. Its target is neither made nor changed."""
    folder = prepare(tmp_path / "shared")
    victim = tmp_path / "victim"
    if leads_to == "a file":
        victim.write_text("precious")
        victim.chmod(0o644)
    (folder / f"nextarget.db{end}").symlink_to(victim)
    with (
        pytest.raises(UnsafeFile, match="is a link in a folder that others may write to"),
        closing(SqliteDatabase(folder / "nextarget.db")) as made,
    ):
        migrate(made)
    if leads_to == "a file":
        assert (victim.read_text(), mode_of(victim)) == ("precious", 0o644)
    else:
        assert not victim.exists()


@pytest.mark.parametrize("prepare", PREPARED)
def test_a_link_on_the_way_counts_as_one_at_the_end(tmp_path: Path, prepare: Prepare) -> None:
    """A link among the parent folders is refused too, even if a link of ours leads through a folder that others may
    write to."""
    folder = prepare(tmp_path / "shared")
    victim = tmp_path / "victim"
    victim.mkdir()
    (folder / "data").symlink_to(victim)
    (tmp_path / "mine").symlink_to(folder)
    for place in (folder / "data", tmp_path / "mine" / "data", tmp_path / "mine" / ".." / "shared" / "data"):
        with pytest.raises(UnsafeFile, match="is a link in a folder that others may write to"):
            database_at(f"sqlite:///{place}/nextarget.db")
    assert list(victim.iterdir()) == []


def test_links_in_a_folder_of_our_own_are_followed(tmp_path: Path) -> None:
    """A database may be on another disk, behind links of ours. All names of the file share the same locks."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "folder").symlink_to("disk")
    (tmp_path / "nextarget.db").symlink_to(Path("folder", "kept.db"))
    database = SqliteDatabase(tmp_path / "nextarget.db")
    migrate(database)
    database.close()
    assert (tmp_path / "nextarget.db").is_symlink()
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["kept.db", "kept.db.lock"]
    assert place_of(tmp_path / "folder" / ".." / "nextarget.db") == (tmp_path / "disk" / "kept.db").resolve()


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    """The operating system reports links in a circle."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        open_private(tmp_path / "a")


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal", ".lock", ".purge.lock"])
@pytest.mark.parametrize("prepare", [open_to_all, sticky, of_a_group])
def test_a_file_of_somebody_else_is_refused_where_others_may_write(tmp_path: Path, prepare: Prepare, end: str) -> None:
    """The owner of such a file could read and change our data. SQLite would even replay a log that was put there."""
    need_root()
    folder = prepare(tmp_path / "shared")
    path = folder / "nextarget.db"
    with closing(SqliteDatabase(path)) as made:
        migrate(made)
    prepared = folder / f"nextarget.db{end}"
    prepared.touch()
    os.chown(prepared, STRANGER, STRANGER)
    database = SqliteDatabase(path)
    with pytest.raises(UnsafeFile, match="belongs to another user"), database.migration_lock(), database.sole_purger():
        database.open()
    database.close()


@pytest.mark.parametrize("prepare", PREPARED)
def test_a_second_name_of_a_file_of_ours_is_refused_where_others_may_write(tmp_path: Path, prepare: Prepare) -> None:
    """Other users may be able to make hard links to files that they cannot write to (see `fs.protected_hardlinks`)."""
    folder = prepare(tmp_path / "shared")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o644)
    for name in ("nextarget.db", "nextarget.db.lock"):
        (folder / name).hardlink_to(victim)
        with pytest.raises(UnsafeFile, match="second name"), closing(SqliteDatabase(folder / "nextarget.db")) as made:
            migrate(made)
        (folder / name).unlink()
    assert (victim.read_text(), mode_of(victim)) == ("precious", 0o644)


def test_what_is_no_plain_file_is_refused_where_others_may_write(tmp_path: Path) -> None:
    """A pipe or a socket is refused, because opening a pipe would wait for ever."""
    folder = open_to_all(tmp_path / "shared")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    with pytest.raises(UnsafeFile, match="no plain file"):
        open_private(folder / "pipe")
    with pytest.raises(UnsafeFile, match="no plain file"), closing(SqliteDatabase(folder / "socket")) as made:
        migrate(made)


def test_a_folder_that_others_may_write_to_does_when_nothing_was_prepared(tmp_path: Path) -> None:
    """A folder that a group may write to is accepted if nobody put a file or link there."""
    folder = of_a_group(tmp_path / "shared")
    for _ in range(2):
        database = SqliteDatabase(folder / "nextarget.db")
        migrate(database)
        database.open()
        database.close()
    back_up(database, folder / "backup.db")
    assert set(modes(folder).values()) == {0o600}


def test_root_works_on_somebodys_own_folder_and_leaves_nothing_that_they_cannot_use(tmp_path: Path) -> None:
    """Files that root makes belong to the owner of the folder, for example after `sudo nextarget init-db`."""
    folder = of_a_stranger(tmp_path / "theirs")
    for _ in range(2):
        database = SqliteDatabase(folder / "nextarget.db")
        migrate(database)
        database.open()
        with database.sole_purger():
            database.write_now(admit)
        owners = {path.name: path.lstat().st_uid for path in folder.iterdir()}
        database.close()
    assert len(owners) == 5
    assert set(owners.values()) == {STRANGER}


@pytest.mark.parametrize("prepare", PREPARED)
def test_a_backup_is_written_through_no_link(tmp_path: Path, database: SqliteDatabase, prepare: Prepare) -> None:
    """A backup is refused if its name is taken by a link, even by one without a target."""
    folder = prepare(tmp_path / "shared")
    victim = tmp_path / "victim"
    (folder / "backup.db").symlink_to(victim)
    with pytest.raises(CopyFailed, match="exists already"):
        back_up(database, folder / "backup.db")
    (folder / "backups").symlink_to(tmp_path)
    with pytest.raises(UnsafeFile):
        back_up(database, folder / "backups" / "backup.db")
    assert not victim.exists()
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("prepare", PREPARED)
def test_where_a_name_may_be_replaced_a_backup_is_not_written_by_name(
    tmp_path: Path, database: SqliteDatabase, prepare: Prepare
) -> None:
    """SQLite opens its output by name, and others could replace the name with a link. So the backup is written in the
    database's folder first."""
    folder = prepare(tmp_path / "shared")
    written = []
    whole = database.write_whole_file

    def watched(path: Path) -> None:
        written.append(path.parent)
        whole(path)

    database.write_whole_file = watched  # type: ignore[method-assign]
    size = back_up(database, folder / "backup.db")
    assert written == [folder if prepare is sticky else database.path.parent]
    assert modes(folder) == {"backup.db": 0o600}
    assert (folder / "backup.db").stat().st_size == size
    assert not list(tmp_path.glob(".backup*"))
    again = SqliteDatabase(tmp_path / "again.db")
    copy(SqliteDatabase(folder / "backup.db"), again)
    again.close()


def test_names_that_others_made_up_push_no_backup_out(tmp_path: Path, database: SqliteDatabase) -> None:
    """Only files with the same owner are counted and removed. Links are ignored."""
    need_root()
    folder = sticky(tmp_path / "shared")
    times = [datetime(year, 1, 1, tzinfo=UTC) for year in (2026, 2027, 9998, 9999)]
    old, made, theirs, link = (folder / name_at(time) for time in times)
    for path in (old, made, theirs):
        path.touch()
    os.chown(theirs, STRANGER, STRANGER)
    link.symlink_to(made)
    assert remove_older(database, made, keep=2) == []
    assert remove_older(database, made, keep=1) == [old]
    assert theirs.exists()
    assert link.is_symlink()


def test_a_temporary_file_goes_when_nobody_took_it(tmp_path: Path) -> None:
    """A temporary file is deleted if it was not renamed."""
    with written_beside(tmp_path / "a.json", "{}") as part:
        assert (mode_of(part), part.read_text()) == (0o600, "{}")
    assert list(tmp_path.iterdir()) == []
