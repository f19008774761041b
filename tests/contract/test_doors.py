"""What reads and writes guarantee on every database: complete rows, complete transactions, and the newest commit."""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType

import pytest

from nextarget.model import Millis, User
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, logins, nonces, rotations, sessions, users
from nextarget.storage.rows.rotations import Presented
from nextarget.storage.rows.sessions import Asked
from nextarget.storage.upkeep import purge
from tests.contract.rows import HOUR, NOW, add_code, add_login, add_session, admit, digest_of, event, identity, later

CODE = digest_of("the code")
FAR = later(HOUR * 1000)
EVERYTHING = purge.Limits(used=FAR, expired=FAR, events=FAR, strangers=FAR)


def of_user(user: User, *session_ids: str) -> list[Asked]:
    return [Asked(session_id, user.id, NOW) for session_id in session_ids]


def presented(session_id: str) -> Presented:
    return Presented(session_id, 1, "app", NOW, NOW, FAR, 1)


READS: dict[str, Callable[[Connection, User, str], object]] = {
    "users.get": lambda db, user, _: users.get(db, user.id),
    "users.lock_row": lambda db, user, _: users.lock_row(db, user.id),
    "users.find": lambda db, user, _: users.find(db, user.email),
    "users.with_email": lambda db, user, _: users.with_email(db, user.email),
    "users.page": lambda db, _, __: users.page(db, size=3),
    "sessions.user_of": lambda db, user, session_id: sessions.user_of(db, session_id, user.id, NOW),
    "sessions.users_of": lambda db, user, session_id: sessions.users_of(db, of_user(user, session_id, "?")),
    "sessions.find": lambda db, _, session_id: sessions.find(db, session_id),
    "sessions.find_many": lambda db, _, session_id: sessions.find_many(db, [session_id, "?"]),
    "rotations.look_many": lambda db, _, session_id: rotations.look_many(db, [presented(session_id), presented("?")]),
    "sessions.of_user": lambda db, user, _: sessions.of_user(db, user.id),
    "sessions.of_user, active": lambda db, user, _: sessions.of_user(db, user.id, active_at=NOW),
    "users.of_subject": lambda db, user, _: users.of_subject(db, user.provider, digest_of("google:the one")),
    "nonces.purpose_of": lambda db, _, __: nonces.purpose_of(db, CODE),
    "nonces.kept_until": lambda db, _, __: nonces.kept_until(db, CODE, purpose=nonces.DELETED),
    "logins.used_at": lambda db, _, __: logins.used_at(db, digest_of("changed")),
    "sessions.used_last": lambda db, user, _: sessions.used_last(db, user.id, now=NOW, current="?"),
    "sessions.page_of_user": lambda db, user, _: sessions.page_of_user(db, user.id, size=3),
    "logins.granted": lambda db, _, __: logins.granted(db, CODE),
    "audit.latest_of_user": lambda db, user, _: audit.latest_of_user(db, user.id, limit=3),
    "audit.latest_of_refreshing": lambda db, user, _: audit.latest_of_refreshing(db, user.id, before=FAR, limit=3),
    "audit.page_of_user": lambda db, user, _: audit.page_of_user(db, user.id, size=3),
    "audit.piece": lambda db, _, __: audit.piece(db)[1],
    "audit.piece, newest": lambda db, _, __: audit.piece(db, newest=True, size=3)[1],
    "purge.count": lambda db, _, __: purge.count(db, EVERYTHING),
}
"""Every storage function that reads, with all of its variants. It is asked for several rows where possible, because
these tests look for cursors that were not read to the end. Every answer changes with `change`."""
WRITES = {
    "users.admit",
    "users.set_active",
    "users.end_sessions",
    "users.delete",
    "sessions.add",
    "sessions.begin",
    "sessions.swap",
    "sessions.swap_many",
    "sessions.end",
    "rotations.look",
    "sessions.revoke",
    "sessions.revoke_all",
    "logins.use",
    "logins.redeem",
    "nonces.use",
    "nonces.keep",
    "audit.record",
    "audit.forget_user",
    "purge.one_batch",
    "purge.take_turn",  # changes no row: it holds a lock until the transaction ends
}


def change(db: Connection, user: User, session_id: str) -> None:
    """Make the answer of every read change."""
    users.set_active(db, user.id, active=False)
    sessions.revoke_all(db, user.id, NOW)
    logins.redeem(db, CODE, session_id)
    add_login(db, "changed")
    nonces.keep(db, CODE, purpose=nonces.DELETED, expires_at=later(HOUR))
    for name in ("changed", "refresh_recovered"):
        audit.record(db, event(name, user_id=user.id))


