"""What a message of a provider does to an account: it concerns what existed when the provider issued it.

A message may come late or several times. One that is older than the account, or than a session, leaves it alone. So a
copied message cannot be used against a person who has signed in again since.
"""

from nextarget.model import Millis, User
from nextarget.services.sessions import record_ended
from nextarget.storage.engines.database import Connection
from nextarget.storage.rows import sessions, users

_SECOND_MS = 1000
"""Providers write times in whole seconds: what happened in the same second was not later."""


def is_older(issued_at: Millis, user: User) -> bool:
    """Whether a message was issued before the account was made. The same second is not before."""
    return issued_at + _SECOND_MS <= user.created_at


def end_sessions(db: Connection, user: User, issued_at: Millis, *, now: Millis, cause: str) -> int:
    """End the sessions that began before the message was issued, and the logins that began before it.

    The caller has locked the user's row. Returns how many sessions ended; `cause` goes on the audit record.
    """
    second_ends = issued_at + _SECOND_MS - 1
    until = Millis(min(now, second_ends))
    if until > user.sessions_ended_at:
        users.end_sessions(db, user.id, until)
    # A sign-in may have made a session after `now`, while this transaction waited for the user's row.
    ended = sessions.revoke_all(db, user.id, now, begun_by=Millis(min(now + _SECOND_MS, second_ends)))
    record_ended(db, user, ended, now=now, cause=cause)
    return ended
