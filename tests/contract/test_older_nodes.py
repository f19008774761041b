"""Nodes of the version before work beside newer ones, and the newer ones accept the rows that they wrote."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playhouse.migrations import Runner

from nextarget.model import AppRequest, AuthorizationGrant
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, logins, users
from nextarget.storage.upkeep import schema
from nextarget.storage.upkeep.schema import migrate
from tests.contract.databases import Place
from tests.contract.rows import NOW, digest_of, later

SHIPPED = schema._DIRECTORY
USER = "11111111-1111-4111-8111-111111111111"
APP = AppRequest("nextarget-app", "nextarget://callback", "a-challenge", "the app's state")
WROTE = (
    'INSERT INTO "user" ("id", "provider", "subject_digest", "email", "email_verified", "is_active", "created_at") '
    f"VALUES ('{USER}', 'google', 'digest', 'ada@x.example', TRUE, TRUE, {NOW})",
    'INSERT INTO "login" ("id", "state_digest", "provider", "mode", "cookie_digest", "key_id", "created_at", '
    '"expires_at", "client_id", "redirect_uri", "code_challenge", "app_state") '
    f"VALUES ('login', 'state', 'google', 'app', 'cookie', 'key', {NOW}, {later(600_000)}, "
    "'nextarget-app', 'nextarget://callback', 'a-challenge', 'the app''s state')",
    f'UPDATE "login" SET "consumed_at" = {NOW} WHERE "state_digest" = \'state\'',
    f'UPDATE "login" SET "user_id" = \'{USER}\', "code_digest" = \'{digest_of("code")}\', '
    f'"code_expires_at" = {later(60_000)} WHERE "id" = \'login\'',
    'INSERT INTO "audit_event" ("at", "event", "login_id", "request_id", "user_id", "session_id", "detail") '
    f"VALUES ({NOW}, 'login_failed', 'login', NULL, '{USER}', NULL, 'whatever')",
    f'INSERT INTO "nonce" ("digest", "purpose", "expires_at") VALUES (\'nonce\', \'native\', {later(1)})',
)
"""Statements of the version before: a user, a login from its start to its code, a failed login, a nonce."""


def write(db: Connection) -> None:
    for statement in WROTE:
        db.execute_sql(statement)


@pytest.fixture
def older(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database of the version before."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for path in SHIPPED.glob("000[1-3]_*.py"):
        (folder / path.name).write_text(path.read_text())
    monkeypatch.setattr(schema, "_DIRECTORY", folder)
    database = place.connect()
    migrate(database)
    monkeypatch.setattr(schema, "_DIRECTORY", SHIPPED)
    yield database
    database.close()


@pytest.mark.parametrize("before", [True, False], ids=["before the upgrade", "beside a newer node"])
def test_what_an_older_node_writes_is_good_here(older: Database, before: bool) -> None:
    """New columns have defaults. A user of the older node can sign in, its code can be redeemed, and its consumed state
    counts as used."""
    for step in (write, migrate) if before else (migrate, write):
        if step is write:
            older.write_now(write)
        else:
            assert len(migrate(older)) == len(list(SHIPPED.glob("[0-9]*.py"))) - 3
    user = older.read_now(users.get, USER)
    assert user is not None
    assert user.sessions_ended_at == 0
    grant = older.read_now(logins.granted, digest_of("code"))
    assert grant == AuthorizationGrant("login", USER, APP, NOW, later(60_000), None)
    assert user.may_begin(grant.begun_at)
    assert older.write_now(logins.redeem, digest_of("code"), "session")
    assert older.read_now(logins.used_at, "state")
    assert [event.detail for event in older.read_now(audit.latest_of_user, USER)] == ["whatever"]


def test_each_migration_is_harmless_when_it_is_run_again(older: Database) -> None:
    """A migration that was interrupted can run again from its start at the next start of the server."""
    older.write_now(write)
    names = migrate(older)
    with older.schema_changes() as db:
        history = Runner(db, str(SHIPPED)).table_name
        for name in names:
            db.execute_sql(f'DELETE FROM "{history}" WHERE "name" = \'{name}\'')
    assert migrate(older) == names
    assert older.read_now(users.get, USER) is not None
