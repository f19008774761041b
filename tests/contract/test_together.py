"""Storage functions for a batch: every request gets the answer that it would get alone, on every database."""

from nextarget.model import Generations, Session, User
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import sessions, users
from nextarget.storage.rows.sessions import Asked, Move
from tests.contract.rows import HOUR, NEVER, NOW, add_session, admit, later

MOVED_ON = Generations(1, 2, 2, floor=0, rotated_at=NOW, recovered_at=NEVER)


def opened(database: Database, count: int) -> list[tuple[Session, User]]:
    """Several sessions, all of different users."""
    owners = [database.write_now(admit) for _ in range(count)]
    return [(database.write_now(add_session, user), user) for user in owners]


def test_users_of_many_sessions_come_in_the_order_asked(database: Database) -> None:
    """Every answer equals that of `user_of`, also for repeated, ended, expired, foreign and unknown sessions."""
    pairs = opened(database, 4)
    (one, ada), (two, grace), (ended, _), (inactive, idle) = pairs
    database.write_now(sessions.revoke, ended.id, NOW)
    database.write_now(users.set_active, idle.id, active=False)
    idle = database.read_now(users.get, idle.id)
    asked = [
        Asked(two.id, grace.id, NOW),
        Asked(one.id, ada.id, NOW),
        Asked(one.id, grace.id, NOW),
        Asked(ended.id, ended.user_id, NOW),
        Asked("unknown", ada.id, NOW),
        Asked(two.id, grace.id, later(HOUR)),
        Asked(two.id, grace.id, later(HOUR - 1)),
        Asked(inactive.id, inactive.user_id, NOW),
        Asked("\x00", "' OR '1'='1", NOW),
    ]
    answers = database.read_now(sessions.users_of, asked)
    assert answers == [grace, ada, None, None, None, None, grace, idle, None]
    assert answers == [database.read_now(sessions.user_of, *each) for each in asked]
    assert [database.read_now(sessions.users_of, [each]) for each in asked] == [[answer] for answer in answers]


def test_sessions_are_found_together_in_the_order_asked(database: Database) -> None:
    """Every answer equals that of `find`, also for repeated, ended and unknown sessions, and for deactivated users."""
    (one, ada), (two, grace), (ended, _), (inactive, idle) = opened(database, 4)
    database.write_now(sessions.revoke, ended.id, NOW)
    database.write_now(users.set_active, idle.id, active=False)
    ids = [two.id, "unknown", one.id, ended.id, two.id, inactive.id]
    answers = database.read_now(sessions.find_many, ids)
    assert answers == [database.read_now(sessions.find, each) for each in ids]
    assert answers[:3] == [(two, grace), None, (one, ada)]


def test_of_many_swaps_those_happen_whose_session_is_as_it_was_read(database: Database) -> None:
    """A session that was refreshed or ended after it was read is not changed. The other swaps of the batch succeed."""
    (one, ada), (two, _), (moved, _), (ended, _) = opened(database, 4)
    untouched = database.write_now(add_session, ada)
    assert database.write_now(sessions.swap, Move(moved, MOVED_ON, moved.expires_at))
    database.write_now(sessions.revoke, ended.id, NOW)
    other = Generations(3, 5, 7, floor=2, rotated_at=later(2**33), recovered_at=later(2**34))
    moves = [
        Move(two, other, later(2 * HOUR)),
        Move(moved, other, moved.expires_at),
        Move(one, MOVED_ON, one.expires_at),
        Move(ended, MOVED_ON, ended.expires_at),
    ]
    assert database.write_now(sessions.swap_many, moves) == [True, False, True, False]
    found = database.read_now(sessions.find_many, [one.id, two.id, moved.id, ended.id, untouched.id])
    assert [(session.generations, session.expires_at) for session, _ in filter(None, found)] == [
        (MOVED_ON, one.expires_at),
        (other, later(2 * HOUR)),
        (MOVED_ON, moved.expires_at),
        (ended.generations, ended.expires_at),
        (untouched.generations, untouched.expires_at),
    ]


def test_of_several_swaps_of_one_session_in_a_batch_one_happens(database: Database) -> None:
    """Requests with the same token may be in one batch. The first swap happens, and the others are told that they
    lost."""
    (one, _), (two, _) = opened(database, 2)
    second = Generations(9, 9, 9, floor=9, rotated_at=NOW, recovered_at=NEVER)
    moves = [
        Move(one, MOVED_ON, one.expires_at),
        Move(two, MOVED_ON, two.expires_at),
        Move(one, MOVED_ON, one.expires_at),
        Move(one, second, one.expires_at),
    ]
    assert database.write_now(sessions.swap_many, moves) == [True, True, False, False]
    found = database.read_now(sessions.find_many, [one.id, two.id])
    assert [session.generations for session, _ in filter(None, found)] == [MOVED_ON, MOVED_ON]


def test_a_session_ends_only_if_it_is_as_it_was_read(database: Database) -> None:
    """A session that was refreshed after it was read does not end on the ground of an outdated state."""
    (one, _), (moved, _) = opened(database, 2)
    assert database.write_now(sessions.swap, Move(moved, MOVED_ON, moved.expires_at))
    assert [database.write_now(sessions.end, each, NOW) for each in (one, moved, one)] == [True, False, False]
    found = database.read_now(sessions.find_many, [one.id, moved.id])
    assert [session.revoked_at for session, _ in filter(None, found)] == [NOW, None]
