"""Rows for the storage tests, each with only what a test is about."""

import hashlib
import itertools
import uuid

from nextarget.model import AppRequest, AuditEvent, Identity, Login, LoginMode, Millis, Provider, Session, User
from nextarget.storage import logins, sessions, users
from nextarget.storage.database import Connection
from nextarget.storage.logins import NewLogin
from nextarget.tokens.refresh import NEW_SESSION

NOW = Millis(1_900_000_000_000)
HOUR = 3_600_000
_numbers = itertools.count(1)


def later(milliseconds: int) -> Millis:
    return Millis(NOW + milliseconds)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def identity(subject: str = "1", email: str | None = "ada@x.example", **changed: object) -> Identity:
    facts = {"provider": Provider.GOOGLE, "email_verified": email is not None} | changed
    return Identity(subject=subject, email=email, **facts)


def admit(db: Connection, who: Identity | None = None, *, now: Millis = NOW, new_id: str | None = None) -> User:
    """A user, made or found as a sign-in does."""
    who = who or identity(subject=str(next(_numbers)))
    found = digest_of(f"{who.provider}:{who.subject}")
    return users.admit(db, who, subject_digest=found, new_id=new_id or str(uuid.uuid4()), now=now)


def add_session(db: Connection, user: User, *, label: str | None = None, lifetime: int = HOUR) -> Session:
    session = Session(str(uuid.uuid4()), user.id, "app", label, NOW, later(lifetime), None, NEW_SESSION)
    sessions.add(db, session)
    return session


def standing(db: Connection, session_id: str, now: Millis) -> tuple[Session, User] | None:
    return sessions.all_standing(db, [session_id], now).get(session_id)


def add_login(db: Connection, state: str, *, cookie: str | None = None, provider: Provider = Provider.GOOGLE) -> Login:
    mode = LoginMode.REDIRECT if cookie else LoginMode.JSON
    login = Login(str(uuid.uuid4()), provider, mode, "key-1", NOW, later(HOUR))
    logins.add(db, [NewLogin(login, digest_of(state), digest_of(cookie) if cookie else None)])
    return login


def add_app_login(db: Connection, state: str, *, app: AppRequest | None = None) -> Login:
    """A login that an app began."""
    app = app or AppRequest("app", "app:/callback", "challenge", state)
    login = Login(str(uuid.uuid4()), Provider.GOOGLE, LoginMode.APP, "key-1", NOW, later(HOUR), app)
    logins.add(db, [NewLogin(login, digest_of(state), None)])
    return login


def event(name: str = "login_succeeded", *, at: Millis = NOW, user_id: str | None = "user") -> AuditEvent:
    return AuditEvent(at, name, user_id=user_id)
