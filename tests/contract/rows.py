"""Rows for the storage tests, with only the values that a test needs."""

import hashlib
import itertools
import uuid

from nextarget.model import (
    AppRequest,
    AuditEvent,
    AuthorizationCode,
    Identity,
    Login,
    LoginMode,
    Millis,
    Provider,
    Session,
    User,
)
from nextarget.storage.engines.database import Connection
from nextarget.storage.rows import logins, sessions, users
from nextarget.tokens.refresh import NEW_SESSION

GOOGLE = Provider("google")

NOW = Millis(1_900_000_000_000)
HOUR = 3_600_000
NEVER = Millis(0)
_numbers = itertools.count(1)


def later(milliseconds: int) -> Millis:
    return Millis(NOW + milliseconds)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def identity(subject: str = "1", email: str | None = "ada@x.example", **changed: object) -> Identity:
    facts = {"provider": Provider("google"), "email_verified": email is not None} | changed
    return Identity(subject=subject, email=email, **facts)


def admit(db: Connection, who: Identity | None = None, *, now: Millis = NOW, new_id: str | None = None) -> User:
    """A user, made or found as in a sign-in."""
    who = who or identity(subject=str(next(_numbers)))
    found = digest_of(f"{who.provider}:{who.subject}")
    return users.admit(db, who, subject_digest=found, new_id=new_id or str(uuid.uuid4()), now=now)


def add_session(db: Connection, user: User, *, label: str | None = None, lifetime: int = HOUR) -> Session:
    session = Session(str(uuid.uuid4()), user.id, "app", label, NOW, later(lifetime), None, NEW_SESSION)
    sessions.add(db, session)
    return session


def active(db: Connection, session_id: str, now: Millis) -> tuple[Session, User] | None:
    """An active session and its user: neither revoked nor expired, of a user who is not deactivated."""
    found = sessions.find(db, session_id)
    if found is None or found[0].revoked_at is not None or found[0].expires_at <= now or not found[1].is_active:
        return None
    return found


def begun(state: str, *, provider: Provider = GOOGLE, app: AppRequest | None = None) -> Login:
    """A login that begins now. Nothing of it is stored yet."""
    mode = LoginMode.APP if app else LoginMode.JSON
    return Login(str(uuid.uuid4()), digest_of(state), provider, mode, NOW, later(HOUR), app)


def add_login(db: Connection, state: str, *, user_id: str = "user") -> Login:
    """A login that ended with a session."""
    login = begun(state)
    assert logins.use(db, login, user_id=user_id, session_id="session", now=NOW)
    return login


def add_code(db: Connection, code: str, *, app: AppRequest | None = None, expires_at: Millis = NOW) -> Login:
    """A login of an app that ended with this code."""
    login = begun(f"state of {code}", app=app or AppRequest("app", "app:/callback", "challenge", "state"))
    granted = AuthorizationCode(digest_of(code), expires_at)
    assert logins.use(db, login, user_id="user", code=granted, now=NOW)
    return login


def event(name: str = "login_succeeded", *, at: Millis = NOW, user_id: str | None = "user") -> AuditEvent:
    return AuditEvent(at, name, user_id=user_id)
