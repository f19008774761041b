"""Explains a sign-in to an operator: what the audit record has of it, what that means, and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass

from nextarget.errors import OperatorError
from nextarget.model import AuditEvent, Millis, User
from nextarget.services.login_outcomes import AT_ACCOUNT_PAGE, CODE_SECONDS
from nextarget.services.operator import advice, users
from nextarget.services.operator.advice import Advice
from nextarget.services.operator.record import EventFilter, list_events
from nextarget.services.purging import STRANGERS_DAYS
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import sessions
from nextarget.storage.rows import users as user_rows

AROUND_MS = 3600 * 1000
"""The events of a sign-in are read from this time before its newest event: longer than a sign-in can last."""

_TOLD = {
    "login_succeeded": "The provider said who the person is. The person was let in.",
    "login_failed": "The sign-in failed: {detail}.",
    "code_redeemed": "The app redeemed its code and got a session.",
    "code_reused": "The code was redeemed once more. The session was ended.",
    "refresh_recovered": "The app had lost an answer. It refreshed again with its previous token.",
    "refresh_reused": "An old refresh token was used. The session was ended.",
    "session_rewound": "A refresh token was newer than its session: the database is an older copy.",
    "session_revoked": "The person ended the session.",
    "sessions_revoked": "Sessions were ended: {detail}.",
    "session_displaced": "The session was ended because the person has too many.",
    "token_issued": "An operator issued a token.",
    "user_activated": "An operator activated the user.",
    "user_deactivated": "An operator deactivated the user. Every session ended.",
    "user_deleted": "The user was deleted.",
    "security_event": "The provider told something about the account: {detail}.",
    "grant_revoked": "What the person agreed to at the provider was revoked.",
}
"""Without commas and semicolons, which a line of text would have to escape. A detail that has no place follows."""
_OF_SIGN_IN = frozenset({"login_succeeded", "login_failed", "code_redeemed", "code_reused"})


@dataclass(frozen=True, slots=True)
class Story:
    """What is known of a sign-in or a user. `about` says what it is the story of. `events` are oldest first. `active`
    is the number of the user's active sessions."""

    about: str
    user: User | None
    active: int
    events: list[AuditEvent]
    conclusion: Advice


def told(event: AuditEvent) -> str:
    """An event as a sentence."""
    detail = event.detail
    sentence = _TOLD.get(event.event, f"{event.event}.")
    if detail and "{detail}" not in sentence:
        return f"{sentence.removesuffix('.')} ({detail})."
    return sentence.replace("{detail}", detail or "no detail")


def explain(database: Database, what: str, *, now: Millis) -> Story:
    """The story of a login id, a request id, or a user, who is named by id or email; of a deleted user, by id.

    Raises UserNotFound and UserAmbiguous for an email, and OperatorError for an id of which nothing is on record.
    """
    if "@" in what or database.read_now(user_rows.get, what) is not None:
        return _of_user(database, what, now=now)
    newest = next(list_events(database, EventFilter(mentioning=what), newest=True, limit=1), None)
    if newest is None:
        raise _nothing(what)
    events = _around(database, newest, {what})
    if logins := {event.login_id for event in events if event.login_id and event.login_id != what}:
        events = _around(database, newest, {what, *logins})
    kind = "sign-in" if any(event.login_id == what for event in events) else "request"
    if newest.user_id == what:  # of a deleted user, of whom little is left on record
        kind = "user"
    user_id = next((event.user_id for event in reversed(events) if event.user_id), None)
    user, ids = database.read_now(_user_with_sessions, user_id, now)
    return Story(f"{kind} {what}", user, len(ids), events, _concluded(events, ids, now=now))


def _of_user(database: Database, what: str, *, now: Millis) -> Story:
    record = users.record_of(database, what, now=now)
    events = record.events[::-1]
    conclusion = _concluded(events, {session.id for session in record.sessions}, now=now)
    if not record.user.is_active:
        conclusion = advice.advice_of("user_deactivated")
    return Story(f"user {record.user.id}", record.user, len(record.sessions), events, conclusion)


def _around(database: Database, newest: AuditEvent, ids: Iterable[str]) -> list[AuditEvent]:
    """The events that mention one of the ids, in the time around an event, in their order."""
    since, until = Millis(newest.at - AROUND_MS), Millis(newest.at + AROUND_MS)
    found = {
        event: None
        for each in sorted(ids)
        for event in list_events(database, EventFilter(mentioning=each, since=since, until=until))
    }
    return sorted(found, key=lambda event: event.at)


def _user_with_sessions(db: Connection, user_id: str | None, now: Millis) -> tuple[User | None, set[str]]:
    """The user, and the ids of its active sessions."""
    user = user_rows.get(db, user_id) if user_id else None
    return user, {session.id for session in sessions.of_user(db, user.id, active_at=now)} if user else set()


def _concluded(events: list[AuditEvent], active: set[str], *, now: Millis) -> Advice:
    """What the last step of the last sign-in means. `active` are the ids of the user's active sessions."""
    last = next((event for event in reversed(events) if event.event in _OF_SIGN_IN), None)
    if last is None:
        return advice.NO_SIGN_IN
    if last.event == "login_failed":
        return advice.advice_of(last.detail)
    if last.event == "code_reused":
        return advice.REUSED
    if last.detail == AT_ACCOUNT_PAGE:
        return advice.VISITED
    if last.session_id is None:
        return advice.UNREDEEMED if last.at + CODE_SECONDS * 1000 < now else advice.WORKED
    return advice.WORKED if last.session_id in active else advice.ENDED


def _nothing(what: str) -> OperatorError:
    return OperatorError(
        f"Nothing is on record of '{what}'. A sign-in that never came back from the provider is only in the log: "
        f"`journalctl -u nextarget --grep=ID`. Check that the id is whole, and that DATABASE_URL names the server's "
        f"database. Failed sign-ins are kept for {STRANGERS_DAYS} days, other events as AUDIT_RETENTION_DAYS says."
    )
