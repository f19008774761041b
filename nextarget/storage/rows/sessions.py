"""Sessions: one row for one signed-in device. Tokens are valid only while their session is active.

An active session is neither revoked nor expired.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import peewee as pw

from nextarget.model import AuditEvent, Generations, Millis, Session, User
from nextarget.storage.engines.database import Batchable
from nextarget.storage.engines.statements import (
    JoinQuery,
    Query,
    QueryForMany,
    Statement,
    fields_of,
    insert_into,
)
from nextarget.storage.rows import audit
from nextarget.storage.rows.tables import SessionTable
from nextarget.storage.rows.users import UserRow, to_user
from nextarget.telemetry import request_id

MAX_ACTIVE_SESSIONS = 100
"""How many active sessions one user may have."""
MAX_ENDED_SESSIONS = 100
"""How many revoked sessions of one user are kept until they would have expired: the newest."""


class SessionRow(NamedTuple):
    """All columns of a session."""

    id: str
    user_id: str
    client_id: str
    label: str | None
    created_at: Millis
    expires_at: Millis
    revoked_at: Millis | None
    previous: int
    oldest: int
    current: int
    floor: int
    rotated_at: Millis
    recovered_at: Millis


class _ExpiryRow(NamedTuple):
    id: str
    expires_at: Millis


class _IdRow(NamedTuple):
    id: str


class _UserIdRow(NamedTuple):
    user_id: str


class Asked(NamedTuple):
    """The session and the user that an access token names."""

    session_id: str
    user_id: str
    now: Millis


class Move(NamedTuple):
    """A session as it was read, and its new state."""

    session: Session
    generations: Generations
    expires_at: Millis


_ADD = Statement(insert_into(SessionTable, SessionRow))
SESSION_AND_USER = 'FROM "session" AS s JOIN "user" AS u ON u."id" = s."user_id"'
_USER_OF = Query(
    UserRow,
    'SELECT {columns} FROM "user" WHERE "id" = (SELECT "user_id" FROM "session" WHERE "id" = {0} AND "user_id" = {0} '
    'AND "revoked_at" IS NULL AND "expires_at" > {0})',
)
_USERS_OF = JoinQuery(
    _ExpiryRow, UserRow, f'SELECT {{columns}} {SESSION_AND_USER} WHERE s."id" IN ({{many}}) AND s."revoked_at" IS NULL'
)
_FIND = JoinQuery(SessionRow, UserRow, f'SELECT {{columns}} {SESSION_AND_USER} WHERE s."id" IN ({{many}})')
_SET = ", ".join(f'"{name}" = {{0}}' for name in Generations._fields)
_AS_READ = '"id" = {0} AND "revoked_at" IS NULL AND "current" = {0}'
"""The compare of the compare-and-swap. Every write raises `current`, so an equal one means that nothing was written."""
_SWAP = Statement(f'UPDATE "session" SET {_SET} WHERE {_AS_READ}')  # noqa: S608 - constants
_SWAP_AND_EXTEND = Statement(f'UPDATE "session" SET {_SET}, "expires_at" = {{0}} WHERE {_AS_READ}')  # noqa: S608
_SET_MANY = ", ".join(
    f'"{name}" = new.column{number}' for number, name in enumerate((*Generations._fields, "expires_at"), 1)
)
_ID, _READ = (f"new.column{len(Generations._fields) + more}" for more in (2, 3))
_SWAP_MANY = QueryForMany(
    _IdRow,
    f'UPDATE "session" SET {_SET_MANY} FROM (SELECT new.* FROM (VALUES {{many}}) AS new '  # noqa: S608 - constants
    f'JOIN "session" AS s ON s."id" = {_ID} ORDER BY s."id"{{1}}) AS new '
    f'WHERE "id" = {_ID} AND "revoked_at" IS NULL AND "current" = {_READ} RETURNING {{columns}}',
    item=f"({', '.join(['{0}'] * (len(Generations._fields) + 3))})",
    lock=" FOR NO KEY UPDATE OF s",
)
_END = Statement(f'UPDATE "session" SET "revoked_at" = {{0}} WHERE {_AS_READ}')  # noqa: S608 - constants
_REVOKE = Query(
    _UserIdRow, 'UPDATE "session" SET "revoked_at" = {0} WHERE "id" = {0} AND "revoked_at" IS NULL RETURNING {columns}'
)
_REVOKE_OF_USER = Query(
    _UserIdRow,
    'UPDATE "session" SET "revoked_at" = {0} WHERE "id" = {0} AND "revoked_at" IS NULL '
    'AND "user_id" = {0} AND "expires_at" > {0} RETURNING {columns}',
)
_REVOKE_ALL = Statement(
    'UPDATE "session" SET "revoked_at" = {0} WHERE "user_id" = {0} AND "revoked_at" IS NULL AND "id" <> {0} '
    'AND "created_at" <= {0}'
)
_ALWAYS = Millis(2**53)
_NO_SESSION = ""
"""An id that no session has."""


def _to_session(row: SessionRow) -> Session:
    """The columns are the fields of a Session, the last of which are those of its Generations."""
    return Session(*row[:7], Generations(*row[7:]))


def _to_row(session: Session) -> SessionRow:
    return SessionRow(*session[:7], *session.generations)


def add(db: pw.Database, session: Session) -> None:
    """Store a session without counting the others of its user. A sign-in calls `begin`, which counts them."""
    _ADD.run(db, _to_row(session))


def user_of(db: pw.Database, session_id: str, user_id: str, now: Millis) -> User | None:
    """The user behind an active session: this user's, not revoked, not expired. One query by primary keys."""
    row = _USER_OF.first(db, (session_id, user_id, now))
    return to_user(row) if row else None


