"""The audit record: who signed in, what failed and why. It never holds a token, a code, a state or an email.

Its size is bounded: failed sign-ins, which strangers can cause, have one limit for all of them, and the events of one
user have a limit of their own.
"""

from functools import reduce
from operator import or_
from typing import Any, NamedTuple

import peewee as pw

from nextarget.model import AuditEvent, Millis
from nextarget.storage.engines.statements import Query, Statement, fields_of, insert_into
from nextarget.storage.rows.tables import AuditEventTable

OF_STRANGERS = "(\"event\" = 'login_failed')"
"""The events that strangers can cause. SQLite uses the partial index only for a condition in the index's own words."""
Place = tuple[int, int]
"""The time and the number of an event: the order in which the record is read. It is served by the index of times."""
MOST_OF_STRANGERS = 10_000
"""How many failed sign-ins are kept, of all users together: the newest."""
MOST_OF_USER = 1_000
"""How many events of one user are kept: the newest. REFRESHING has the same limit, counted apart. If they were counted
together, an event of a refresh would push another event out of the export, and its time could be seen there."""
REFRESHING = ("refresh_recovered", "refresh_reused", "session_rewound")
"""Events whose times tell when an app refreshes."""


class _EventRow(NamedTuple):
    at: Millis
    event: str
    login_id: str | None
    request_id: str | None
    user_id: str | None
    session_id: str | None
    detail: str | None


class _NumberedRow(NamedTuple):
    """An event with its number, which rises with every event."""

    id: int
    at: Millis
    event: str
    login_id: str | None
    request_id: str | None
    user_id: str | None
    session_id: str | None
    detail: str | None


def _all_but(most: int, which: str) -> Statement:
    """DELETE all but the newest `most` of some events."""
    some = f'FROM "audit_event" WHERE {which}'
    last = f'SELECT "at", "id" {some} ORDER BY "at" DESC, "id" DESC LIMIT 1 OFFSET {most}'
    return Statement(f'DELETE {some} AND ("at", "id") <= ({last})')


_IS_REFRESHING = f'"event" IN {REFRESHING}'
_NEWEST = 2**63 - 1
"""A number above the numbers of all events."""
_ADD = Statement(insert_into(AuditEventTable, _EventRow))
_CROWDED = Statement('SELECT 1 FROM "audit_event" WHERE "user_id" = {0} LIMIT 1 OFFSET {0}')
"""Whether a user has more than so many events. It reads an index alone, so for most events it is all there is to do."""
_FORGET_OF_STRANGERS = _all_but(MOST_OF_STRANGERS, OF_STRANGERS)
_FORGET_OF_USER = _all_but(MOST_OF_USER, f'"user_id" = {{0}} AND NOT {_IS_REFRESHING}')
_FORGET_OF_REFRESHING = _all_but(MOST_OF_USER, f'"user_id" = {{0}} AND {_IS_REFRESHING}')
_FORGET_USER = Statement('DELETE FROM "audit_event" WHERE "user_id" = {0}')
_PAGE = Query(
    _NumberedRow,
    f'SELECT {{columns}} FROM "audit_event" WHERE "user_id" = {{0}} AND NOT {_IS_REFRESHING} AND "id" < {{0}} '  # noqa: S608
    'ORDER BY "id" DESC LIMIT {0}',
)
_PAGE_OF_REFRESHING = Query(
    _EventRow,
    f'SELECT {{columns}} FROM "audit_event" WHERE "user_id" = {{0}} AND {_IS_REFRESHING} AND "at" < {{0}} '  # noqa: S608
    'ORDER BY "at" DESC, "id" DESC LIMIT {0}',
)


def _to_event(row: _EventRow | _NumberedRow) -> AuditEvent:
    return AuditEvent(
        row.at,
        row.event,
        login_id=row.login_id,
        request_id=row.request_id,
        user_id=row.user_id,
        session_id=row.session_id,
        detail=row.detail,
    )


