"""The write of a refresh, on every database: of several competing writes, exactly one changes the session."""

import asyncio
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from nextarget.model import Generations, Identity, Millis, Provider, Session, User
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import sessions, users
from nextarget.storage.rows.sessions import Move
from nextarget.tokens.refresh import NEW_SESSION
from tests.contract.databases import Place, run_together
from tests.contract.rows import active

NOW = Millis(1_900_000_000_000)
LATER = Millis(NOW + 3_600_000)
NEVER = Millis(0)
MOVED_ON = Generations(1, 2, 2, floor=0, rotated_at=NOW, recovered_at=NEVER)
READ = Generations(3, 5, 7, floor=2, rotated_at=NOW, recovered_at=Millis(NOW + 1))


def open_session(database: Database, generations: Generations = NEW_SESSION) -> tuple[Session, User]:
    """A session of a new user."""
    identity = Identity(Provider("google"), str(uuid.uuid4()), "ada@x.example", email_verified=True)
    facts = {"subject_digest": identity.subject, "new_id": str(uuid.uuid4()), "now": NOW}
    user = database.write_now(users.admit, identity, **facts)
    session = Session(str(uuid.uuid4()), user.id, "app", "Ada's phone", NOW, LATER, None, generations)
    database.write_now(sessions.add, session)
    return session, user


def test_a_session_is_read_as_it_was_stored(database: Database) -> None:
    """A session is read with all its values, together with its user."""
    session, user = open_session(database, READ)
    assert database.read_now(active, session.id, NOW) == (session, user)
    assert database.read_now(sessions.of_user, user.id) == [session]


def test_a_swap_changes_generations_and_expiry_and_nothing_else(database: Database) -> None:
    """After a swap, the next read on any connection sees the new generations and expiry. Nothing else changes."""
    session, user = open_session(database)
    expires_at = Millis(LATER + 1)
    assert database.write_now(sessions.swap, Move(session, MOVED_ON, expires_at)) is True
    moved_on = Session(session.id, user.id, "app", session.label, NOW, expires_at, None, MOVED_ON)
    assert database.read_now(active, session.id, NOW) == (moved_on, user)


def test_a_swap_touches_one_session(database: Database) -> None:
    """Another session with the same generations does not change."""
    session, _ = open_session(database)
    other, owner = open_session(database)
    assert database.write_now(sessions.swap, Move(session, MOVED_ON, LATER))
    assert database.read_now(sessions.of_user, owner.id) == [other]


USED = Generations(7, 8, 8, floor=3, rotated_at=LATER, recovered_at=NEVER)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("current", [6, 8])
def test_a_swap_fails_when_the_session_is_not_as_it_was_read(database: Database, current: int, alone: bool) -> None:
    """Every write raises `current`. If it differs from the session that was read, the swap writes nothing, alone and in
    a batch."""
    session, user = open_session(database, READ._replace(current=current))
    other, _ = open_session(database, READ)
    read = session._replace(generations=READ)
    if alone:
        assert database.write_now(sessions.swap, Move(read, USED, LATER)) is False
    else:
        moves = [Move(read, USED, LATER), Move(other, USED, LATER)]
        assert database.write_now(sessions.swap_many, moves) == [False, True]
    assert database.read_now(sessions.of_user, user.id) == [session]


@pytest.mark.parametrize("alone", [True, False])
def test_a_swap_writes_all_that_was_decided(database: Database, alone: bool) -> None:
    """A swap writes all six generation columns, alone and in a batch."""
    session, user = open_session(database, READ)
    if alone:
        assert database.write_now(sessions.swap, Move(session, USED, LATER))
    else:
        other, _ = open_session(database, READ)
        moves = [Move(each, USED, LATER) for each in (session, other)]
        assert database.write_now(sessions.swap_many, moves) == [True, True]
    assert database.read_now(sessions.of_user, user.id) == [session._replace(generations=USED)]


