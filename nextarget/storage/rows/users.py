"""Users: one row for one identity, found by provider and digest of the subject. An email is shown, but is no key."""

from typing import NamedTuple

import peewee as pw

from nextarget.model import Identity, Millis, Provider, User
from nextarget.storage.engines.statements import Query, Statement, fields_of, insert_into
from nextarget.storage.rows.tables import UserTable

FALLBACK_DOMAIN = "users.noreply.invalid"
"""Names that end in `.invalid` cannot be registered (RFC 2606, 2), so mail to a fallback address never arrives."""


class UserRow(NamedTuple):
    """The columns of a user that the rest of the program sees."""

    id: str
    provider: Provider
    email: str
    email_verified: bool
    is_active: bool
    created_at: Millis
    sessions_ended_at: Millis


class _NewUserRow(NamedTuple):
    id: str
    provider: str
    subject_digest: str
    email: str
    email_verified: bool
    is_active: bool
    created_at: Millis


class _DigestRow(NamedTuple):
    subject_digest: str


_FIELDS = fields_of(UserTable, UserRow)
_GET = Query(UserRow, 'SELECT {columns} FROM "user" WHERE "id" = {0}')
_LOCK_ROW = Query(UserRow, 'SELECT {columns} FROM "user" WHERE "id" = {0} {1}', lock="FOR NO KEY UPDATE")
_RECOGNISE = Query(
    UserRow,
    'SELECT {columns} FROM "user" WHERE "provider" = {0} AND "subject_digest" = {0} {1}',
    lock="FOR NO KEY UPDATE",
)
_UPSERT = f'{insert_into(UserTable, _NewUserRow)} ON CONFLICT ("provider", "subject_digest") DO UPDATE SET '
_EMAIL = '"email" = excluded."email", "email_verified" = excluded."email_verified"'
_NOTHING = '"provider" = excluded."provider"'
"""An UPDATE that changes nothing: without one, the row of an existing user would not be returned."""
_ADMIT = Query(UserRow, _UPSERT + _EMAIL + " RETURNING {columns}")
_ADMIT_WITHOUT_EMAIL = Query(UserRow, _UPSERT + _NOTHING + " RETURNING {columns}")
_END_SESSIONS = Statement('UPDATE "user" SET "sessions_ended_at" = {0} WHERE "id" = {0}')
_DELETE = Query(_DigestRow, 'DELETE FROM "user" WHERE "id" = {0} RETURNING {columns}')


def to_user(row: UserRow) -> User:
    """The user in a row. SQLite's booleans are 0 and 1."""
    return User(
        row.id,
        row.provider,
        row.email,
        bool(row.email_verified),
        bool(row.is_active),
        row.created_at,
        row.sessions_ended_at,
    )


def fallback_email(provider: Provider, user_id: str) -> str:
    """The address of a user whose provider gave none. It is unique, and no mail to it arrives."""
    return f"{provider}-{user_id.replace('-', '')[:12]}@{FALLBACK_DOMAIN}"


def admit(db: pw.Database, identity: Identity, *, subject_digest: str, new_id: str, now: Millis) -> User:
    """The user of this identity. The first sign-in makes the user with `new_id`; later ones update the email.

    A user whose email is still the same is only locked, as by `lock_row`: an unchanged row is not written again.
    Otherwise it is one statement, so that two first sign-ins at the same moment make one user. When the provider gives
    no email, the email of an earlier sign-in stays.
    """
    known = _RECOGNISE.first(db, (identity.provider, subject_digest))
    if known and (
        not identity.email or (identity.email, identity.email_verified) == (known.email, known.email_verified)
    ):
        return to_user(known)
    query = _ADMIT if identity.email else _ADMIT_WITHOUT_EMAIL
    new = _NewUserRow(
        id=new_id,
        provider=identity.provider,
        subject_digest=subject_digest,
        email=identity.email or fallback_email(identity.provider, new_id),
        email_verified=identity.email_verified,
        is_active=True,
        created_at=now,
    )
    (row,) = query.rows(db, new)
    return to_user(row)


