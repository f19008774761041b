"""Sessions: one row for each signed-in device. A row that is gone, revoked or expired ends every token it made."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import peewee as pw

from nextarget.model import AuditEvent, Generations, Millis, Session, User
from nextarget.storage.engines.statements import Statement, StatementForMany, insert_into
from nextarget.storage.rows import audit
from nextarget.storage.rows.tables import SessionTable
from nextarget.storage.rows.users import COLUMNS as USER_COLUMNS
from nextarget.storage.rows.users import to_user
from nextarget.telemetry import request_id

MOST_STANDING = 100
"""How many sessions of one user stand at a time."""
MOST_ENDED = 100
"""How many sessions of one user that somebody ended are kept until they would have expired: the newest."""

_COLUMNS = (
    SessionTable.id,
    SessionTable.user,
    SessionTable.client_id,
    SessionTable.label,
    SessionTable.created_at,
    SessionTable.expires_at,
    SessionTable.revoked_at,
    SessionTable.previous,
    SessionTable.oldest,
    SessionTable.current,
    SessionTable.floor,
    SessionTable.rotated_at,
    SessionTable.recovered_at,
)
_USER_SQL = ", ".join(f'u."{column.column_name}"' for column in USER_COLUMNS)
_GENERATIONS = ("previous", "oldest", "current", "floor", "rotated_at", "recovered_at")
_FACTS = ("client_id", "label", "created_at", "expires_at", *_GENERATIONS)
"""Of a session that stands, what is not known beforehand."""
_FACTS_SQL = ", ".join(f's."{name}"' for name in _FACTS)
_ADD = insert_into(SessionTable, _COLUMNS)
_WITH_USER = 'FROM "session" AS s JOIN "user" AS u ON u."id" = s."user_id"'
_USER_OF = Statement(
    f'SELECT {_USER_SQL} {_WITH_USER} WHERE s."id" = {{0}} AND s."user_id" = {{0}} '
    'AND s."revoked_at" IS NULL AND s."expires_at" > {0}'
)
_USERS_OF = StatementForMany(
    f'SELECT s."id", s."expires_at", {_USER_SQL} {_WITH_USER} WHERE s."id" IN ({{many}}) AND s."revoked_at" IS NULL'
)
_SESSION_SQL = ", ".join(f's."{column.column_name}"' for column in _COLUMNS)
_FIND = Statement(f'SELECT {_SESSION_SQL}, {_USER_SQL} {_WITH_USER} WHERE s."id" = {{0}}')
_ALL_STANDING = StatementForMany(
    f'SELECT s."id", {_FACTS_SQL}, {_USER_SQL} {_WITH_USER} WHERE s."id" IN ({{many}}) '
    'AND s."revoked_at" IS NULL AND s."expires_at" > {0} AND u."is_active" = {0}'
)
_SET = ", ".join(f'"{name}" = {{0}}' for name in _GENERATIONS)
_AS_IT_WAS = '"id" = {0} AND "revoked_at" IS NULL AND "current" = {0}'
"""Every write raises `current`: one that is as it was read says that nothing else was written meanwhile."""
_SWAP = Statement(f'UPDATE "session" SET {_SET} WHERE {_AS_IT_WAS}')  # noqa: S608 - constants
_SWAP_AND_EXTEND = Statement(f'UPDATE "session" SET {_SET}, "expires_at" = {{0}} WHERE {_AS_IT_WAS}')  # noqa: S608
_SET_ALL = ", ".join(f'"{name}" = new.column{number}' for number, name in enumerate((*_GENERATIONS, "expires_at"), 1))
_SWAP_ALL = StatementForMany(
    f'UPDATE "session" SET {_SET_ALL} FROM (VALUES {{many}}) AS new '  # noqa: S608 - constants
    'WHERE "id" = new.column8 AND "revoked_at" IS NULL AND "current" = new.column9 RETURNING "id"',
    each="({0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0})",
)


class Asked(NamedTuple):
    """A session of an access token, and the user that the token names."""

    session_id: str
    user_id: str
    now: Millis


class Move(NamedTuple):
    """A session as it was read, and what it becomes."""

    session: Session
    generations: Generations
    expires_at: Millis


def _to_session(row: tuple[Any, ...]) -> Session:
    """A session from a row of _COLUMNS."""
    session_id, user_id, client_id, label, created_at, expires_at, revoked_at, *generations = row
    return Session(session_id, user_id, client_id, label, created_at, expires_at, revoked_at, Generations(*generations))


def add(db: pw.Database, session: Session) -> None:
    """Store a session, however many its user has; where one begins, `begin` does."""
    facts = (session.id, session.user_id, session.client_id, session.label)
    times = (session.created_at, session.expires_at, session.revoked_at)
    _ADD.run(db, (*facts, *times, *_values(session.generations)))


def user_of(db: pw.Database, session_id: str, user_id: str, now: Millis) -> User | None:
    """The user behind a session that stands: this user's, not revoked, not expired. One query by primary keys."""
    rows = _USER_OF.rows(db, (session_id, user_id, now))
    return to_user(rows[0]) if rows else None


