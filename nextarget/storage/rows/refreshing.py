"""Refreshing a session: find it, have the caller judge it, write by compare-and-swap, record what happened.

The caller judges one session and knows of no batch. On SQLite every request is carried out by itself (`refresh`); on
PostgreSQL requests that come at the same time share their statements (`refresh_many`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import peewee as pw

from nextarget.model import AuditEvent, Millis, Session, User
from nextarget.storage.engines.database import Batchable
from nextarget.storage.rows import audit, sessions
from nextarget.storage.rows.sessions import Move
from nextarget.tokens.refresh import Advance, Decision, Reused


class Verdict(NamedTuple):
    """What a refresh token leads to, and when the session expires if it is refreshed."""

    decision: Decision
    expires_at: Millis


@dataclass(frozen=True, slots=True, eq=False)
class RefreshRequest:
    """One request to refresh a session. Compared by identity: equal requests in one batch stay separate.

    `judge` is given the session as it was read, and returns None when the request may not refresh it. It must be pure:
    it is called again when the compare-and-swap is lost or the transaction is repeated. `request_id` is the HTTP
    request's, for the audit record.
    """

    session_id: str
    judge: Callable[[Session], Verdict | None]
    now: Millis
    request_id: str | None


class Refreshed(NamedTuple):
    """A refresh that was carried out. `session` is as it was before."""

    user: User
    session: Session
    decision: Decision


def refresh(db: pw.Database, request: RefreshRequest) -> Refreshed | None:
    """Carry out one refresh. Returns None when its session is not active, or when `judge` does. A lost compare-and-swap
    is judged again."""
    while (found := sessions.find_active(db, request.session_id, request.now)) is not None:
        session, user = found
        verdict = request.judge(session)
        if verdict is None:
            return None
        decision, expires_at = verdict
        refreshed = Refreshed(user, session, decision)
        if isinstance(decision, Reused):
            _end(db, request, refreshed)
        if not isinstance(decision, Advance):
            return refreshed
        if sessions.swap(db, session, decision.generations, expires_at=expires_at):
            _record(db, request, refreshed, decision.event)
            return refreshed
    return None


def refresh_many(db: pw.Database, requests: Sequence[RefreshRequest]) -> list[Refreshed | None]:
    """As `refresh` for a batch, in one transaction; the answers are in the order of the requests.

    Every round takes one request of every session, so requests of one session are carried out one after another.
    Two batches cannot deadlock: each locks its sessions in the order of their ids. When one statement writes them all,
    it takes the locks (`swap_all`); otherwise they are taken before the first write.
    """
    session_ids = {request.session_id for request in requests}
    if 1 < len(session_ids) < len(requests):
        sessions.lock_all(db, list(session_ids))
    answers: dict[RefreshRequest, Refreshed | None] = {}
    while waiting := [request for request in requests if request not in answers]:
        answers |= _round(db, {request.session_id: request for request in reversed(waiting)})
    return [answers[request] for request in requests]


def _round(db: pw.Database, requests: dict[str, RefreshRequest]) -> dict[RefreshRequest, Refreshed | None]:
    """One request of every session, by the session's id. Requests that are absent from the answer lost the
    compare-and-swap; the caller retries them."""
    found = sessions.find_all_active(db, list(requests), max(request.now for request in requests.values()))
    answers: dict[RefreshRequest, Refreshed | None] = {
        request: None for session_id, request in requests.items() if session_id not in found
    }
    moves: list[Move] = []
    ended: list[tuple[RefreshRequest, Refreshed]] = []
    advanced: dict[str, tuple[Refreshed, str | None]] = {}
    for session_id, (session, user) in found.items():
        request = requests[session_id]
        verdict = request.judge(session)
        if verdict is None:
            answers[request] = None
            continue
        decision, expires_at = verdict
        refreshed = Refreshed(user, session, decision)
        if isinstance(decision, Advance):
            moves.append(Move(session, decision.generations, expires_at))
            advanced[session_id] = refreshed, decision.event
        else:
            if isinstance(decision, Reused):
                ended.append((request, refreshed))
            answers[request] = refreshed
    if ended and len(requests) > 1:
        sessions.lock_all(db, list(requests))
    for request, refreshed in ended:
        _end(db, request, refreshed)
    for session_id in sessions.swap_all(db, moves):
        request, (refreshed, event) = requests[session_id], advanced[session_id]
        _record(db, request, refreshed, event)
        answers[request] = refreshed
    return answers


def _end(db: pw.Database, request: RefreshRequest, refreshed: Refreshed) -> None:
    """End a session whose refresh token was used again."""
    if sessions.revoke(db, request.session_id, request.now) is not None:
        _record(db, request, refreshed, "refresh_reused")


def _record(db: pw.Database, request: RefreshRequest, refreshed: Refreshed, event: str | None) -> None:
    if event is not None:
        ids = {"request_id": request.request_id, "user_id": refreshed.user.id, "session_id": request.session_id}
        audit.record(db, AuditEvent(request.now, event, **ids))


REFRESH = Batchable(refresh, refresh_many)
