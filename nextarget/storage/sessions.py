"""Sessions: one row for each signed-in device. A row that is gone, revoked or expired ends every token it made."""

import peewee as pw

from nextarget.model import Millis, Session, User
from nextarget.storage.tables import SessionTable
from nextarget.storage.users import COLUMNS as USER_COLUMNS
from nextarget.storage.users import to_user

_USER_COLUMNS = ", ".join(f'u."{column.column_name}"' for column in USER_COLUMNS)
_STANDING = (
    f'SELECT {_USER_COLUMNS} FROM "session" AS s JOIN "user" AS u ON u."id" = s."user_id" '  # noqa: S608 - constants
    'WHERE s."id" = {0} AND s."user_id" = {0} AND s."revoked_at" IS NULL AND s."expires_at" > {0}'
)
"""The query behind every authenticated request: written once, since building it costs ten times its execution."""


def add(db: pw.Database, session: Session) -> None:
    SessionTable.insert(
        id=session.id,
        user=session.user_id,
        client_id=session.client_id,
        label=session.label,
        created_at=session.created_at,
        expires_at=session.expires_at,
        revoked_at=session.revoked_at,
    ).execute(db)


def user_of(db: pw.Database, session_id: str, user_id: str, now: Millis) -> User | None:
    """The user behind a session that stands: this user's, not revoked, not expired. One query by primary keys."""
    # fetchall: a half-read cursor would hold SQLite's snapshot, and later reads would miss commits.
    cursor = db.execute_sql(_STANDING.format(db.param), (session_id, user_id, now))  # type: ignore[no-untyped-call]
    rows = cursor.fetchall()
    return to_user(rows[0]) if rows else None


def revoke_all(db: pw.Database, user_id: str, now: Millis) -> int:
    """End every session of a user that has not ended; how many there were."""
    ended = SessionTable.update(revoked_at=now).where(
        (SessionTable.user == user_id) & SessionTable.revoked_at.is_null()
    )
    return int(ended.execute(db))


def count_standing(db: pw.Database, user_id: str, now: Millis) -> int:
    """How many sessions of a user neither ended nor expired."""
    query = SessionTable.select().where(
        (SessionTable.user == user_id) & SessionTable.revoked_at.is_null() & (SessionTable.expires_at > now)
    )
    return int(query.count(db))
