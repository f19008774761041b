"""The columns that were added for the rule of refreshing: sessions are kept, and older nodes work beside newer ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nextarget.errors import SchemaError
from nextarget.model import Generations, Millis
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import sessions
from nextarget.storage.rows.sessions import Move
from nextarget.storage.upkeep import schema
from nextarget.storage.upkeep.schema import migrate
from tests.contract.databases import Place
from tests.contract.rows import HOUR, NOW, later

SHIPPED = schema._DIRECTORY
ADDED = "0004_refresh_floor"
USER = "u0000000-0000-4000-8000-000000000000"
BEFORE = {
    "new": (0, 1, 1, 0),
    "used once": (1, 2, 2, NOW),
    "used often": (41, 42, 42, NOW),
    "answer lost": (41, 42, 45, NOW),
    "first answer lost": (0, 1, 3, NOW),
}
"""`previous`, `oldest`, `current` and `rotated_at` in rows of the version before."""
AFTER = {
    "new": Generations(0, 1, 1, floor=0, rotated_at=Millis(0), recovered_at=Millis(0)),
    "used once": Generations(1, 2, 2, floor=0, rotated_at=NOW, recovered_at=Millis(0)),
    "used often": Generations(41, 42, 42, floor=40, rotated_at=NOW, recovered_at=Millis(0)),
    "answer lost": Generations(41, 42, 45, floor=40, rotated_at=NOW, recovered_at=NOW),
    "first answer lost": Generations(0, 1, 3, floor=0, rotated_at=NOW, recovered_at=NOW),
}
Ships = Callable[..., None]


@pytest.fixture
def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ships:
    """Makes the program ship its migrations up to a number. `ending` is added to the last one."""

    def ship(upto: str, ending: str = "") -> None:
        folder = tmp_path / f"migrations {upto} {len(ending)}"
        folder.mkdir()
        for path in SHIPPED.glob("[0-9]*.py"):
            if path.stem <= upto:
                (folder / path.name).write_text(path.read_text() + (ending if path.stem == upto else ""))
        monkeypatch.setattr(schema, "_DIRECTORY", folder)

    return ship


@pytest.fixture
def older(place: Place, ships: Ships) -> Iterator[Database]:
    """A database of the version before, with one session in every state."""
    ships("0003_by_id")
    database = place.connect()
    migrate(database)
    database.write_now(_fill)
    yield database
    database.close()


def _fill(db: Connection) -> None:
    db.execute_sql(f"INSERT INTO \"user\" VALUES ('{USER}', 'google', 'digest', 'ada@x.example', true, true, {NOW})")
    for name, state in BEFORE.items():
        _begin(db, name, state)


def _begin(db: Connection, name: str, state: tuple[int, ...]) -> None:
    """Inserts a session as the version before does."""
    columns = '"id", "user_id", "client_id", "label", "created_at", "expires_at", "revoked_at", '
    generations = '"previous", "oldest", "current", "rotated_at"'
    values = f"'{name}', '{USER}', 'app', '{name}', {NOW}, {later(HOUR)}, NULL"
    db.execute_sql(f'INSERT INTO "session" ({columns}{generations}) VALUES ({values}, {", ".join(map(str, state))})')


def found(database: Database) -> dict[str, Generations]:
    return {session.id: session.generations for session in database.read_now(sessions.of_user, USER)}


def facts(database: Database) -> list[tuple[Any, ...]]:
    columns = '"id", "user_id", "client_id", "label", "created_at", "expires_at", "revoked_at"'
    return database.read_now(lambda db: db.execute_sql(f'SELECT {columns} FROM "session" ORDER BY "id"').fetchall())


def test_every_session_is_kept_and_goes_on_as_it_was(older: Database, ships: Ships) -> None:
    """Sessions keep all their values. The new columns get values that fit the session's generations."""
    before = facts(older)
    ships(ADDED)
    assert migrate(older) == [ADDED]
    assert found(older) == AFTER
    assert facts(older) == before


def test_the_migration_can_be_run_again(older: Database, ships: Ships) -> None:
    """A second run, after sessions were refreshed under the new rule, changes no session."""
    ships(ADDED)
    migrate(older)
    state = Generations(2, 3, 5, floor=1, rotated_at=NOW, recovered_at=later(1))
    (session,) = [each for each in older.read_now(sessions.of_user, USER) if each.id == "used once"]
    assert older.write_now(sessions.swap, Move(session, state, session.expires_at))
    older.write_now(lambda db: db.execute_sql(f"DELETE FROM schema_migration WHERE name = '{ADDED}'"))
    assert migrate(older) == [ADDED]
    assert found(older) == AFTER | {"used once": state}


def test_an_interrupted_migration_leaves_everything_as_it_was(older: Database, ships: Ships) -> None:
    """An interrupted migration is rolled back completely. A later run succeeds."""
    before = facts(older)
    ships(ADDED, ending='    db.execute_sql("NOT SQL")\n')
    with pytest.raises(SchemaError, match="is as it was"):
        migrate(older)
    assert facts(older) == before
    columns = older.read_now(lambda db: {column.name for column in db.get_columns("session")})
    assert not columns & {"floor", "recovered_at"}
    ships(ADDED)
    assert migrate(older) == [ADDED]
    assert found(older) == AFTER


def test_an_older_node_goes_on_beside_a_newer_one(older: Database, ships: Ships) -> None:
    """An older node begins and refreshes sessions without the two new columns."""
    ships(ADDED)
    migrate(older)
    older.write_now(_begin, "later", BEFORE["new"])
    moved = 'UPDATE "session" SET "previous" = 42, "oldest" = 43, "current" = 43, "rotated_at" = '
    condition = f"""WHERE "id" = 'used often' AND "previous" = 41 AND "current" = 42 AND "rotated_at" = {NOW}"""
    older.write_now(lambda db: db.execute_sql(f"{moved}{later(HOUR)} {condition}"))
    expected = Generations(42, 43, 43, floor=40, rotated_at=later(HOUR), recovered_at=Millis(0))
    assert found(older) == AFTER | {"later": AFTER["new"], "used often": expected}
