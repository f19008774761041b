"""Accounts: functions that find, make, deactivate or delete a user, and begin sessions.

Every function runs in the transaction of its caller.
"""

import uuid

from nextarget.errors import SignInEnded, UserAmbiguous, UserDeactivated, UserNotFound
from nextarget.model import AuditEvent, Identity, Millis, Provider, Session, User
from nextarget.services.sessions import Sessions
from nextarget.storage.engines.database import Connection
from nextarget.storage.rows import audit, nonces, sessions, users
from nextarget.telemetry import request_id
from nextarget.tokens.encoding import digest

TERMINAL_LABEL = "terminal"
REMEMBERED_MS = 3600 * 1000
"""How long the digest of a deleted user is kept: longer than a sign-in that began before the deletion can last."""
_NAMED = 20
"""How many users an error names at most when several have the same email."""


def find_one(db: Connection, id_or_email: str) -> User:
    """The one user with this id, or with this email. Upper and lower case are the same in an email.

    Raises UserNotFound. Raises UserAmbiguous when several users have the email, even if only one has it in this case.
    """
    found = users.find(db, id_or_email, limit=_NAMED + 1)
    if not found:
        raise UserNotFound(f"No user has the id or email '{id_or_email}'. `nextarget list-users` lists them.")
    return _only(found, f"Several users have the email '{id_or_email}' in upper or lower case. Name one by its id:")


def find_by_email(db: Connection, email: str, provider: Provider) -> User:
    """The one user of a provider with this email. Like `find_one`, but it does not look for an id."""
    found = users.with_email(db, email, provider=provider, limit=_NAMED + 1)
    if not found:
        raise UserNotFound(f"No {provider} user has the email '{email}'. Add --create to make a test user.")
    return _only(
        found, f"Several {provider} users have the email '{email}' in upper or lower case. Name one with --user-id:"
    )


def _only(found: list[User], question: str) -> User:
    if len(found) == 1:
        return found[0]
    choices = [f"{user.id} ({user.provider}) {user.email}" for user in found[:_NAMED]]
    if len(found) > _NAMED:
        choices.append("and more: `nextarget list-users --email EMAIL` lists them all.")
    raise UserAmbiguous(question, choices)


def set_active(db: Connection, user: User, *, active: bool, now: Millis) -> None:
    """Activate or deactivate a user.

    Deactivating ends all sessions of the user, and all logins and codes that could still become sessions. A later
    activation brings none of them back.
    """
    users.set_active(db, user.id, active=active)
    if not active:
        users.end_sessions(db, user.id, now)
        sessions.revoke_all(db, user.id, now)
    audit.record(db, AuditEvent(now, "user_activated" if active else "user_deactivated", user_id=user.id))


def delete(db: Connection, user: User, *, now: Millis, detail: str | None = None) -> str | None:
    """Delete a user, with all sessions, and all logins and codes that could still become sessions.

    Returns the digest of the user's subject; None if another request has deleted the user.

    The audit record keeps only the event and the user's id. The digest of the subject is kept for REMEMBERED_MS, so
    that a sign-in that began before the deletion is refused.
    """
    subject_digest = users.delete(db, user.id)
    if subject_digest is not None:
        nonces.keep(db, subject_digest, purpose=nonces.DELETED, expires_at=Millis(now + REMEMBERED_MS))
    audit.forget_user(db, user.id)
    audit.record(db, AuditEvent(now, "user_deleted", request_id=request_id.get(), user_id=user.id, detail=detail))
    return subject_digest


def open_terminal_session(
    db: Connection, user: User, session_service: Sessions, *, client_id: str, now: Millis
) -> Session:
    """A session for a token that `issue-token` makes. It has a label and an audit event, and ends like any other."""
    session = session_service.new(user.id, client_id=client_id, label=TERMINAL_LABEL, now=now)
    sessions.begin(db, session)
    audit.record(db, AuditEvent(now, "token_issued", user_id=user.id, session_id=session.id, detail="terminal"))
    return session


def sign_in(
    db: Connection,
    identity: Identity,
    session_service: Sessions,
    *,
    client_id: str,
    label: str | None,
    begun_at: Millis,
    now: Millis,
    login_id: str | None = None,
    detail: str | None = None,
) -> tuple[User, Session]:
    """The user of an identity, and a new session with this app; writes an audit event. Raises what `let_in` raises."""
    user = let_in(db, identity, begun_at=begun_at, now=now)
    session = session_service.new(user.id, client_id=client_id, label=label, now=now)
    sessions.begin(db, session)
    event = AuditEvent(
        now,
        "login_succeeded",
        login_id=login_id,
        request_id=request_id.get(),
        user_id=user.id,
        session_id=session.id,
        detail=detail,
    )
    audit.record(db, event)
    return user, session


def let_in(db: Connection, identity: Identity, *, begun_at: Millis, now: Millis) -> User:
    """The user of an identity, for a sign-in that began at `begun_at`. The first sign-in creates the user.

    Raises UserDeactivated. Raises SignInEnded when the user's sessions were ended after the sign-in began. The error
    rolls the transaction back, so that nothing is stored.
    """
    user = admit(db, identity, now=now)
    _check_may_begin(db, user, identity, begun_at)
    return user


def recognise(db: Connection, identity: Identity, *, begun_at: Millis) -> User | None:
    """The user of an identity, for a sign-in that must not create one. The row is locked until the transaction ends.

    Raises what `let_in` raises. Nothing is written: the user keeps the email of the last sign-in to an app.
    """
    user = of_subject(db, identity.provider, identity.subject)
    if user is not None:
        _check_may_begin(db, user, identity, begun_at)
    return user


def _check_may_begin(db: Connection, user: User, identity: Identity, begun_at: Millis) -> None:
    if not user.is_active:
        raise UserDeactivated(user.id)
    if not user.may_begin(begun_at) or (begun_at <= user.created_at and _deleted_since(db, identity, begun_at)):
        raise SignInEnded(user.id)


def _deleted_since(db: Connection, identity: Identity, begun_at: Millis) -> bool:
    """Whether the user of this identity was deleted after the sign-in began. The identity may have a new user since."""
    until = nonces.kept_until(db, _digest_of(identity), purpose=nonces.DELETED)
    return until is not None and begun_at <= until - REMEMBERED_MS


def create_test_user(db: Connection, email: str, provider: Provider, *, now: Millis) -> User:
    """The test user with this email; the first call creates it. Nobody can sign in as a test user, because no provider
    has such a subject."""
    return admit(db, Identity(provider, f"terminal:{email}", email, email_verified=False), now=now)


def admit(db: Connection, identity: Identity, *, now: Millis) -> User:
    """The user of an identity. The first sign-in creates the user; later sign-ins find it by the digest of the subject.

    The digest is SHA-256 of `provider:subject`: a pseudonym, not a secret.
    """
    return users.admit(db, identity, subject_digest=_digest_of(identity), new_id=str(uuid.uuid4()), now=now)


def of_subject(db: Connection, provider: Provider, subject: str) -> User | None:
    """The user with this subject at a provider. The row is locked until the transaction ends."""
    return users.of_subject(db, provider, subject_digest_of(provider, subject))


def _digest_of(identity: Identity) -> str:
    return subject_digest_of(identity.provider, identity.subject)


def subject_digest_of(provider: Provider, subject: str) -> str:
    """The digest under which the user of a subject is found."""
    return digest(f"{provider}:{subject}")
