"""The statement that reads a session and makes the most frequent rotation, on PostgreSQL: it decides as `decide`."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nextarget.errors import InvalidGrant
from nextarget.model import Generations, Millis, Session, User
from nextarget.services.sessions import Sessions
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.engines.postgres.connection import PostgresConnection
from nextarget.storage.rows import rotations, sessions, users
from nextarget.storage.rows.rotations import Presented
from nextarget.tokens.refresh import NEW_SESSION, Advance, RefreshToken, decide
from tests.contract.databases import Place
from tests.contract.rows import NOW, admit, later
from tests.contract.test_refreshing_together import KEYRING, RULES, TOKENS, opened, service
from tests.storage.test_postgres import until_one_waits

WINDOW = 30_000
EXPIRES = later(10**9)
LIFETIME = 2 * 10**9


@pytest.fixture
def place(migrated_url: str) -> Place:
    """The statement is for PostgreSQL alone."""
    return Place(migrated_url)


def presented(session: Session, generation: int = 1, **changed: object) -> Presented:
    asked = Presented(session.id, generation, "app", NOW, Millis(NOW - WINDOW), EXPIRES, LIFETIME)
    return asked._replace(**changed)


def begun(
    database: Database,
    generations: Generations = NEW_SESSION,
    *,
    expires_at: Millis = EXPIRES,
    created_at: Millis = NOW,
    revoked_at: Millis | None = None,
) -> tuple[Session, User]:
    """A stored session, and its user."""
    user = database.write_now(admit)
    session = Session(str(uuid.uuid4()), user.id, "app", "phone", created_at, expires_at, revoked_at, generations)
    database.write_now(sessions.add, session)
    return session, user


def versions(database: Database) -> list[tuple[Any, ...]]:
    """Which versions of the rows of sessions are stored, and who has locked or replaced them."""

    def read(db: Connection) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = db.execute_sql('SELECT xmin, xmax, ctid FROM "session"').fetchall()
        return found

    return database.read_now(read)


moments = st.one_of(
    st.sampled_from([0, 1, NOW - WINDOW - 1, NOW - WINDOW, NOW - 1, NOW, NOW + 60_000, NOW + 60_001]),
    st.integers(0, NOW + 10**6),
)
few = st.integers(0, 6)


class Case(NamedTuple):
    """A row of a session, and the token that is presented."""

    generations: Generations
    generation: int
    expires_at: Millis = EXPIRES
    created_at: Millis = NOW
    client_id: str = "app"
    revoked_at: Millis | None = None
    active: bool = True


@given(
    st.builds(
        Case,
        st.builds(Generations, few, few, few, few, moments.map(Millis), moments.map(Millis)),
        few,
        st.sampled_from([EXPIRES, Millis(EXPIRES - 1), Millis(EXPIRES + 1), NOW, later(1), later(5)]),
        st.sampled_from([NOW, Millis(EXPIRES - LIFETIME), later(5 - LIFETIME), later(-LIFETIME)]),
        st.sampled_from(["app", "app", "other", "ap", "app\n"]),
        st.sampled_from([None, None, NOW]),
        st.sampled_from([True, True, False]),
    )
)
@example(Case(NEW_SESSION, 1))
@example(Case(NEW_SESSION, 1, later(5), later(5 - LIFETIME)))
@example(Case(NEW_SESSION, 1, NOW, later(-LIFETIME)))
@example(Case(Generations(2, 5, 5, 1, Millis(NOW - WINDOW - 1), Millis(7)), 5))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_what_is_rotated_at_once_is_what_would_be_decided(database: Database, case: Case) -> None:
    """For any row and any token. What is not rotated has not been touched, not even locked."""
    generations, generation, expires_at, created_at, client_id, revoked_at, active = case
    database.write_now(lambda db: db.execute_sql('DELETE FROM "user"'))
    session, user = begun(database, generations, expires_at=expires_at, created_at=created_at, revoked_at=revoked_at)
    database.write_now(users.set_active, user.id, active=active)
    rows = versions(database)

    looked = database.write_now(rotations.look, presented(session, generation, client_id=client_id))

    found, rotated = looked
    assert found == (session, replace(user, is_active=active))
    stays = NOW < expires_at == min(EXPIRES, created_at + LIFETIME)
    may_go_on = active and revoked_at is None and stays and client_id == "app"
    only_unused = generation == generations.oldest == generations.current
    assert rotated == (may_go_on and only_unused and generations.rotated_at < NOW - WINDOW)
    if rotated:
        decision = decide(generation, generations, now=NOW, window_ms=WINDOW)
        assert isinstance(decision, Advance)
        assert decision.event is None
        assert database.read_now(sessions.of_user, user.id) == [session._replace(generations=decision.generations)]
    else:
        assert versions(database) == rows


def test_a_session_that_is_unknown_is_not_found(database: Database) -> None:
    """Whatever its id is."""
    session, _ = begun(database)
    assert database.write_now(rotations.look, presented(session._replace(id="\0' OR '1'='1"))) == (None, False)


def test_a_batch_only_reads(database: Database) -> None:
    """It finds what `find_many` finds, in the order asked."""
    session, user = begun(database)
    rows = versions(database)
    asked = [presented(session), presented(session._replace(id="?")), presented(session, 7)]
    found = (session, user), False
    assert database.write_now(rotations.look_many, asked) == [found, (None, False), found]
    assert versions(database) == rows


@contextmanager
def statements_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is asked of PostgreSQL with libpq."""
    asked: list[str] = []
    execute = PostgresConnection.execute

    def executed(self: PostgresConnection, query: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(query if isinstance(query, str) else query.decode())
        return execute(self, query, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(PostgresConnection, "execute", executed)
        yield asked


async def refreshed(of: Sessions, token: RefreshToken, **options: Any) -> int:
    pair = await of.refresh(token, **options)
    found = of.presented(pair.refresh_token)
    assert found is not None
    return found.generation


@pytest.mark.parametrize("client_id", [None, "app"])
async def test_a_refresh_that_comes_alone_is_one_round_trip_and_so_is_its_repeat(
    database: Database, monkeypatch: pytest.MonkeyPatch, client_id: str | None
) -> None:
    """The statement is a transaction by itself."""
    of = service(database, lambda: NOW)
    first, second = opened(database, of, 2)
    await refreshed(of, RefreshToken(first.id, 1), client_id=client_id)  # opens the connection
    with statements_of(monkeypatch) as asked:
        assert await refreshed(of, RefreshToken(second.id, 1), client_id=client_id) == 2
        assert await refreshed(of, RefreshToken(second.id, 1), client_id=client_id) == 2
    assert [text.partition(" ")[0] for text in asked] == ["WITH", "WITH"]


async def test_a_refresh_that_moves_the_expiry_is_swapped(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a day, for a session that is in use."""
    clock = [NOW]
    of = service(database, lambda: clock[0])
    (session,) = opened(database, of, 1)
    clock[0] = later(24 * 3_600_000)
    with statements_of(monkeypatch) as asked:
        assert await refreshed(of, RefreshToken(session.id, 1)) == 2
    assert [text.partition(" ")[0] for text in asked][-2:] == ["WITH", "UPDATE"]
    found = database.read_now(sessions.find, session.id)
    assert found is not None
    assert found[0].expires_at == session.expires_at + 24 * 3_600_000


@pytest.mark.parametrize("apps", [{"app", "other"}, {"other"}, set[str]()])
@pytest.mark.parametrize("client_id", [None, "app", "other"])
async def test_only_its_own_app_rotates_a_session(database: Database, apps: set[str], client_id: str | None) -> None:
    """Whichever apps are configured, and whether the app names itself or not. A refused refresh changes nothing."""
    rules = replace(RULES, client_ids=frozenset(apps))
    of = Sessions(database, KEYRING, TOKENS, rules, lambda: NOW)
    (session,) = opened(database, of, 1)
    rows = versions(database)
    if "app" in apps and client_id in {None, "app"}:
        assert await refreshed(of, RefreshToken(session.id, 1), client_id=client_id) == 2
        return
    with pytest.raises(InvalidGrant):
        await of.refresh(RefreshToken(session.id, 1), client_id=client_id)
    assert versions(database) == rows


def _moves_on(other: "psycopg.Connection[Any]", session: Session) -> None:
    sets = '"previous" = 1, "oldest" = 2, "current" = 2, "rotated_at" = %s'
    other.execute(f'UPDATE "session" SET {sets} WHERE "id" = %s', (NOW, session.id))


def _ends(other: "psycopg.Connection[Any]", session: Session) -> None:
    other.execute('UPDATE "session" SET "revoked_at" = %s WHERE "id" = %s', (NOW, session.id))


def _deletes(other: "psycopg.Connection[Any]", session: Session) -> None:
    other.execute('DELETE FROM "user" WHERE "id" = %s', (session.user_id,))


def _deactivates(other: "psycopg.Connection[Any]", session: Session) -> None:
    _ends(other, session)
    other.execute('UPDATE "user" SET "is_active" = FALSE WHERE "id" = %s', (session.user_id,))


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("change", [_moves_on, _ends, _deletes, _deactivates])
async def test_whoever_changes_the_session_at_the_same_time_is_waited_for(
    database: Database, migrated_url: str, change: Callable[..., None], commits: bool
) -> None:
    """A rotation, a sign-out, a deletion or a deactivation in progress holds for a refresh that comes meanwhile. If it
    is undone, the refresh is a plain one."""
    of = service(database, lambda: NOW)
    (session,) = opened(database, of, 1)
    with psycopg.connect(migrated_url) as other:
        change(other, session)
        waiting = asyncio.create_task(refreshed(of, RefreshToken(session.id, 1)))
        await until_one_waits(database, waiting)
        other.commit() if commits else other.rollback()
    if commits and change is not _moves_on:
        with pytest.raises(InvalidGrant):
            await waiting
    else:
        assert await waiting == 2


async def test_a_deactivation_that_has_not_reached_the_session_ends_it_afterwards(
    database: Database, migrated_url: str
) -> None:
    """A refresh does not wait for the row of its user. The deactivation then ends the session that was refreshed."""
    of = service(database, lambda: NOW)
    (session,) = opened(database, of, 1)
    with psycopg.connect(migrated_url) as other:
        other.execute('UPDATE "user" SET "is_active" = FALSE WHERE "id" = %s', (session.user_id,))
        assert await refreshed(of, RefreshToken(session.id, 1)) == 2
        _ends(other, session)
    with pytest.raises(InvalidGrant):
        await of.refresh(RefreshToken(session.id, 2))


async def test_a_rotation_whose_answer_was_lost_is_found_by_the_second_attempt(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost after the commit. The statement is asked again, and the app gets the current token."""
    of = service(database, lambda: NOW)
    (session,) = opened(database, of, 1)
    execute, lost = PostgresConnection.execute, [True]

    def executed(self: PostgresConnection, query: Any, *arguments: Any, **options: Any) -> Any:
        answer = execute(self, query, *arguments, **options)
        if isinstance(query, str) and query.startswith("WITH") and lost:
            lost.pop()
            self.close()
            raise psycopg.OperationalError("the connection is lost")
        return answer

    monkeypatch.setattr(PostgresConnection, "execute", executed)
    assert await refreshed(of, RefreshToken(session.id, 1)) == 2
    assert not lost
    found = database.read_now(sessions.find, session.id)
    assert found is not None
    assert found[0].generations.current == 2