def users_of(db: pw.Database, asked: Sequence[Asked]) -> list[User | None]:
    """As `user_of` for each, in their order, in one query."""
    if len(asked) == 1:
        (one,) = asked
        return [user_of(db, one.session_id, one.user_id, one.now)]
    rows = _USERS_OF.rows(db, len(asked), [each.session_id for each in asked])
    found = {session_id: (expires_at, to_user(user)) for session_id, expires_at, *user in rows}
    return [_if_theirs(each, found.get(each.session_id)) for each in asked]


def _if_theirs(asked: Asked, found: tuple[Millis, User] | None) -> User | None:
    if found is None:
        return None
    expires_at, user = found
    return user if user.id == asked.user_id and expires_at > asked.now else None


def find(db: pw.Database, session_id: str) -> tuple[Session, User] | None:
    """A session, whatever became of it, and its user."""
    for row in _FIND.rows(db, (session_id,)):
        return _to_session(row[: len(_COLUMNS)]), to_user(row[len(_COLUMNS) :])
    return None


def all_standing(db: pw.Database, session_ids: Sequence[str], now: Millis) -> dict[str, tuple[Session, User]]:
    """Those of the sessions that stand, and their users, who are active, by the sessions' ids. One query."""
    rows = _ALL_STANDING.rows(db, len(session_ids), (*session_ids, now, True))
    return {row[0]: _to_standing(row) for row in rows}


def _to_standing(row: tuple[Any, ...]) -> tuple[Session, User]:
    session_id, client_id, label, created_at, expires_at, *generations = row[: 1 + len(_FACTS)]
    user = to_user(row[1 + len(_FACTS) :])
    of = Generations(*generations)
    return Session(session_id, user.id, client_id, label, created_at, expires_at, None, of), user


def swap(db: pw.Database, session: Session, generations: Generations, *, expires_at: Millis) -> bool:
    """Move a session on, if it is still as it was read; whether it was. The one write of a refresh."""
    values = _values(generations)
    condition = (session.id, session.generations.current)
    if expires_at == session.expires_at:  # leaves every index as it is
        return bool(_SWAP.run(db, values + condition).rowcount == 1)
    return bool(_SWAP_AND_EXTEND.run(db, (*values, expires_at, *condition)).rowcount == 1)


def swap_all(db: pw.Database, moves: Sequence[Move]) -> set[str]:
    """As `swap` for each, in one statement; the ids of those that were as they were read. No session twice.

    In the order of their ids, so that no two transactions wait for each other's rows.
    """
    if not moves:
        return set()
    if len(moves) == 1:
        (move,) = moves
        moved = swap(db, move.session, move.generations, expires_at=move.expires_at)
        return {move.session.id} if moved else set()
    values: list[object] = []
    for move in sorted(moves, key=lambda move: move.session.id):
        values += (*_values(move.generations), move.expires_at, move.session.id, move.session.generations.current)
    return {session_id for (session_id,) in _SWAP_ALL.rows(db, len(moves), values)}


def _values(of: Generations) -> tuple[int, ...]:
    """In the order of _GENERATIONS."""
    return of.previous, of.oldest, of.current, of.floor, of.rotated_at, of.recovered_at


def revoke(db: pw.Database, session_id: str, now: Millis, *, user_id: str | None = None) -> str | None:
    """End a session that has not ended, of this user if one is named; its user's id, None if there was none."""
    standing = (SessionTable.id == session_id) & SessionTable.revoked_at.is_null()
    if user_id is not None:
        standing &= (SessionTable.user == user_id) & (SessionTable.expires_at > now)
    ended = SessionTable.update(revoked_at=now).where(standing).returning(SessionTable.user)
    rows = list(ended.tuples().execute(db))
    return rows[0][0] if rows else None


def revoke_all(db: pw.Database, user_id: str, now: Millis, *, but: str | None = None) -> int:
    """End every session of a user that has not ended, but for one if it is named; how many there were."""
    standing = (SessionTable.user == user_id) & SessionTable.revoked_at.is_null()
    if but is not None:
        standing &= SessionTable.id != but
    return int(SessionTable.update(revoked_at=now).where(standing).execute(db))


def of_user(db: pw.Database, user_id: str, *, standing_at: Millis | None = None) -> list[Session]:
    """A user's sessions, oldest first; with `standing_at` only those that neither ended nor expired by then."""
    query = SessionTable.select(*_COLUMNS).where(SessionTable.user == user_id)
    if standing_at is not None:
        query = query.where(SessionTable.revoked_at.is_null(), SessionTable.expires_at > standing_at)
    query = query.order_by(SessionTable.created_at, SessionTable.id)
    return [_to_session(row) for row in query.tuples().execute(db)]