def record(db: pw.Database, event: AuditEvent) -> None:
    """Record an event. When there are too many of its kind, the oldest is deleted."""
    row = _EventRow(
        at=event.at,
        event=event.event,
        login_id=event.login_id,
        request_id=event.request_id,
        user_id=event.user_id,
        session_id=event.session_id,
        detail=event.detail,
    )
    _ADD.run(db, row)
    if event.user_id is not None and _CROWDED.rows(db, (event.user_id, MOST_OF_USER)):
        forget = _FORGET_OF_REFRESHING if event.event in REFRESHING else _FORGET_OF_USER
        forget.run(db, (event.user_id, event.user_id))
    if event.event == "login_failed":
        _FORGET_OF_STRANGERS.run(db, ())


def forget_user(db: pw.Database, user_id: str) -> None:
    """Delete all events of a user."""
    _FORGET_USER.run(db, (user_id,))


def latest_of_user(db: pw.Database, user_id: str, *, limit: int = 20) -> list[AuditEvent]:
    """The newest events of a user, newest first."""
    query: Any = (
        AuditEventTable.select(*fields_of(AuditEventTable, _EventRow))
        .where(AuditEventTable.user_id == user_id)
        .order_by(AuditEventTable.at.desc(), AuditEventTable.id.desc())
        .limit(limit)
    )
    return [_to_event(_EventRow._make(row)) for row in query.tuples().execute(db)]


def latest_of_refreshing(db: pw.Database, user_id: str, *, before: Millis, limit: int) -> list[AuditEvent]:
    """The newest events of a user that tell when an app refreshes, from before a time, newest first."""
    return [_to_event(row) for row in _PAGE_OF_REFRESHING.rows(db, (user_id, before, limit))]


def page_of_user(db: pw.Database, user_id: str, *, before: int = _NEWEST, size: int) -> list[tuple[int, AuditEvent]]:
    """One page of a user's other events with their numbers, last recorded first. `before` is the last number of the
    page before."""
    return [(row.id, _to_event(row)) for row in _PAGE.rows(db, (user_id, before, size))]


def piece(
    db: pw.Database,
    *,
    after: Place | None = None,
    newest: bool = False,
    size: int = 5000,
    since: Millis | None = None,
    until: Millis | None = None,
    user_id: str | None = None,
    event: str | None = None,
    mentioning: str | None = None,
) -> tuple[Place | None, list[AuditEvent]]:
    """One piece of the record: of the next `size` events from `since` to `until`, of all users or of one, those that
    fit. Oldest first, or newest first with `newest`. Returns also the place after which the next piece begins; None
    after the last piece.

    `mentioning` is the id of a login, a request or a user. No index serves it, nor `event`: the caller reads piece
    after piece.
    """
    order = (AuditEventTable.at, AuditEventTable.id)
    directed = [key.desc() if newest else key for key in order]
    within: list[Any] = []
    if since is not None:
        within.append(AuditEventTable.at >= since)
    if until is not None:
        within.append(AuditEventTable.at <= until)
    if user_id is not None:
        within.append(AuditEventTable.user_id == user_id)
    if after is not None:
        within.append(pw.Tuple(*order) < after if newest else pw.Tuple(*order) > after)
    ends = AuditEventTable.select(*order).where(*within or [True]).order_by(*directed).limit(1).offset(size - 1)
    end: Place | None = next(iter(ends.tuples().execute(db)), None)
    if end is not None:
        within.append(pw.Tuple(*order) >= end if newest else pw.Tuple(*order) <= end)
    if event is not None:
        within.append(AuditEventTable.event == event)
    if mentioning is not None:
        ids = (AuditEventTable.login_id, AuditEventTable.request_id, AuditEventTable.user_id)
        within.append(reduce(or_, (each == mentioning for each in ids)))
    query: Any = AuditEventTable.select(*fields_of(AuditEventTable, _EventRow)).where(*within or [True])
    return end, [_to_event(_EventRow._make(row)) for row in query.order_by(*directed).tuples().execute(db)]
