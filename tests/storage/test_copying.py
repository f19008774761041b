"""A copy of a database has every row, as of one moment, in an empty target. A copy that fails leaves no row. It works
from SQLite to PostgreSQL and back."""

import hashlib
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee as pw
import psycopg
import pytest

from nextarget.errors import CopyFailed
from nextarget.model import AuditEvent, Generations, Login, LoginMode, Millis, Provider
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, logins, nonces, sessions, signing_keys
from nextarget.storage.rows.sessions import Move
from nextarget.storage.rows.tables import TABLES
from nextarget.storage.rows.users import set_active
from nextarget.storage.upkeep import copying
from nextarget.storage.upkeep.copying import BATCH, copy
from nextarget.storage.upkeep.schema import migrate
from tests.conftest import need_pgbouncer
from tests.contract.rows import (
    NOW,
    active,
    add_code,
    add_login,
    add_session,
    admit,
    digest_of,
    event,
    identity,
    later,
)
from tests.postgres import Cluster, PgBouncer
from tests.templates import put_migrated

EMAILS = (
    "ada@lovelace.example",
    "Ada@Lovelace.example",
    "zoë@müller.example",
    "用户@例子.广告",
    "o'brien+tag@x.example",
    '"quoted \\" local"@x.example',
    '%_\'; DROP TABLE "user"; --@x.example',
    "\U0001f984\u202e@x.example",
    "x" * 240 + "@x.example",
    "tab\tand\nnewline@x.example",
)
MANY = 2 * BATCH + 7
"""More than two pages of rows, with a last page that is not full."""

BEGUN_BY_EARLIER_VERSION = """
INSERT INTO "login" ("id", "state_digest", "provider", "mode", "cookie_digest", "key_id", "created_at", "expires_at")
VALUES ('earlier', 'digest', 'google', 'redirect', 'digest', 'key', 1, 2)
"""


def fill(db: Connection) -> None:
    """Rows of every kind. Every column that may be empty is empty in some rows and filled in others."""
    users = [admit(db, identity(subject=str(number), email=email)) for number, email in enumerate(EMAILS)]
    users.append(admit(db, identity(subject="nobody", email=None)))
    set_active(db, users[3].id, active=False)
    for user in users:
        session = add_session(db, user, label="Ada's phone \U0001f4f1" if user is users[0] else None)
        for current in range(2, 5):
            found = active(db, session.id, NOW)
            if found is not None:
                generations = Generations(
                    current - 1, current, current, current - 2, later(current), later(current + 1)
                )
                sessions.swap(db, Move(found[0], generations, later(current * 1000)))
    sessions.revoke_all(db, users[1].id, NOW)
    for number in range(MANY):
        add_login(db, f"state {number}", user_id=users[0].id)
    at_account_page = Login("page", digest_of("page"), Provider("google"), LoginMode.ACCOUNT, NOW, later(1000))
    logins.use(db, at_account_page, user_id=users[0].id, now=NOW)
    begun = add_code(db, "code", expires_at=later(60_000))
    logins.redeem(db, digest_of("code"), "one")
    db.execute_sql(BEGUN_BY_EARLIER_VERSION)
    nonces.use(db, digest_of("nonce"), purpose=nonces.NATIVE, expires_at=later(1000))
    for number in range(MANY):
        audit.record(db, event(f"event {number}", at=Millis(NOW - number), user_id=users[number % len(users)].id))
    audit.record(
        db,
        AuditEvent(
            NOW,
            "all",
            login_id=begun.id,
            request_id="request",
            user_id=users[0].id,
            session_id="session",
            detail="detail: é",
        ),
    )
    audit.record(db, AuditEvent(Millis(-1), "nothing"))
    signing_keys.remember(db, "a private key's thumbprint", now=NOW)


def rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of a database, sorted by Python."""
    return {
        table._meta.table_name: sorted(
            database.read_now(lambda db, table=table: list(table.select().tuples().execute(db))), key=repr
        )
        for table in TABLES
    }


def checksums(path: Path) -> dict[str, str]:
    """The checksums of the database's file and of its log. A missing log counts as an empty one."""
    files = (path, path.with_name(path.name + "-wal"))
    return {file.name: hashlib.sha256(file.read_bytes() if file.exists() else b"").hexdigest() for file in files}


@pytest.fixture
def source_path(tmp_path: Path) -> Path:
    return tmp_path / "source.db"