_USES = 'SELECT "created_at" AS moment UNION ALL SELECT "rotated_at" UNION ALL SELECT "recovered_at"'
_LAST_USED = f"(SELECT max(moment) FROM ({_USES}) AS uses)"  # noqa: S608 - constants
"""When a session was last used; it has been idle since."""
_NAMES = ", ".join(f'"{column.column_name}"' for column in _COLUMNS)
_STANDING = '"user_id" = {0} AND "revoked_at" IS NULL AND "expires_at" > {0}'
_ENDED = '"user_id" = {0} AND "revoked_at" IS NOT NULL'
_CROWDED = Statement('SELECT 1 FROM "session" WHERE "user_id" = {0} LIMIT 1 OFFSET {0}')
_TOO_MANY = Statement(f'SELECT 1 FROM "session" WHERE {_STANDING} LIMIT 1 OFFSET {{0}}')  # noqa: S608 - constants
_DISPLACE = Statement(
    f'UPDATE "session" SET "revoked_at" = {{0}} WHERE {_STANDING} AND "id" <> {{0}} AND ({_LAST_USED}, "id") < '  # noqa: S608
    f'(SELECT {_LAST_USED}, "id" FROM "session" WHERE {_STANDING} AND "id" <> {{0}} '
    'ORDER BY 1 DESC, 2 DESC LIMIT 1 OFFSET {0}) RETURNING "id"'
)
_FORGET = Statement(
    f'DELETE FROM "session" WHERE {_ENDED} AND ("revoked_at", "id") < '  # noqa: S608 - constants
    f'(SELECT "revoked_at", "id" FROM "session" WHERE {_ENDED} ORDER BY 1 DESC, 2 DESC LIMIT 1 OFFSET {{0}})'
)
_LEAST_IDLE = Statement(
    f'SELECT {_NAMES} FROM "session" WHERE {_STANDING} ORDER BY "id" = {{0}} DESC, {_LAST_USED} DESC LIMIT {{0}}'  # noqa: S608
)
_PAGE = Statement(
    f'SELECT {_NAMES} FROM "session" WHERE "user_id" = {{0}} AND ("created_at", "id") > ({{0}}, {{0}}) '  # noqa: S608
    'ORDER BY "created_at", "id" LIMIT {0}'
)


def begin(db: pw.Database, session: Session) -> None:
    """Store a session that begins. Where more than MOST_STANDING would stand then, those idle for longest end.

    In a transaction that holds the user (`users.hold`, `users.admit`), so that of several that begin at once each
    counts those before it. What that costs most sign-ins is one look at an index.
    """
    add(db, session)
    if _CROWDED.rows(db, (session.user_id, min(MOST_STANDING, MOST_ENDED))):
        _make_room(db, session)


def _make_room(db: pw.Database, new: Session) -> None:
    """Displace and forget whatever is too much.

    A session may be refreshed just when it is displaced: then it is not idle, and stays, and another one goes.
    """
    standing = (new.user_id, new.created_at)
    while _TOO_MANY.rows(db, (*standing, MOST_STANDING)):
        others = (*standing, new.id)
        displaced = _DISPLACE.rows(db, (new.created_at, *others, *others, MOST_STANDING - 2))
        _record_displaced(db, new, [session_id for (session_id,) in displaced])
    _FORGET.run(db, (new.user_id, new.user_id, MOST_ENDED - 1))


def _record_displaced(db: pw.Database, new: Session, displaced: list[str]) -> None:
    """One event for each; of a crowd, which only an older version let gather, one that counts them."""
    event = AuditEvent(new.created_at, "session_displaced", request_id=request_id.get(), user_id=new.user_id)
    if len(displaced) > MOST_STANDING:
        audit.record(db, replace(event, detail=f"{len(displaced)} ended"))
        return
    for session_id in displaced:
        audit.record(db, replace(event, session_id=session_id))


def least_idle(db: pw.Database, user_id: str, *, now: Millis, current: str) -> list[Session]:
    """The sessions of a user that stand, oldest first; of more than MOST_STANDING `current` and those used last."""
    rows = _LEAST_IDLE.rows(db, (user_id, now, current, MOST_STANDING))
    return sorted(map(_to_session, rows), key=lambda session: (session.created_at, session.id))


def page_of_user(db: pw.Database, user_id: str, *, after: Session | None = None, size: int) -> list[Session]:
    """The next sessions of a user, oldest first, whatever became of them, after the last one of the page before."""
    key = (after.created_at, after.id) if after else (-1, "")
    return [_to_session(row) for row in _PAGE.rows(db, (user_id, *key, size))]
