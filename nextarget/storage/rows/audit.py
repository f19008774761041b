"""The record of what happened: who signed in, what failed and why. Never a token, a code, a state or an email.

It is bounded for whoever can make it grow: strangers, who only ever fail to sign in, all together, and each user alone.
"""

from typing import Any

import peewee as pw

from nextarget.model import AuditEvent, Millis
from nextarget.storage.engines.statements import Statement, insert_into
from nextarget.storage.rows.tables import AuditEventTable

OF_STRANGERS = "(\"event\" = 'login_failed')"
"""What a stranger can put on record. The words are those of its index, without which SQLite would not use it."""
MOST_OF_STRANGERS = 10_000
"""Sign-ins that failed, of everybody together; the newest stay."""
MOST_OF_USER = 1_000
"""Events of one user; the newest stay. What tells when an app refreshes is counted apart: else it would push out what
everybody who holds a token may see, and tell its moment by that."""
REFRESHING = ("refresh_recovered", "refresh_reused", "session_rewound")
"""When these happened tells when an app refreshes."""

_COLUMNS = (
    AuditEventTable.at,
    AuditEventTable.event,
    AuditEventTable.login_id,
    AuditEventTable.request_id,
    AuditEventTable.user_id,
    AuditEventTable.session_id,
    AuditEventTable.detail,
)
_ADD = insert_into(AuditEventTable, _COLUMNS)


def _all_but(most: int, which: str) -> Statement:
    """Deletes all but the newest of some events."""
    some = f'FROM "audit_event" WHERE {which}'
    last = f'SELECT "at", "id" {some} ORDER BY "at" DESC, "id" DESC LIMIT 1 OFFSET {most}'
    return Statement(f'DELETE {some} AND ("at", "id") <= ({last})')


_FORGET_OF_STRANGERS = _all_but(MOST_OF_STRANGERS, OF_STRANGERS)
_AMONG = f'"event" IN {REFRESHING}'
_FORGET_OF_USER = _all_but(MOST_OF_USER, f'"user_id" = {{0}} AND NOT {_AMONG}')
_FORGET_OF_REFRESHING = _all_but(MOST_OF_USER, f'"user_id" = {{0}} AND {_AMONG}')


def record(db: pw.Database, event: AuditEvent) -> None:
    """Put an event on record; the oldest of its kind goes when there are too many."""
    ids = (event.login_id, event.request_id, event.user_id, event.session_id)
    _ADD.run(db, (event.at, event.event, *ids, event.detail))
    if event.user_id is not None:
        forget = _FORGET_OF_REFRESHING if event.event in REFRESHING else _FORGET_OF_USER
        forget.run(db, (event.user_id, event.user_id))
    if event.event == "login_failed":
        _FORGET_OF_STRANGERS.run(db, ())


def forget_user(db: pw.Database, user_id: str) -> None:
    """Delete what is on record of a user."""
    AuditEventTable.delete().where(AuditEventTable.user_id == user_id).execute(db)


def latest_of_user(db: pw.Database, user_id: str, *, limit: int = 20) -> list[AuditEvent]:
    """What happened to a user, newest first."""
    return _latest(db, AuditEventTable.user_id == user_id, limit)


def latest_of_refreshing(db: pw.Database, user_id: str, *, before: Millis, limit: int) -> list[AuditEvent]:
    """What tells when an app refreshed, before a moment, newest first."""
    return _latest(
        db,
        (AuditEventTable.user_id == user_id) & AuditEventTable.event.in_(REFRESHING) & (AuditEventTable.at < before),
        limit,
    )


def _latest(db: pw.Database, condition: Any, limit: int) -> list[AuditEvent]:
    query = (
        AuditEventTable.select(*_COLUMNS)
        .where(condition)
        .order_by(AuditEventTable.at.desc(), AuditEventTable.id.desc())
        .limit(limit)
    )
    rows: list[dict[str, Any]] = query.dicts().execute(db)
    return [AuditEvent(**row) for row in rows]


_FACTS = tuple(column.column_name for column in _COLUMNS)
_PAGE = Statement(
    f'SELECT "id", {", ".join(_FACTS)} FROM "audit_event" '  # noqa: S608 - names of ours
    f'WHERE "user_id" = {{0}} AND NOT {_AMONG} AND "id" < {{0}} ORDER BY "id" DESC LIMIT {{0}}'
)
_ABOVE_ALL = 2**63 - 1


def page_of_user(db: pw.Database, user_id: str, *, before: int = _ABOVE_ALL, size: int) -> list[tuple[int, AuditEvent]]:
    """What happened to a user, but for what tells when an app refreshes: the last recorded first, each with its number;
    the next ones below `before`."""
    rows = _PAGE.rows(db, (user_id, before, size))
    return [(number, AuditEvent(**dict(zip(_FACTS, facts, strict=True)))) for number, *facts in rows]