def users_of(db: pw.Database, asked: Sequence[Asked]) -> list[User | None]:
    """As `user_of` for a batch, in one query; the answers are in the order of `asked`."""
    rows = _USERS_OF.rows(db, [one.session_id for one in asked], count=len(asked))
    found = {row.id: (row.expires_at, to_user(user)) for row, user in rows}
    return [_if_theirs(one, found.get(one.session_id)) for one in asked]


def _if_theirs(asked: Asked, found: tuple[Millis, User] | None) -> User | None:
    if found is None:
        return None
    expires_at, user = found
    return user if user.id == asked.user_id and expires_at > asked.now else None


USER_OF = Batchable(lambda db, asked: user_of(db, *asked), users_of)


def find(db: pw.Database, session_id: str) -> tuple[Session, User] | None:
    """A session and its user, also when the session is revoked or expired."""
    rows = _FIND.rows(db, (session_id,))
    return to_found(*rows[0]) if rows else None


def to_found(session: SessionRow, user: UserRow) -> tuple[Session, User]:
    return _to_session(session), to_user(user)


def find_many(db: pw.Database, session_ids: Sequence[str]) -> list[tuple[Session, User] | None]:
    """As `find` for a batch, in one query; the answers are in the order of the ids."""
    rows = _FIND.rows(db, session_ids, count=len(session_ids))
    found = {session.id: to_found(session, user) for session, user in rows}
    return [found.get(session_id) for session_id in session_ids]


FIND = Batchable(find, find_many)


def swap(db: pw.Database, move: Move) -> bool:
    """The compare-and-swap of a refresh: write the new state if the session is still active and as it was read.

    Returns whether it was. An `expires_at` that stays the same is not written, so that no index changes.
    """
    session, generations, expires_at = move
    read = (session.id, session.generations.current)
    if expires_at == session.expires_at:
        return _SWAP.changed(db, (*generations, *read)) == 1
    return _SWAP_AND_EXTEND.changed(db, (*generations, expires_at, *read)) == 1


def swap_many(db: pw.Database, moves: Sequence[Move]) -> list[bool]:
    """As `swap` for a batch, in one statement. Of several moves of one session only the first can succeed.

    All rows are locked before one is written, in the order of their ids. So two batches cannot deadlock.
    """
    first: dict[str, Move] = {}
    for move in moves:
        first.setdefault(move.session.id, move)
    values: list[object] = []
    for session, generations, expires_at in first.values():
        values += (*generations, expires_at, session.id, session.generations.current)
    swapped = {row.id for row in _SWAP_MANY.rows(db, values, count=len(first))}
    return [move.session.id in swapped and first[move.session.id] is move for move in moves]


SWAP = Batchable(swap, swap_many)


def end(db: pw.Database, session: Session, now: Millis) -> bool:
    """End a session if it is still active and as it was read. Returns whether it was."""
    return _END.changed(db, (now, session.id, session.generations.current)) == 1


def revoke(db: pw.Database, session_id: str, now: Millis, *, user_id: str | None = None) -> str | None:
    """End a session that was not ended before. With `user_id` only an active session of this user is ended.

    Returns the id of its user, None when no session was ended.
    """
    if user_id is None:
        row = _REVOKE.first(db, (now, session_id))
    else:
        row = _REVOKE_OF_USER.first(db, (now, session_id, user_id, now))
    return row.user_id if row else None


def revoke_all(
    db: pw.Database, user_id: str, now: Millis, *, but: str | None = None, begun_by: Millis = _ALWAYS
) -> int:
    """End the sessions of a user that began until `begun_by`, except the session `but`. Returns how many were ended."""
    return _REVOKE_ALL.changed(db, (now, user_id, but or _NO_SESSION, begun_by))


def of_user(db: pw.Database, user_id: str, *, active_at: Millis | None = None) -> list[Session]:
    """A user's sessions, oldest first; with `active_at` only those that are active at that time."""
    query = SessionTable.select(*fields_of(SessionTable, SessionRow)).where(SessionTable.user == user_id)
    if active_at is not None:
        query = query.where(SessionTable.revoked_at.is_null(), SessionTable.expires_at > active_at)
    query = query.order_by(SessionTable.created_at, SessionTable.id)
    return [_to_session(SessionRow._make(row)) for row in query.tuples().execute(db)]