def get(db: pw.Database, user_id: str) -> User | None:
    """The user with this id."""
    row = _GET.first(db, (user_id,))
    return to_user(row) if row else None


def of_subject(db: pw.Database, provider: Provider, subject_digest: str) -> User | None:
    """The user of an identity, whose row is locked as by `lock_row`."""
    row = _RECOGNISE.first(db, (provider, subject_digest))
    return to_user(row) if row else None


def lock_row(db: pw.Database, user_id: str) -> User | None:
    """As `get`, and locks the row for a transaction that opens a session: until the transaction ends, no other one can
    deactivate or delete the user, or open a session of the user."""
    row = _LOCK_ROW.first(db, (user_id,))
    return to_user(row) if row else None


def find(db: pw.Database, id_or_email: str, *, limit: int = 20) -> list[User]:
    """The user with this id; if there is none, the users with this email."""
    user = get(db, id_or_email)
    return [user] if user else with_email(db, id_or_email, limit=limit)


def with_email(db: pw.Database, email: str, *, provider: Provider | None = None, limit: int = 20) -> list[User]:
    """Users with this email, oldest first. Upper and lower case are the same, and an exact match is not preferred."""
    query = UserTable.select(*_FIELDS).where(_folded(db, UserTable.email) == _folded(db, pw.Value(email)))
    if provider is not None:
        query = query.where(UserTable.provider == provider)
    ordered = query.order_by(UserTable.created_at, UserTable.id).limit(limit)
    return [to_user(UserRow._make(row)) for row in ordered.tuples().execute(db)]


def page(
    db: pw.Database,
    *,
    after: User | None = None,
    size: int = 500,
    newest: bool = False,
    provider: Provider | None = None,
    inactive: bool = False,
    email: str | None = None,
) -> list[User]:
    """One page of users, oldest first, or newest first with `newest`. `after` is the last user of the page before.

    `email` is a pattern: `*` matches any text, and case does not matter. `inactive` gives deactivated users only. One
    index serves both orders.
    """
    order = (UserTable.created_at, UserTable.id)
    query = UserTable.select(*_FIELDS).order_by(*(key.desc() if newest else key for key in order)).limit(size)
    if after is not None:
        place, last = pw.Tuple(*order), (after.created_at, after.id)
        query = query.where(place < last if newest else place > last)
    if provider is not None:
        query = query.where(UserTable.provider == provider)
    if inactive:
        query = query.where(UserTable.is_active == False)  # noqa: E712 - Peewee builds SQL of it
    if email is not None:
        escaped = "".join(f"!{char}" if char in "!%_" else char for char in email).replace("*", "%")
        # Peewee puts its own LIKE in parentheses, and SQL allows no ESCAPE after a parenthesis.
        like = (_folded(db, UserTable.email), pw.SQL("LIKE"), _folded(db, pw.Value(escaped)), pw.SQL("ESCAPE '!'"))
        query = query.where(pw.NodeList(like))
    return [to_user(UserRow._make(row)) for row in query.tuples().execute(db)]


def _folded(db: pw.Database, text: pw.Node) -> pw.Node:
    """Text in lower case, the letters A to Z only: every database does this alike, in every locale."""
    return pw.fn.LOWER(text if isinstance(db, pw.SqliteDatabase) else pw.NodeList((text, pw.SQL('COLLATE "C"'))))


def set_active(db: pw.Database, user_id: str, *, active: bool) -> bool:
    """Activate or deactivate a user. Returns whether the user exists."""
    return bool(UserTable.update(is_active=active).where(UserTable.id == user_id).execute(db))


def end_sessions(db: pw.Database, user_id: str, now: Millis) -> None:
    """Store when the sessions of a user were ended: a login or code that began earlier opens no session."""
    _END_SESSIONS.run(db, (now, user_id))


def delete(db: pw.Database, user_id: str) -> str | None:
    """Delete a user and, by cascade, the user's sessions. Returns the digest of the subject, None without a user."""
    row = _DELETE.first(db, (user_id,))
    return row.subject_digest if row else None
