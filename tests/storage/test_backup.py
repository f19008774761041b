"""Backups: complete, consistent, made during writes, and usable after a restore."""

import sqlite3
import subprocess
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from nextarget.errors import CopyFailed, DatabaseUnavailable
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Database
from nextarget.storage.engines.sqlite import SqliteDatabase
from nextarget.storage.rows import audit
from nextarget.storage.upkeep.backup import back_up, name_at, remove_older
from nextarget.storage.upkeep.copying import copy
from nextarget.storage.upkeep.schema import migrate, pending
from tests.contract.rows import admit, event, identity
from tests.postgres import Cluster, program
from tests.storage.test_copying import fill, rows


@pytest.mark.slow
def test_a_backup_is_as_of_one_moment_while_others_write(database: SqliteDatabase, tmp_path: Path) -> None:
    """A backup contains whole transactions only and blocks no write. Here, two rows are always written together."""
    stop, written = threading.Event(), threading.Event()

    def write() -> None:
        own = SqliteDatabase(database.path)
        while not stop.is_set():
            own.write_now(lambda db: [audit.record(db, event(name)) for name in ("one", "two")])
            written.set()
        own.close()

    database.write_now(lambda db: [audit.record(db, event("x" * 1000)) for _ in range(2000)])
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            written.wait()
            back_up(database, tmp_path / f"{number}.db")
            written.clear()
    finally:
        stop.set()
        writer.join()
    counts = []
    for number in range(5):
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as copied, copied:
            assert copied.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = dict(copied.execute("SELECT event, count(*) FROM audit_event GROUP BY event"))
        copied.close()
        assert found.get("one") == found.get("two")
        counts.append(found.get("one", 0))
    assert counts == sorted(counts)
    assert counts[-1] > 0


def test_a_backup_holds_every_row_and_is_up_to_date(database: SqliteDatabase, tmp_path: Path) -> None:
    """A backup is a normal database, which a server can open."""
    database.write_now(fill)
    size = back_up(database, tmp_path / "backup.db")
    restored = SqliteDatabase(tmp_path / "backup.db")
    assert size == restored.path.stat().st_size
    assert pending(restored) == []
    assert rows(restored) == rows(database)
    restored.close()


def test_what_a_damaged_database_gives_is_not_kept(path: Path, tmp_path: Path) -> None:
    """A damaged database makes the backup fail, so that the damage is noticed before the backup is needed."""
    database = SqliteDatabase(path)
    migrate(database)
    database.write_now(fill)
    database.close()
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"\xa5" * 8192 + whole[middle + 8192 :])
    with pytest.raises(CopyFailed):
        back_up(database, tmp_path / "backup.db")
    assert not list(tmp_path.glob("*backup*"))
    assert not list(tmp_path.glob(".backup*"))


def test_a_backup_that_does_not_pass_its_check_is_not_kept(path: Path, tmp_path: Path) -> None:
    """A backup with an inconsistent row fails its check and is deleted. SQLite had copied the row without checking
    it."""
    migrate(database := SqliteDatabase(path))
    database.close()
    change = "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 'nonce'"
    strict, loose = '"purpose" TEXT NOT NULL', '"purpose" TEXT'
    for old, new, row in ((strict, loose, "digest"), (loose, strict, None)):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute(change, (old, new))
        db.close()
        if row is not None:
            with closing(sqlite3.connect(path)) as db, db:
                db.execute("INSERT INTO nonce VALUES (?, NULL, 1)", (row,))
            db.close()
    with pytest.raises(CopyFailed, match="damaged") as caught:
        back_up(database, tmp_path / "backup.db")
    assert caught.value.note == "NULL value in nonce.purpose"
    assert not list(tmp_path.glob("*backup*"))
    assert not list(tmp_path.glob(".backup*"))


def backups(folder: Path, *times: datetime) -> list[Path]:
    """Files with the names of backups of these times."""
    folder.mkdir(exist_ok=True)
    made = [folder / name_at(time) for time in times]
    for path in made:
        path.write_bytes(b"a backup")
    return made


def test_names_of_backups_sort_by_time_whatever_the_zone() -> None:
    """Names have microseconds in UTC, so that they differ within a second and sort correctly when summer time ends."""
    moment = datetime(2026, 10, 25, 0, 59, 59, 999_999, tzinfo=UTC)
    times = [moment + timedelta(microseconds=step) for step in (-1_000_000, -999_999, -1, 0, 1)]
    names = [name_at(time) for time in times]
    assert names[3] == "nextarget-20261025T005959.999999Z.db"
    assert names[4] == "nextarget-20261025T010000.000000Z.db"
    assert names == sorted(set(names))
    assert [name_at(time.astimezone(timezone(timedelta(hours=2)))) for time in times] == names