_USES = 'SELECT "created_at" AS moment UNION ALL SELECT "rotated_at" UNION ALL SELECT "recovered_at"'
_LAST_USED = f"(SELECT max(moment) FROM ({_USES}) AS uses)"  # noqa: S608 - constants
"""When a session was last used. It has been idle since then."""
_ACTIVE = '"user_id" = {0} AND "revoked_at" IS NULL AND "expires_at" > {0}'
_ENDED = '"user_id" = {0} AND "revoked_at" IS NOT NULL'
_CROWDED = Statement('SELECT 1 FROM "session" WHERE "user_id" = {0} LIMIT 1 OFFSET {0}')
_TOO_MANY = Statement(f'SELECT 1 FROM "session" WHERE {_ACTIVE} LIMIT 1 OFFSET {{0}}')  # noqa: S608 - constants
_DISPLACE = Query(
    _IdRow,
    f'UPDATE "session" SET "revoked_at" = {{0}} WHERE {_ACTIVE} AND "id" <> {{0}} AND ({_LAST_USED}, "id") < '  # noqa: S608
    f'(SELECT {_LAST_USED}, "id" FROM "session" WHERE {_ACTIVE} AND "id" <> {{0}} '
    "ORDER BY 1 DESC, 2 DESC LIMIT 1 OFFSET {0}) RETURNING {columns}",
)
_FORGET = Statement(
    f'DELETE FROM "session" WHERE {_ENDED} AND ("revoked_at", "id") < '  # noqa: S608 - constants
    f'(SELECT "revoked_at", "id" FROM "session" WHERE {_ENDED} ORDER BY 1 DESC, 2 DESC LIMIT 1 OFFSET {{0}})'
)
_USED_LAST = Query(
    SessionRow,
    f'SELECT {{columns}} FROM "session" WHERE {_ACTIVE} '  # noqa: S608 - constants
    f'ORDER BY "id" = {{0}} DESC, {_LAST_USED} DESC LIMIT {{0}}',
)
_PAGE = Query(
    SessionRow,
    'SELECT {columns} FROM "session" WHERE "user_id" = {0} AND ("created_at", "id") > ({0}, {0}) '
    'ORDER BY "created_at", "id" LIMIT {0}',
)


def begin(db: pw.Database, session: Session) -> None:
    """Store a new session. If its user then has more than MAX_ACTIVE_SESSIONS, the sessions idle for longest end.

    The transaction must hold the user's row (`users.lock_row`, `users.admit`): then sessions of one user that begin at
    the same time are counted one after another. For most sign-ins the count is one look at an index.
    """
    add(db, session)
    if _CROWDED.rows(db, (session.user_id, min(MAX_ACTIVE_SESSIONS, MAX_ENDED_SESSIONS))):
        _make_room(db, session)


def _make_room(db: pw.Database, new: Session) -> None:
    """End and delete the sessions that are too many.

    A session that is refreshed at the moment when it would end is not idle any more: it stays, and the loop ends
    another one.
    """
    whose = (new.user_id, new.created_at)
    while _TOO_MANY.rows(db, (*whose, MAX_ACTIVE_SESSIONS)):
        others = (*whose, new.id)
        displaced = _DISPLACE.rows(db, (new.created_at, *others, *others, MAX_ACTIVE_SESSIONS - 2))
        _record_displaced(db, new, [row.id for row in displaced])
    _FORGET.run(db, (new.user_id, new.user_id, MAX_ENDED_SESSIONS - 1))


def _record_displaced(db: pw.Database, new: Session, displaced: list[str]) -> None:
    """Record one event for one ended session. More than MAX_ACTIVE_SESSIONS at once, which only an older version leaves
    behind, are one event with their number."""
    event = AuditEvent(new.created_at, "session_displaced", request_id=request_id.get(), user_id=new.user_id)
    if len(displaced) > MAX_ACTIVE_SESSIONS:
        audit.record(db, replace(event, detail=f"{len(displaced)} ended"))
        return
    for session_id in displaced:
        audit.record(db, replace(event, session_id=session_id))


def used_last(db: pw.Database, user_id: str, *, now: Millis, current: str) -> list[Session]:
    """A user's active sessions, oldest first. Of more than MAX_ACTIVE_SESSIONS: `current`, and those used last."""
    rows = _USED_LAST.rows(db, (user_id, now, current, MAX_ACTIVE_SESSIONS))
    return sorted(map(_to_session, rows), key=lambda session: (session.created_at, session.id))


def page_of_user(db: pw.Database, user_id: str, *, after: Session | None = None, size: int) -> list[Session]:
    """One page of a user's sessions, active or not, oldest first. `after` is the last session of the page before."""
    key = (after.created_at, after.id) if after else (-1, "")
    return [_to_session(row) for row in _PAGE.rows(db, (user_id, *key, size))]
