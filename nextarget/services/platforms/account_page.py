"""The account page: a person without any app sees what is kept, ends sessions, and deletes the account.

Google Play demands such a page (https://support.google.com/googleplay/android-developer/answer/13327111). A visit of
the page has no row: its cookie is signed, and every request reads the user's row, which says whether the visit still
stands. So there is nothing to count, to list or to purge, and what ends the user's sessions ends the visit too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nextarget.errors import FormRefused, VisitEnded
from nextarget.model import Millis, RevocableGrant, Session, User
from nextarget.services import accounts
from nextarget.services.platforms import removals
from nextarget.services.platforms.revocations import AccountDeletion
from nextarget.services.sessions import Sessions, SignedInUser, end_all, end_one
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import users
from nextarget.telemetry import get_logger, metrics
from nextarget.tokens import visits
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.visits import VISIT_SECONDS, VisitToken

_NO_SESSION = ""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit that stands: the person, and what the page's forms contain."""

    user: User
    token: VisitToken = field(repr=False)

    @property
    def email(self) -> str | None:
        """The person's email; None if the provider gave none."""
        return None if self.user.email.endswith(f"@{users.FALLBACK_DOMAIN}") else self.user.email


class AccountPage:
    """`clock` returns UTC milliseconds."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        sessions_service: Sessions,
        deletion: AccountDeletion,
        clock: Callable[[], Millis],
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._sessions = sessions_service
        self._deletion = deletion
        self._clock = clock

    def open(self, user: User, grant: RevocableGrant | None = None) -> str:
        """The cookie of a new visit, right after a sign-in. It keeps what the sign-in gave to revoke."""
        expires_at = Millis(self._clock() + VISIT_SECONDS * 1000)
        return visits.mint(self._keyring, user, expires_at=expires_at, grant=grant)

    async def visit(self, cookie: str | None) -> Visit | None:
        """The visit of a cookie; None if there is none, or it has ended."""
        token = visits.read(self._keyring, cookie) if cookie is not None else None
        if token is None:
            return None
        user = await self._database.read(users.get, token.user_id)
        return Visit(user, token) if user is not None and token.is_of(user, self._clock()) else None

    async def acting(self, cookie: str | None, form_token: str) -> Visit:
        """The visit of a form. Raises VisitEnded, or FormRefused if the form is not of this visit."""
        visit = await self.visit(cookie)
        if visit is None:
            raise VisitEnded
        if not visit.token.accepts(form_token):
            raise FormRefused(note="the form's token is of another visit")
        return visit

    async def sessions(self, visit: Visit) -> list[Session]:
        """The person's active sessions, oldest first."""
        return await self._sessions.active(SignedInUser(visit.user, _NO_SESSION))

    async def end_session(self, visit: Visit, session_id: str) -> None:
        """End one session. One that has ended already, or is not of this user, changes nothing. Raises VisitEnded."""
        if await self._database.write(self._end_session, visit, session_id, now=self._clock()):
            metrics.count_account_page("session_ended")

    async def end_sessions(self, visit: Visit) -> str:
        """End all sessions, and logins and codes that could become sessions. This ends all visits too; the person goes
        on with the cookie that is returned, which lasts no longer than the one before. Raises VisitEnded."""
        user = await self._database.write(self._end_sessions, visit, now=self._clock())
        metrics.count_account_page("sessions_ended")
        return visits.mint(self._keyring, user, expires_at=visit.token.expires_at, grant=visit.token.grant)

    async def delete(self, visit: Visit) -> str:
        """Delete the account, and revoke at the provider what the sign-in gave for that. Returns a code for
        `Removals.status`. Raises VisitEnded."""
        code = removals.new_code()
        subject_digest = await self._database.write(self._delete, visit, code, now=self._clock())
        if subject_digest is not None:
            self._deletion.revoke(visit.user, subject_digest, visit.token.grant)
        metrics.count_account_page("deleted")
        log.info("account_deleted", user_id=visit.user.id, provider=visit.user.provider)
        return code

    @staticmethod
    def _end_session(db: Connection, visit: Visit, session_id: str, *, now: Millis) -> bool:
        return end_one(db, session_id, now=now, user_id=_locked(db, visit, now).id)

    @staticmethod
    def _end_sessions(db: Connection, visit: Visit, *, now: Millis) -> User:
        user = _locked(db, visit, now)
        end_all(db, user, now=now)
        return replace(user, sessions_ended_at=now)

    @staticmethod
    def _delete(db: Connection, visit: Visit, code: str, *, now: Millis) -> str | None:
        subject_digest = accounts.delete(db, _locked(db, visit, now), now=now, detail="on the account page")
        removals.remember(db, code, removals.Outcome.DELETED, now=now)
        return subject_digest


def _locked(db: Connection, visit: Visit, now: Millis) -> User:
    """The user, whose row is locked until the transaction ends. Raises VisitEnded if the visit ended meanwhile."""
    user = users.lock_row(db, visit.user.id)
    if user is None or not visit.token.is_of(user, now):
        raise VisitEnded
    return user