@pytest.fixture
def source(source_path: Path) -> Iterator[Database]:
    """A SQLite database with every kind of row."""
    put_migrated(source_path)
    database = database_at(f"sqlite:///{source_path}")
    database.write_now(fill)
    yield database
    database.close()


@pytest.fixture
def target(postgres_url: str) -> Iterator[Database]:
    """An empty PostgreSQL database, not migrated."""
    database = database_at(postgres_url)
    yield database
    database.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    """A SQLite file that does not exist yet."""
    database = database_at(f"sqlite:///{tmp_path / 'other.db'}")
    yield database
    database.close()


def test_every_row_arrives_with_every_value_and_comes_back_the_same(
    source: Database, target: Database, other: Database
) -> None:
    """All values survive a copy from SQLite to PostgreSQL and from there to another SQLite file."""
    before = rows(source)
    counts = {name: len(found) for name, found in before.items()}
    assert min(counts.values()) > 0
    assert len({len(EMAILS) + 1, *counts.values()}) > 2
    assert copy(source, target) == counts
    assert rows(target) == before
    assert copy(target, other) == counts
    assert rows(other) == before == rows(source)


def test_new_events_are_numbered_behind_those_that_were_copied(source: Database, target: Database) -> None:
    """The sequence in PostgreSQL continues after the ids of the copied rows."""
    copy(source, target)
    newest = max(row[0] for row in rows(source)["audit_event"])
    target.write_now(audit.record, event("afterwards"))
    assert rows(target)["audit_event"][-1][0] > 0
    assert max(row[0] for row in rows(target)["audit_event"]) == newest + 1


def test_an_empty_database_is_copied_too(other: Database, target: Database, tmp_path: Path) -> None:
    """A database without rows can be copied."""
    migrate(other)
    assert set(copy(other, target).values()) == {0}
    target.write_now(audit.record, event("first"))
    assert [row[0] for row in rows(target)["audit_event"]] == [1]


def test_the_file_of_the_source_stays_as_it_is_even_after_a_crash(
    source: Database, source_path: Path, target: Database
) -> None:
    """Rows in the write-ahead log of a killed server are copied. The source files do not change."""
    source.close()
    writer = sqlite3.connect(source_path, isolation_level=None)
    writer.execute("INSERT INTO nonce VALUES ('only in the log', 'native', 1)")
    crashed = source_path.with_name("crashed.db")
    for beside in ("", "-wal"):
        shutil.copy(f"{source_path}{beside}", f"{crashed}{beside}")
    writer.close()
    before = checksums(crashed)
    assert before["crashed.db-wal"] != hashlib.sha256(b"").hexdigest()
    found = database_at(f"sqlite:///{crashed}")
    copy(found, target)
    found.close()
    assert checksums(crashed) == before
    assert "only in the log" in {row[0] for row in rows(target)["nonce"]}


