"""The most frequent refresh in one statement, for PostgreSQL, where every statement is a round trip.

A refresh reads its session, judges it (`tokens.refresh.decide`) and swaps it. Most refreshes are the same case: one
unused token, presented after the reuse window. The statement that reads the session makes this rotation too.

It is asked as a read, which is asked again if the connection was lost. Should the rotation have happened then, the
second time finds a repetition of it, or a refresh whose answer was lost: the app gets the current token.
"""

from collections.abc import Sequence
from typing import NamedTuple

import peewee as pw

from nextarget.model import Millis, Session, User
from nextarget.storage.engines.database import Batchable
from nextarget.storage.engines.statements import Statement, columns
from nextarget.storage.rows.sessions import SESSION_AND_USER, SessionRow, find_many, to_found
from nextarget.storage.rows.users import UserRow


class Presented(NamedTuple):
    """A refresh token that is presented by an app, and the sessions that it may rotate at once: those whose last
    rotation was before `window_began`, and whose expiry stays. It would be `idle_expiry`, and at most `lifetime`
    milliseconds after the sign-in."""

    session_id: str
    generation: int
    client_id: str
    now: Millis
    window_began: Millis
    idle_expiry: Millis
    lifetime: int


Looked = tuple[tuple[Session, User] | None, bool]
"""A session as it was with its user, and whether it was rotated."""
_LOOK = Statement(
    'WITH rotated AS (UPDATE "session" AS s SET "previous" = s."current", "oldest" = s."current" + 1, '  # noqa: S608
    '"current" = s."current" + 1, "floor" = s."previous", "rotated_at" = {0}, "recovered_at" = 0 '
    'FROM "user" AS u WHERE u."id" = s."user_id" AND u."is_active" '
    'AND s."id" = {0} AND s."oldest" = {0} AND s."current" = {0} AND s."client_id" = {0} '
    'AND s."revoked_at" IS NULL AND s."expires_at" > {0} AND s."rotated_at" < {0} '
    'AND s."expires_at" = LEAST({0}, s."created_at" + {0}) RETURNING s."id") '
    f"SELECT {columns(SessionRow, 's')}, {columns(UserRow, 'u')}, EXISTS (SELECT 1 FROM rotated) "
    f'{SESSION_AND_USER} WHERE s."id" = {{0}}'
)
"""The SELECT reads the rows as they were before the UPDATE (PostgreSQL's manual, 7.8.4). If another transaction changes
the session meanwhile, the UPDATE waits for it and compares again (13.2.1)."""


def look(db: pw.Database, presented: Presented) -> Looked:
    """A session and its user, as `sessions.find`. The session is rotated if its case is the most frequent one."""
    session_id, generation, client_id, now, *unchanged = presented
    rows = _LOOK.rows(db, (now, session_id, generation, generation, client_id, now, *unchanged, session_id))
    if not rows:
        return None, False
    *row, rotated = rows[0]
    split = len(SessionRow._fields)
    return to_found(SessionRow._make(row[:split]), UserRow._make(row[split:])), rotated


def look_many(db: pw.Database, presented: Sequence[Presented]) -> list[Looked]:
    """As `look` for a batch, which is only read: all that are rotated are swapped together then (`sessions.SWAP`)."""
    return [(found, False) for found in find_many(db, [one.session_id for one in presented])]


LOOK = Batchable(look, look_many)
