"""How a login ends: with a session or a code, or with an error.

Success uses the state of the login up. A failure writes only an audit event.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from nextarget.errors import (
    DatabaseUnavailable,
    LoginExpired,
    NexTargetError,
    ProblemError,
    ProviderRefused,
)
from nextarget.model import (
    AppRequest,
    AuditEvent,
    AuthorizationCode,
    Identity,
    Login,
    LoginMode,
    Millis,
    RevocableGrant,
    Session,
    TokenPair,
    User,
    iso_time,
)
from nextarget.services import accounts
from nextarget.services.refusals import record_refusal
from nextarget.services.sessions import Sessions
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, logins
from nextarget.telemetry import get_logger, metrics, request_id
from nextarget.tokens.encoding import digest

OTHER_NODE_PAUSES = (0.1, 0.3, 0.6)
"""Pauses before reading again whether another node has finished the same login."""
CODE_SECONDS = 60
"""How long our authorization code is valid. RFC 6749, 4.1.2 recommends at most ten minutes."""

AT_ACCOUNT_PAGE = "account page"
"""The detail of a `login_succeeded` that opened a visit to the account page."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class AppAnswer:
    """The end of a login that an app began. `outcome` is the code or the error, which goes to the app's redirect."""

    app: AppRequest
    outcome: str | ProblemError = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccountAnswer:
    """The end of a login at the account page. `outcome` is the user, the error, or None for a person who has no account
    here. Nothing is written about such a person. `grant` is what the sign-in gave to revoke at the provider, if it
    did."""

    outcome: User | ProblemError | None
    grant: RevocableGrant | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class FinishedAlready:
    """The browser that began a login repeated the callback after the login had succeeded.

    `app` is the request of the app, or None if no app began the login. `reason` is for the log.
    """

    app: AppRequest | None
    mode: LoginMode
    reason: str


class AlreadyUsed(Exception):
    """A login with this state has already succeeded, at `used_at`. None means that another request succeeded while this
    one was in progress."""

    def __init__(self, used_at: Millis | None = None) -> None:
        super().__init__()
        self.reason = f"state used already, {f'at {iso_time(used_at)}' if used_at else 'at the same moment'}"