def test_what_is_written_while_it_copies_is_not_in_it(
    source: Database, source_path: Path, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are of one moment, even if the source changes during the copy."""
    before = rows(source)
    insert = copying._insert
    writer = sqlite3.connect(source_path, isolation_level=None, timeout=30)

    def insert_late(db: pw.Database, table: type[pw.Model], page: list[Any]) -> None:
        writer.execute("INSERT INTO nonce VALUES (hex(randomblob(16)), 'native', 1)")
        writer.execute("DELETE FROM audit_event WHERE id = (SELECT MAX(id) FROM audit_event)")
        insert(db, table, page)

    monkeypatch.setattr(copying, "_insert", insert_late)
    copy(source, target)
    writer.close()
    assert rows(target) == before != rows(source)


def test_the_same_holds_while_postgresql_is_copied(
    source: Database, target: Database, other: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL is read in one transaction, so its rows are of one moment too."""
    copy(source, target)
    before = rows(target)
    insert = copying._insert
    with psycopg.connect(postgres_url, autocommit=True) as writer:

        def insert_late(db: pw.Database, table: type[pw.Model], page: list[Any]) -> None:
            writer.execute("DELETE FROM audit_event WHERE id = (SELECT MAX(id) FROM audit_event)")
            insert(db, table, page)

        monkeypatch.setattr(copying, "_insert", insert_late)
        copy(target, other)
    assert rows(other) == before != rows(target)


def test_a_target_with_rows_is_refused_and_stays_as_it_is(source: Database, target: Database) -> None:
    """A target with rows is refused, for example when a copy is repeated, so that two deployments are not mixed."""
    copy(source, target)
    before = rows(target)
    with pytest.raises(CopyFailed, match="has rows already"):
        copy(source, target)
    assert rows(target) == before


def test_two_copies_at_once_make_one(source: Database, target: Database, postgres_url: str) -> None:
    """The second copy waits for the first one, and then fails because the target has rows."""
    migrate(target)
    outcomes: list[object] = []

    def run() -> None:
        one, two = database_at(f"sqlite:///{source.path}"), database_at(postgres_url)
        try:
            outcomes.append(copy(one, two))
        except CopyFailed as error:
            outcomes.append(error)
        finally:
            one.close()
            two.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (failed,) = (outcome for outcome in outcomes if isinstance(outcome, CopyFailed))
    assert len(outcomes) == 2
    assert "has rows already" in failed.detail
    assert rows(target) == rows(source)


@pytest.mark.parametrize(
    "table",
    ["session", *(pytest.param(table, marks=pytest.mark.slow) for table in ("user", "login", "nonce", "audit_event"))],
)
def test_a_row_that_reads_back_otherwise_undoes_everything(
    source: Database, target: Database, postgres_url: str, table: str
) -> None:
    """A copied row that differs from its source, here because of a trigger in the target, undoes the whole copy."""
    migrate(target)
    text = {"user": "email", "session": "client_id", "login": "mode", "nonce": "purpose", "audit_event": "event"}[table]
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN NEW.{text} := upper(NEW.{text}); RETURN NEW; END $$"
        )
        db.execute(f'CREATE TRIGGER meddle BEFORE INSERT ON "{table}" FOR EACH ROW EXECUTE FUNCTION meddle()')
    with pytest.raises(CopyFailed, match=f"did not give back the rows of {table}"):
        copy(source, target)
    assert not any(rows(target).values())
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute("DROP FUNCTION meddle CASCADE")
    copy(source, target)
    assert rows(target) == rows(source)


def test_a_row_that_is_lost_on_the_way_undoes_everything(source: Database, target: Database, postgres_url: str) -> None:
    """A copy with a missing row is undone, because rows are counted."""
    migrate(target)
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute("CREATE RULE lose AS ON INSERT TO nonce DO INSTEAD NOTHING")
    with pytest.raises(CopyFailed, match="did not give back the rows of nonce"):
        copy(source, target)
    assert not any(rows(target).values())


def test_a_source_that_breaks_its_own_rules_is_told_without_quoting_a_row(
    source: Database, source_path: Path, target: Database
) -> None:
    """SQLite's shell does not enforce foreign keys by default, so a session may have no user. The error names the table
    and quotes no value."""
    with closing(sqlite3.connect(source_path)) as db, db:
        (user_id, email) = db.execute('SELECT id, email FROM "user" LIMIT 1').fetchone()
        db.execute('DELETE FROM "user" WHERE id = ?', (user_id,))
    db.close()
    with pytest.raises(CopyFailed, match="A row of session breaks a rule") as caught:
        copy(source, target)
    said = f"{caught.value.detail} {caught.value.note}"
    assert "foreign key" in said
    assert user_id not in said
    assert email not in said
    assert not any(rows(target).values())


def test_a_nul_becomes_the_replacement_character_in_postgresql(
    source: Database, source_path: Path, target: Database
) -> None:
    """PostgreSQL's text cannot contain a NUL, so it is replaced, as in any write of the server."""
    with closing(sqlite3.connect(source_path)) as db, db:
        db.execute("UPDATE session SET label = 'a' || char(0) || 'b'")
    db.close()
    copy(source, target)
    assert {row[3] for row in rows(target)["session"]} == {"a\ufffdb"}