def test_the_newest_backups_stay_and_nothing_else_is_removed(database: SqliteDatabase, tmp_path: Path) -> None:
    """Files with another name, folders and the database itself are not removed."""
    day = datetime(2026, 1, 31, 3, 15, tzinfo=UTC)
    folder = tmp_path / "backups"
    made = backups(folder, *(day + timedelta(days=number) for number in range(5)))
    others = [folder / name for name in ("nextarget-2026-01-31.db", "nextarget.db", "other.db", f"{made[0].name}-wal")]
    for path in others:
        path.touch()
    inner = folder / name_at(day - timedelta(days=1))
    inner.mkdir()
    database.path = folder / name_at(day - timedelta(days=2))
    database.path.touch()
    assert remove_older(database, made[-1], keep=3) == [made[1], made[0]]
    assert sorted(folder.iterdir()) == sorted([*made[2:], *others, inner, database.path])
    assert remove_older(database, made[-1], keep=3) == []


def test_the_backup_that_was_just_made_stays_though_its_clock_went_wrong(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    """A backup never removes itself, even if the clock was set back or had been ahead."""
    ahead = datetime(2037, 1, 1, tzinfo=UTC)
    *older, made = backups(tmp_path / "backups", ahead, ahead + timedelta(days=1), datetime(2026, 1, 1, tzinfo=UTC))
    assert remove_older(database, made, keep=2) == older[:1]
    assert remove_older(database, made, keep=1) == older[1:]
    assert made.exists()


def run(name: str, *arguments: object) -> None:
    """Runs one of PostgreSQL's own programs."""
    subprocess.run([str(program(name)), *map(str, arguments)], check=True, capture_output=True, text=True)


@pytest.mark.slow
def test_a_dump_restores_into_a_new_database_with_its_numbering(
    database: SqliteDatabase, postgres: Cluster, postgres_url: str, tmp_path: Path
) -> None:
    """The commands of docs/operate/backup.md restore a dump. New rows get ids after the restored ones."""
    database.write_now(fill)
    source = database_at(postgres_url)
    copy(database, source)
    dump = tmp_path / "nextarget.dump"
    run("pg_dump", "--format=custom", f"--file={dump}", postgres_url)
    source.write_now(audit.record, event("after the dump"))

    port = postgres.port
    run("createdb", "--host=127.0.0.1", f"--port={port}", "--username=postgres", "nextarget_restored")
    url = postgres.url("nextarget_restored")
    restored = database_at(url)
    try:
        run("pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", f"--dbname={url}", dump)
        assert pending(restored) == []
        assert rows(restored) == rows(database)
        restored.write_now(audit.record, event("after the restore"))
        admit_again(restored)
        assert len(rows(restored)["audit_event"]) == len(rows(database)["audit_event"]) + 1
    finally:
        restored.close()
        source.close()
        postgres.drop_database(url)


def admit_again(database: Database) -> None:
    """Constraints were restored too: a person of a provider is still one user."""
    before = len(rows(database)["user"])
    for _ in range(2):
        database.write_now(admit, identity(subject="newcomer"))
    assert len(rows(database)["user"]) == before + 1
    with pytest.raises(Exception, match="session_user_id"):
        database.write_now(lambda db: db.execute_sql("UPDATE session SET user_id = 'nobody'"))


def test_a_write_ahead_log_that_is_left_beside_a_restored_file_is_what_the_readme_warns_of(
    path: Path, tmp_path: Path
) -> None:
    """If the old log is not removed before a restore, it is mixed into the new file. That is why the documented
    commands begin with `rm`."""
    old = SqliteDatabase(path)
    migrate(old)
    back_up(old, tmp_path / "backup.db")
    old.write_now(fill)
    killed = sqlite3.connect(path, isolation_level=None)
    killed.execute("PRAGMA wal_autocheckpoint = 0")
    killed.execute("INSERT INTO nonce VALUES ('left in the log', 'native', 1)")
    log = path.with_name(path.name + "-wal")
    left = log.read_bytes()
    killed.close()
    old.close()

    path.write_bytes((tmp_path / "backup.db").read_bytes())
    log.write_bytes(left)
    mixed = SqliteDatabase(path)
    try:
        found = rows(mixed)
    except DatabaseUnavailable:
        found = None
    mixed.close()

    for leftover in (log, path.with_name(path.name + "-shm")):
        leftover.unlink(missing_ok=True)
    path.write_bytes((tmp_path / "backup.db").read_bytes())
    restored = SqliteDatabase(path)
    clean = rows(restored)
    restored.close()
    assert not any(clean.values())
    assert found != clean