def test_sessions_that_an_older_node_writes_have_the_defaults(database: Database) -> None:
    """An older node writes neither `floor` nor `recovered_at`. Both are 0 then, as in a new session."""
    session, user = open_session(database)
    columns = '"id", "user_id", "client_id", "created_at", "expires_at", "previous", "oldest", "current", "rotated_at"'

    def begin(db: Connection) -> None:
        db.execute_sql('DELETE FROM "session"')
        values = f"'{session.id}', '{user.id}', 'app', {NOW}, {LATER}, 0, 1, 1, 0"
        db.execute_sql(f'INSERT INTO "session" ({columns}) VALUES ({values})')

    database.write_now(begin)
    assert database.read_now(sessions.of_user, user.id) == [session._replace(label=None)]


def test_a_swap_on_a_revoked_session_fails(database: Database) -> None:
    """After a sign-out, a swap fails, even if the generations are as they were read."""
    session, user = open_session(database)
    assert database.write_now(sessions.revoke, session.id, NOW) == user.id
    assert database.write_now(sessions.swap, Move(session, MOVED_ON, LATER)) is False
    (found,) = database.read_now(sessions.of_user, user.id)
    assert (found.generations, found.expires_at, found.revoked_at) == (NEW_SESSION, LATER, NOW)


def test_a_swap_on_a_session_of_a_deleted_user_fails(database: Database) -> None:
    """If the user was deleted, the swap finds no row, and makes none."""
    session, user = open_session(database)
    assert database.write_now(users.delete, user.id)
    assert database.write_now(sessions.swap, Move(session, MOVED_ON, LATER)) is False
    assert database.read_now(active, session.id, NOW) is None


def test_of_32_swaps_in_threads_exactly_one_wins(database: Database, place: Place) -> None:
    """Every thread opens the database and reads the session. Then all write at the same time, and one swap succeeds."""
    session, user = open_session(database)
    everybody = threading.Barrier(32, timeout=60)

    def rival(number: int) -> bool:
        mine = place.connect()
        try:
            found = mine.read_now(active, session.id, NOW)
            assert found is not None
            everybody.wait()
            moved_on = MOVED_ON._replace(rotated_at=Millis(NOW + number))
            return mine.write_now(sessions.swap, Move(found[0], moved_on, Millis(LATER + number)))
        finally:
            mine.close()

    with ThreadPoolExecutor(32) as pool:
        outcomes = list(pool.map(rival, range(32)))
    winner = outcomes.index(True)
    assert outcomes.count(True) == 1
    (found,) = database.read_now(sessions.of_user, user.id)
    assert (found.generations.rotated_at, found.expires_at) == (NOW + winner, LATER + winner)


async def test_of_32_queued_swaps_exactly_one_wins(database: Database) -> None:
    """The writer commits several swaps in one batch, and every swap sees the changes of the earlier ones."""
    session, _ = open_session(database)
    outcomes = await asyncio.gather(*(database.write(sessions.swap, Move(session, MOVED_ON, LATER)) for _ in range(32)))
    assert sorted(outcomes) == [False] * 31 + [True]


SWAP = """
import sys
from nextarget.model import Generations
from nextarget.storage.rows import sessions
from nextarget.storage.rows.sessions import Move
from nextarget.storage.engines.addresses import database_at

address, session_id, now = sys.argv[1], sys.argv[2], int(sys.argv[3])
database = database_at(address)
print("ready", flush=True)
sys.stdin.readline()
won = 0
for generation in range(1, 101):
    while True:
        session, _ = database.read_now(sessions.find, session_id)
        if session.generations.current > generation:
            break
        moved_on = Generations(generation, generation + 1, generation + 1, generation - 1, now + generation, 0)
        if database.write_now(sessions.swap, Move(session, moved_on, session.expires_at)):
            won += 1
            break
print(won)
database.close()
"""


@pytest.mark.slow
def test_processes_that_swap_at_once_never_both_win(database: Database, place: Place) -> None:
    """Four processes swap the same hundred generations at the same time. Every generation is swapped once."""
    session, user = open_session(database)
    outcomes = run_together(SWAP, [[place.url, session.id, str(NOW)]] * 4)
    assert sum(int(line) for (line,) in outcomes) == 100
    (found,) = database.read_now(sessions.of_user, user.id)
    assert found.generations == Generations(100, 101, 101, 99, Millis(NOW + 100), NEVER)