def functions(module: ModuleType) -> set[str]:
    """The public functions of a module that take a connection as their first argument."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and next(iter(inspect.signature(function).parameters), "") == "db"
    }


def test_every_storage_function_is_known_here() -> None:
    """A new storage function joins READS or WRITES, so that the rules of this file hold for it."""
    found = set[str]().union(
        *(functions(module) for module in (users, sessions, rotations, logins, nonces, audit, purge))
    )
    assert found == {name.partition(",")[0] for name in READS} | WRITES


@dataclass(frozen=True)
class Kept:
    """A user with several rows in every table, so that an unfinished read leaves some rows."""

    user: User
    session_id: str


@pytest.fixture
def kept(database: Database) -> Kept:
    user = database.write_now(admit, identity("the one"), now=Millis(1))
    for number in range(5):
        database.write_now(admit)
        session = database.write_now(add_session, user)
        database.write_now(audit.record, event(user_id=user.id))
        database.write_now(add_code, "the code" if number == 0 else f"code {number}", expires_at=later(HOUR))
    return Kept(user, session.id)


@pytest.mark.parametrize("name", READS)
async def test_no_read_holds_on_to_the_past(name: str, database: Database, elsewhere: Database, kept: Kept) -> None:
    """No read leaves an open cursor: after any read, the next reads see a commit of another connection."""
    before = {each: await database.read(read, kept.user, kept.session_id) for each, read in READS.items()}
    await database.read(READS[name], kept.user, kept.session_id)
    elsewhere.write_now(change, kept.user, kept.session_id)
    after = {each: await database.read(read, kept.user, kept.session_id) for each, read in READS.items()}
    assert {each for each in READS if after[each] == before[each]} == set()


@pytest.mark.parametrize("name", READS)
async def test_a_read_sees_what_the_writer_has_just_committed(name: str, database: Database, kept: Kept) -> None:
    """Reads and writes have different connections. After an acknowledged write, the next read sees it."""
    before = await database.read(READS[name], kept.user, kept.session_id)
    await database.write(change, kept.user, kept.session_id)
    assert await database.read(READS[name], kept.user, kept.session_id) != before


@pytest.mark.parametrize("name", READS)
def test_a_write_goes_on_after_any_read(name: str, database: Database, elsewhere: Database, kept: Kept) -> None:
    """A connection that has read before another connection's commit can still write."""
    database.read_now(READS[name], kept.user, kept.session_id)
    elsewhere.write_now(admit)
    database.write_now(change, kept.user, kept.session_id)
    assert elsewhere.read_now(users.get, kept.user.id) == database.read_now(users.get, kept.user.id)


@pytest.mark.parametrize("name", READS)
def test_a_read_returns_nothing_lazy(name: str, database: Database, kept: Kept) -> None:
    """Reads return plain values: no query, no cursor, no row object that loads more later."""
    answer = database.read_now(READS[name], kept.user, kept.session_id)
    for each in answer if isinstance(answer, list | tuple) else [answer]:
        assert type(each).__module__ in ("nextarget.model", "builtins")


class Refusal(Exception):
    """The error that a storage function of these tests raises."""


def admit_and_fail(db: Connection, subject: str) -> None:
    admit(db, identity(subject))
    raise Refusal(subject)


def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    """An error in a storage function undoes its changes, and reaches the caller unchanged."""
    with pytest.raises(Refusal):
        database.write_now(admit_and_fail, "1")
    assert database.read_now(users.page) == []


def test_a_write_that_waits_for_no_disk_is_seen_at_once_and_changes_no_other_write(
    database: Database, elsewhere: Database
) -> None:
    """Only this one transaction is not synced; the next write is, even after an error."""

    def level(db: Connection) -> str:
        shown = "SHOW synchronous_commit" if db.for_update else "PRAGMA synchronous"
        return str(db.execute_sql(shown).fetchone()[0])

    def unsynced(db: Connection) -> str:
        admit(db, identity())
        return level(db)

    usual = database.write_now(level)
    assert (database.write_unsynced(unsynced), usual) in {("off", "on"), ("1", "2")}
    assert elsewhere.read_now(users.page, size=2) != []
    with pytest.raises(ZeroDivisionError):
        database.write_unsynced(lambda _: 1 / 0)
    assert database.write_now(level) == usual


async def test_a_write_that_raises_undoes_only_itself(database: Database) -> None:
    """Writes of one batch succeed or fail independently."""
    writes = [database.write(admit_and_fail if number % 3 == 0 else admit_alone, str(number)) for number in range(60)]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, Refusal if number % 3 == 0 else User)
    assert len(database.read_now(users.page)) == 40


def admit_alone(db: Connection, subject: str) -> User:
    return admit(db, identity(subject))


async def test_a_broken_rule_of_the_database_reaches_the_caller_alone(database: Database) -> None:
    """A row that the database refuses fails its own write only. Other writes of the batch succeed."""
    user = await database.write(admit)
    session = await database.write(add_session, user)
    writes = [database.write(sessions.add, session), database.write(admit), database.write(sessions.add, session)]
    first, admitted, third = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(admitted, User)
    assert "unique" in str(first).lower()
    assert "unique" in str(third).lower()


async def test_a_write_sees_every_write_that_was_acknowledged(database: Database) -> None:
    """A write sees all earlier writes, whichever connection it gets."""
    user = await database.write(admit)
    for number in range(21):
        assert await database.write(users.set_active, user.id, active=number % 2 == 0)
        assert await database.write(users.get, user.id) == replace(user, is_active=number % 2 == 0)