class LoginOutcomes:
    """Stores and logs how logins end. `clock` returns UTC milliseconds. A login without an app of its own belongs to
    `first_client_id`."""

    def __init__(
        self, database: Database, sessions: Sessions, clock: Callable[[], Millis], *, first_client_id: str
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._clock = clock
        self._first_client_id = first_client_id

    async def check_unused(self, login: Login) -> None:
        """Raises AlreadyUsed if the state was used, also if it has expired since. Raises LoginExpired if the state was
        not used and has expired."""
        used_at = await self._database.read(logins.used_at, login.state_digest)
        if used_at is not None:
            raise AlreadyUsed(used_at)
        if login.expires_at <= self._clock():
            raise LoginExpired(note=f"state expired at {iso_time(login.expires_at)}")

    async def let_in(
        self, login: Login, identity: Identity, grant: RevocableGrant | None = None
    ) -> TokenPair | AppAnswer | AccountAnswer:
        """Use the state up, and make the session or the code. Both happen in one transaction with one commit. A login
        at the account page makes neither; it passes `grant` on."""
        now = self._clock()
        if login.mode is LoginMode.ACCOUNT:
            return AccountAnswer(await self._to_account_page(login, identity, now), grant)
        if login.app is None:
            user, session = await self._database.write(self._open_session, login, identity, now=now)
            _report_success(login, user, session_id=session.id)
            return self._sessions.pair(user, session, now)
        code = secrets.token_urlsafe(32)
        granted = AuthorizationCode(digest(code), Millis(now + CODE_SECONDS * 1000))
        user = await self._database.write(self._grant_code, login, identity, granted, now=now)
        _report_success(login, user)
        return AppAnswer(login.app, code)

    async def _to_account_page(self, login: Login, identity: Identity, now: Millis) -> User | None:
        user = await self._database.write(self._recognise, login, identity, now=now)
        if user is None:
            metrics.count_account_page("no_account")
            log.info("login_without_account", provider=login.provider)
        else:
            _report_success(login, user, at=AT_ACCOUNT_PAGE)
        return user

    @staticmethod
    def _recognise(db: Connection, login: Login, identity: Identity, *, now: Millis) -> User | None:
        """The user, and the state used up. Of a person without an account not even the state is stored."""
        user = accounts.recognise(db, identity, begun_at=login.begun_at)
        if user is None:
            return None
        if not logins.use(db, login, user_id=user.id, now=now):
            raise AlreadyUsed
        event = AuditEvent(
            now,
            "login_succeeded",
            login_id=login.id,
            request_id=request_id.get(),
            user_id=user.id,
            detail=AT_ACCOUNT_PAGE,
        )
        audit.record(db, event)
        return user

    def _open_session(self, db: Connection, login: Login, identity: Identity, *, now: Millis) -> tuple[User, Session]:
        user, session = accounts.sign_in(
            db,
            identity,
            self._sessions,
            client_id=login.client_id or self._first_client_id,
            label=None,
            begun_at=login.begun_at,
            now=now,
            login_id=login.id,
        )
        if not logins.use(db, login, user_id=user.id, session_id=session.id, now=now):
            raise AlreadyUsed
        return user, session

    @staticmethod
    def _grant_code(db: Connection, login: Login, identity: Identity, code: AuthorizationCode, *, now: Millis) -> User:
        """Store a code for the app. The row of the login binds it to client, redirect, challenge and user."""
        user = accounts.let_in(db, identity, begun_at=login.begun_at, now=now)
        if not logins.use(db, login, user_id=user.id, code=code, now=now):
            raise AlreadyUsed
        event = AuditEvent(now, "login_succeeded", login_id=login.id, request_id=request_id.get(), user_id=user.id)
        audit.record(db, event)
        return user

    async def fail(self, login: Login, error: ProblemError) -> None:
        """Count and record the failure of a callback. Raises AlreadyUsed if the login did not fail, because another
        node has finished it."""
        await self._check_not_finished_elsewhere(login, error)
        metrics.count_login(login.provider, error)
        await self._record_failure(login, error)

    async def _check_not_finished_elsewhere(self, login: Login, error: ProblemError) -> None:
        """Raises AlreadyUsed if this callback failed because another node has finished the same login.

        A provider accepts its code only once. If it refused the code here, the other node may not have committed yet,
        so this method reads a few more times, with pauses between the reads.
        """
        if isinstance(error, DatabaseUnavailable):
            return  # another read would make the person wait for one more timeout
        for pause in (0.0, *(OTHER_NODE_PAUSES if isinstance(error, ProviderRefused) else ())):
            await asyncio.sleep(pause)
            try:
                used_at = await self._database.read(logins.used_at, login.state_digest)
            except NexTargetError:
                return  # unknown, so the caller reports the failure as it is
            if used_at is not None:
                raise AlreadyUsed(used_at)

    async def _record_failure(self, login: Login, error: ProblemError) -> None:
        """Write the failure to the log with all details, and to the audit record without words from outside, because
        strangers can cause failures."""
        if isinstance(error, DatabaseUnavailable):
            return  # an outage of the database has its own log line, one for all requests
        facts = {"user_id": error.user_id} if error.user_id else {}
        if login.app is not None:
            facts["client_id"] = login.app.client_id
        reason = error.note or error.title
        log.warning("login_failed", provider=login.provider, code=error.code, reason=reason, **facts)
        error.logged = True
        await record_refusal(self._database, error, self._clock(), login_id=login.id)


def _report_success(login: Login, user: User, **facts: str) -> None:
    metrics.count_login(login.provider)
    log.info("login_succeeded", provider=login.provider, user_id=user.id, **facts)