def test_a_source_with_pending_migrations_is_refused(
    source: Database, source_path: Path, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source with pending migrations is refused, because a migration would change it."""
    with closing(sqlite3.connect(source_path)) as db, db:
        db.execute("DELETE FROM schema_migration WHERE name LIKE '0002%'")
    db.close()
    before = checksums(source_path)
    with pytest.raises(CopyFailed, match="lacks 1 migration") as caught:
        copy(source, target)
    assert str(source) in caught.value.detail
    assert checksums(source_path) == before


@pytest.mark.parametrize("newer", ["source", "target"])
def test_a_database_of_a_newer_version_is_refused_by_name(source: Database, target: Database, newer: str) -> None:
    """A source or target of a newer version is refused, because this program does not know its tables."""
    migrate(target)
    database = {"source": source, "target": target}[newer]
    database.write_now(
        lambda db: db.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('9999_later', '2030-01-01')")
    )
    with pytest.raises(CopyFailed, match="migrated by a newer version \\(9999_later\\)") as caught:
        copy(source, target)
    assert str(database) in caught.value.detail
    assert not any(rows(target).values())


def test_a_database_is_not_copied_into_itself(source: Database, tmp_path: Path) -> None:
    """The same database as source and target is an error."""
    with pytest.raises(CopyFailed, match="into itself"):
        copy(source, source)


def test_a_source_that_does_not_exist_is_not_made(other: Database, target: Database) -> None:
    """A wrong path gives an error and leaves no empty file behind."""
    with pytest.raises(CopyFailed, match="There is no database at"):
        copy(other, target)
    assert not other.exists()


def test_each_error_names_the_database_it_is_about(source: Database, other: Database, tmp_path: Path) -> None:
    """The error says which of the two databases cannot be used."""
    nobody = database_at("postgresql://127.0.0.1:9/nextarget")
    with pytest.raises(CopyFailed, match=r"127\.0\.0\.1:9/nextarget cannot be used"):
        copy(source, nobody)
    with pytest.raises(CopyFailed, match=r"127\.0\.0\.1:9/nextarget cannot be used"):
        copy(nobody, other)
    unwritable = database_at(f"sqlite:///{tmp_path / 'missing' / 'folder.db'}")
    with pytest.raises(CopyFailed, match=r"folder\.db cannot be opened"):
        copy(source, unwritable)


def test_a_source_that_fails_half_way_is_named_and_leaves_the_target_empty(
    source: Database, source_path: Path, target: Database
) -> None:
    """A source with invalid UTF-8, which SQLite stores without checking, fails the copy. The target stays empty."""
    with closing(sqlite3.connect(source_path)) as db, db:
        db.execute("UPDATE nonce SET purpose = CAST(x'ff' AS TEXT)")
    db.close()
    with pytest.raises(CopyFailed, match=r"source\.db cannot be read"):
        copy(source, target)
    assert not any(rows(target).values())


@pytest.mark.slow
def test_a_server_that_goes_away_half_way_is_named(
    source: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After PostgreSQL was killed during a copy and restarted, the target is empty, and a new copy succeeds."""
    insert = copying._insert
    with Cluster() as cluster:
        target = database_at(cluster.create_database())

        def kill_first(db: pw.Database, table: type[pw.Model], page: list[Any]) -> None:
            insert(db, table, page)
            if table._meta.table_name == "login":
                cluster.kill()

        monkeypatch.setattr(copying, "_insert", kill_first)
        with pytest.raises(CopyFailed, match=f"127.0.0.1:{cluster.port}/test_.* cannot be used"):
            copy(source, target)
        monkeypatch.undo()
        cluster.start()
        assert not any(rows(target).values())
        copy(source, target)
        assert rows(target) == rows(source)
        target.close()


@pytest.mark.slow
def test_postgresql_is_copied_from_and_into_through_a_pooler(
    source: Database, target: Database, other: Database, postgres: Cluster, postgres_url: str
) -> None:
    """A copy is one transaction, which works through PgBouncer. Only migrating needs PostgreSQL's own address."""
    need_pgbouncer()
    with PgBouncer(postgres, pool_size=1) as bouncer:
        pooled = database_at(bouncer.url(postgres_url.rpartition("/")[2]))
        with pytest.raises(CopyFailed, match="is behind a connection pooler"):
            copy(source, pooled)
        migrate(target)
        copy(source, pooled)
        assert rows(target) == rows(source)
        copy(pooled, other)
        assert rows(other) == rows(source)
        pooled.close()


def test_progress_counts_every_row_twice_and_ends_at_its_end(source: Database, other: Database) -> None:
    """Every row counts twice: when it is written and when it is read back."""
    seen: list[tuple[int, int]] = []
    counts = copy(source, other, progress=lambda done, total: seen.append((done, total)))
    total = 2 * sum(counts.values())
    assert {one[1] for one in seen} == {total}
    assert [one[0] for one in seen] == sorted({one[0] for one in seen})
    assert seen[-1] == (total, total)


def test_what_is_copied_here_has_every_column_empty_and_filled(source: Database) -> None:
    """The rows of these tests fill every column, and leave every optional column empty at least once."""
    found = rows(source)
    assert {row[3] for row in found["login"]} == set(LoginMode)
    for table in TABLES:
        name = table._meta.table_name
        for field, column in zip(table._meta.sorted_fields, zip(*found[name], strict=True), strict=True):
            assert {value is None for value in column} == ({True, False} if field.null else {False}), field
