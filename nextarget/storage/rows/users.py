"""Users: one row for each identity, found by provider and digest of subject. An email is shown, never a key."""

from collections.abc import Iterable
from typing import Any

import peewee as pw

from nextarget.model import Identity, Millis, Provider, User
from nextarget.storage.engines.statements import Statement
from nextarget.storage.rows.tables import UserTable

FALLBACK_DOMAIN = "users.noreply.invalid"
"""`.invalid` can never be registered (RFC 2606, 2), so mail to a fallback address reaches nobody."""

COLUMNS = (
    UserTable.id,
    UserTable.provider,
    UserTable.email,
    UserTable.email_verified,
    UserTable.is_active,
    UserTable.created_at,
    UserTable.sessions_ended_at,
)


_NAMES = ", ".join(f'"{column.column_name}"' for column in COLUMNS)
_GET = Statement(f'SELECT {_NAMES} FROM "user" WHERE "id" = {{0}}')  # noqa: S608 - names of ours
_HOLD = Statement(f'SELECT {_NAMES} FROM "user" WHERE "id" = {{0}} {{1}}', lock="FOR NO KEY UPDATE")  # noqa: S608


def to_user(row: Iterable[Any]) -> User:
    """A user from a row of COLUMNS."""
    user_id, provider, email, email_verified, is_active, *times = row
    return User(user_id, Provider(provider), email, bool(email_verified), bool(is_active), *times)


def fallback_email(provider: Provider, user_id: str) -> str:
    """The address of a user whose provider gave none: unique, and nobody's."""
    return f"{provider}-{user_id.replace('-', '')[:12]}@{FALLBACK_DOMAIN}"


def admit(db: pw.Database, identity: Identity, *, subject_digest: str, new_id: str, now: Millis) -> User:
    """The user of this identity: made with `new_id` at the first sign-in, its email refreshed at later ones.

    One statement, so that two first sign-ins at the same moment make one user. An email kept from earlier stays
    when the provider gives none.
    """
    insert = UserTable.insert(
        id=new_id,
        provider=identity.provider,
        subject_digest=subject_digest,
        email=identity.email or fallback_email(identity.provider, new_id),
        email_verified=identity.email_verified,
        is_active=True,
        created_at=now,
    )
    refreshed = (UserTable.email, UserTable.email_verified) if identity.email else (UserTable.provider,)
    upsert = insert.on_conflict(
        conflict_target=(UserTable.provider, UserTable.subject_digest),
        update={column: getattr(pw.EXCLUDED, column.column_name) for column in refreshed},
    ).returning(*COLUMNS)
    (row,) = upsert.tuples().execute(db)
    return to_user(row)


def get(db: pw.Database, user_id: str) -> User | None:
    """The user with this id."""
    rows = _GET.rows(db, (user_id,))
    return to_user(rows[0]) if rows else None


def hold(db: pw.Database, user_id: str) -> User | None:
    """As `get`, for a transaction that opens a session: until it ends, nobody deactivates or deletes the user, and
    nobody else opens one."""
    rows = _HOLD.rows(db, (user_id,))
    return to_user(rows[0]) if rows else None


def find(db: pw.Database, id_or_email: str, *, limit: int = 20) -> list[User]:
    """The user with this id, which is nobody else's; else the users with this email."""
    user = get(db, id_or_email)
    return [user] if user else with_email(db, id_or_email, limit=limit)


def with_email(db: pw.Database, email: str, *, provider: Provider | None = None, limit: int = 20) -> list[User]:
    """Users with this email in whatever case, oldest first. One that fits to the letter hides no other."""
    query = UserTable.select(*COLUMNS).where(_folded(db, UserTable.email) == _folded(db, pw.Value(email)))
    if provider is not None:
        query = query.where(UserTable.provider == provider)
    ordered = query.order_by(UserTable.created_at, UserTable.id).limit(limit)
    return [to_user(row) for row in ordered.tuples().execute(db)]


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
    """The next users, oldest first or `newest` first, after the last one of the page before: one index serves
    both.

    `email` is a pattern in which `*` stands for any text; it ignores case. `inactive` leaves only deactivated ones.
    """
    order = (UserTable.created_at, UserTable.id)
    query = UserTable.select(*COLUMNS).order_by(*(key.desc() if newest else key for key in order)).limit(size)
    if after is not None:
        place, last = pw.Tuple(*order), (after.created_at, after.id)
        query = query.where(place < last if newest else place > last)
    if provider is not None:
        query = query.where(UserTable.provider == provider)
    if inactive:
        query = query.where(UserTable.is_active == False)  # noqa: E712 - Peewee builds SQL of it
    if email is not None:
        escaped = "".join(f"!{char}" if char in "!%_" else char for char in email).replace("*", "%")
        # Peewee's own operator comes in parentheses, behind which SQL allows no ESCAPE.
        like = (_folded(db, UserTable.email), pw.SQL("LIKE"), _folded(db, pw.Value(escaped)), pw.SQL("ESCAPE '!'"))
        query = query.where(pw.NodeList(like))
    return [to_user(row) for row in query.tuples().execute(db)]


def _folded(db: pw.Database, text: pw.Node) -> pw.Node:
    """Text in lower case, A to Z alone: what every database can do, in every locale, with the same result."""
    return pw.fn.LOWER(text if isinstance(db, pw.SqliteDatabase) else pw.NodeList((text, pw.SQL('COLLATE "C"'))))


def set_active(db: pw.Database, user_id: str, *, active: bool) -> bool:
    """Whether there was such a user to change."""
    return bool(UserTable.update(is_active=active).where(UserTable.id == user_id).execute(db))


def end_sessions(db: pw.Database, user_id: str, now: Millis) -> None:
    """Remember that the sessions of a user ended: what began before opens no new one."""
    UserTable.update(sessions_ended_at=now).where(UserTable.id == user_id).execute(db)


def delete(db: pw.Database, user_id: str) -> str | None:
    """Delete a user and, by cascade, its sessions; the digest of its subject, None if there was no such user."""
    deleted = UserTable.delete().where(UserTable.id == user_id).returning(UserTable.subject_digest)
    for (subject_digest,) in list(deleted.tuples().execute(db)):
        return str(subject_digest)
    return None
