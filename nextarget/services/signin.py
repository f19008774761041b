"""Signing in: begin a login, and finish it when the person comes back from the provider.

To begin a login writes nothing to the database. A login that fails writes only an audit event. Only a login that
succeeds uses its state up.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

from nextarget.errors import (
    AccessDenied,
    DatabaseUnavailable,
    InvalidState,
    JsonFlowOff,
    LoginExpired,
    NexTargetError,
    ProblemError,
    ProviderFailed,
    ProviderNotConfigured,
    ProviderRefused,
    ProviderUnavailable,
)
from nextarget.model import (
    NO_WISHES,
    AppRequest,
    AuditEvent,
    AuthorizationCode,
    Client,
    Identity,
    Login,
    LoginMode,
    Millis,
    Provider,
    Session,
    TokenPair,
    User,
    Wishes,
    iso_time,
)
from nextarget.providers.base import IdentityProvider, oauth_note
from nextarget.registry import PROVIDERS
from nextarget.services import accounts
from nextarget.services.clients import Clients
from nextarget.services.refusals import record_refusal
from nextarget.services.sessions import Sessions
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, logins
from nextarget.telemetry import get_logger, login_id, metrics, request_id
from nextarget.tokens.encoding import digest
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.login import (
    LOGIN_SECONDS,
    OpenedState,
    login_secrets,
    new_state,
    open_state,
    seal,
    unseal,
)
from nextarget.tokens.login import login_id as id_of

OTHER_NODE_PAUSES = (0.1, 0.3, 0.6)
"""Pauses before reading again whether another node has finished the same login."""
CODE_SECONDS = 60
"""How long our authorization code is valid. RFC 6749, 4.1.2 recommends at most ten minutes."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class BegunLogin:
    """A login that has begun. `cookie` is the value that the browser must send with the callback; None if the login is
    not bound to a browser. `expires_in` is in seconds."""

    auth_url: str = field(repr=False)
    state: str = field(repr=False)
    expires_in: int
    cookie: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppAnswer:
    """The end of a login that an app began. `outcome` is the code or the error, which goes to the app's redirect."""

    app: AppRequest
    outcome: str | ProblemError = field(repr=False)


@dataclass(frozen=True, slots=True)
class FinishedAlready:
    """The browser that began a login repeated the callback after the login had succeeded.

    `app` is the request of the app, or None if no app began the login. `reason` is for the log.
    """

    app: AppRequest | None
    reason: str


@dataclass(frozen=True, slots=True)
class CallbackAnswer:
    """The parameters of a callback from the provider (RFC 6749, 4.1.2; RFC 9207): a code or an error."""

    state: str = field(repr=False)
    code: str | None = field(repr=False)
    error: str | None
    error_description: str | None = field(repr=False)
    issuer: str | None
    error_reason: str | None = None
    error_code: str | None = None
    """`error_reason` and `error_code` give details of `error`. Facebook sends them."""


class _AlreadyUsed(Exception):
    """A login with this state has already succeeded, at `used_at`. None means that another request succeeded while this
    one was in progress."""

    def __init__(self, used_at: Millis | None = None) -> None:
        super().__init__()
        self.reason = f"state used already, {f'at {iso_time(used_at)}' if used_at else 'at the same moment'}"


class SignIn:
    """The service for logins, with all configured providers and apps.

    `clock` returns UTC milliseconds. `json_flow` is whether LoginMode.JSON is allowed: such a login is not bound to a
    browser.
    """

    def __init__(
        self,
        database: Database,
        providers: Mapping[Provider, IdentityProvider],
        keyring: Keyring,
        sessions: Sessions,
        clock: Callable[[], Millis],
        *,
        clients: Clients,
        json_flow: bool = True,
    ) -> None:
        self._database = database
        self._providers = providers
        self._keyring = keyring
        self._sessions = sessions
        self._clients = clients
        self._clock = clock
        self._json_flow = json_flow
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def configured(self) -> tuple[Provider, ...]:
        """The configured providers, from which a person can choose."""
        return tuple(self._providers)

    def answering(self, name: Provider) -> bool:
        """Whether a provider is configured, and its circuit breaker lets requests through."""
        return name in self._providers and self._providers[name].http.answering

    def asks_person(self, name: Provider) -> bool:
        """Whether the provider can be told to show its page even to a person who is signed in there. Raises
        ProviderNotConfigured."""
        return self._provider(name).asks_person

    def begin(
        self,
        name: Provider,
        mode: LoginMode,
        *,
        app: AppRequest | None = None,
        client: Client | None = None,
        ask_person: bool = False,
        wishes: Wishes = NO_WISHES,
    ) -> BegunLogin:
        """Begin a login. `app` is the request of an app to `/auth/authorize`, if there is one.

        `ask_person` tells the provider to show its page to the person in any case, if the provider can do that
        (`asks_person`); the app's `wishes` do not change it. `client` is the app of a login without `app`; None means
        the first app.

        Raises ProviderNotConfigured or JsonFlowOff.
        """
        provider = self._provider(name)
        if mode is LoginMode.JSON and not self._json_flow:
            raise JsonFlowOff
        key = self._keyring.current
        client_id = self._clients.further_id(client) if client else None
        state = new_state(key, name, mode, now=self._clock(), client_id=client_id)
        login_id.set(id_of(state))
        auth_url = provider.authorization_url(login_secrets(key, state), ask_person=ask_person, wishes=wishes)
        cookie = seal(key, state, app) if mode is not LoginMode.JSON else None
        return BegunLogin(auth_url, state, LOGIN_SECONDS, cookie)

    async def finish(
        self, name: Provider, answer: CallbackAnswer, *, cookie: str | None, absence: str = "cookie missing"
    ) -> TokenPair | AppAnswer | FinishedAlready:
        """Finish a login: open the state, ask the provider who signed in, and begin a session or make a code.

        Only success uses the state up; a later callback with the same state changes nothing. If an app began the login,
        its errors go to the app too, as an AppAnswer. Two errors do not:

        - InvalidState: another browser began the login; or the login is not bound to a browser, and has succeeded
          already. `absence` says for the log why there is no cookie.
        - RedirectRefused: the app or its redirect was removed from the settings after the login began.
        """
        provider = self._provider(name)
        opened = self._recognise(name, answer.state, cookie, absence)
        async with self._lock_of(opened.login):
            try:
                return await self._finish(provider, opened, answer)
            except _AlreadyUsed as used:
                if opened.login.mode is LoginMode.JSON:
                    raise InvalidState(note=used.reason) from None
                return FinishedAlready(opened.login.app, used.reason)

    def _provider(self, name: Provider) -> IdentityProvider:
        if name not in self._providers:
            raise ProviderNotConfigured
        return self._providers[name]

    def _recognise(self, name: Provider, state: str, cookie: str | None, absence: str) -> OpenedState:
        """Open the state, and check that this browser began the login.

        Raises InvalidState, JsonFlowOff or RedirectRefused.
        """
        opened = self._opened(state, name)
        if opened is None:
            raise InvalidState(note=self._why_unknown(name, state))
        login_id.set(opened.login.id)
        if opened.login.mode is LoginMode.JSON:
            if not self._json_flow:
                raise JsonFlowOff
            return opened
        if cookie is None:
            raise InvalidState(note=absence)
        try:
            app = unseal(opened, cookie)
        except ValueError:
            note = "cookie of another login, or of a secret that is no longer listed"
            raise InvalidState(note=note) from None
        if app is not None:
            self._clients.check(app.client_id, app.redirect_uri)
        return replace(opened, login=replace(opened.login, app=app))

    def _opened(self, state: str, name: Provider) -> OpenedState | None:
        return open_state(self._keyring, state, name, self._clients.further_ids)

    def client_of(self, name: Provider, state: str, cookie: str | None) -> Client | None:
        """The app that began the login of a callback; None if state and cookie do not name one."""
        if cookie is None:
            return None
        opened = self._opened(state, name)
        if opened is None or opened.login.mode is LoginMode.JSON:
            return None
        try:
            app = unseal(opened, cookie)
        except ValueError:
            return None
        return self._clients.get(app.client_id) if app else None

    def _why_unknown(self, name: Provider, state: str) -> str:
        for other in PROVIDERS:
            if other != name and (opened := self._opened(state, other)) is not None:
                login_id.set(opened.login.id)
                return f"state of another provider: {other}"
        return "state unknown: not made here, or its secret is not listed"

    def _lock_of(self, login: Login) -> asyncio.Lock:
        """A lock for the callbacks of one login in this process. A second callback waits until the first has ended, and
        then sees whether the login succeeded."""
        return self._locks.setdefault(login.id, asyncio.Lock())

    async def _finish(
        self, provider: IdentityProvider, opened: OpenedState, answer: CallbackAnswer
    ) -> TokenPair | AppAnswer:
        login = opened.login
        try:
            await self._check_unused(login)
            identity = await self._identify(provider, opened, answer)
            finished = await self._let_in(login, identity)
        except ProblemError as error:
            await self._check_not_finished_elsewhere(login, error)
            metrics.count_login(login.provider, error)
            await self._record_failure(login, error)
            if login.app is not None:
                return AppAnswer(login.app, error)
            raise
        metrics.count_login(login.provider)
        return finished

    async def _check_unused(self, login: Login) -> None:
        """Raises _AlreadyUsed if the state was used, also if it has expired since. Raises LoginExpired if the state was
        not used and has expired."""
        used_at = await self._database.read(logins.used_at, login.state_digest)
        if used_at is not None:
            raise _AlreadyUsed(used_at)
        if login.expires_at <= self._clock():
            raise LoginExpired(note=f"state expired at {iso_time(login.expires_at)}")

    async def _check_not_finished_elsewhere(self, login: Login, error: ProblemError) -> None:
        """Raises _AlreadyUsed if this callback failed because another node has finished the same login.

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
                raise _AlreadyUsed(used_at)

    async def _identify(self, provider: IdentityProvider, opened: OpenedState, answer: CallbackAnswer) -> Identity:
        if answer.issuer is not None and answer.issuer not in provider.issuers:
            raise InvalidState(note="the callback names another issuer (RFC 9207, 2.4)")
        if answer.code is None or answer.error is not None:
            raise _provider_error(provider, answer)
        return await provider.identify(answer.code, login_secrets(opened.key, opened.state), self._clock())

    async def _let_in(self, login: Login, identity: Identity) -> TokenPair | AppAnswer:
        """Use the state up, and make the session or the code. Both happen in one transaction with one commit."""
        now = self._clock()
        if login.app is None:
            user, session = await self._database.write(self._open_session, login, identity, now=now)
            _log_success(login, user, session_id=session.id)
            return self._sessions.pair(user, session, now)
        code = secrets.token_urlsafe(32)
        granted = AuthorizationCode(digest(code), Millis(now + CODE_SECONDS * 1000))
        user = await self._database.write(self._grant_code, login, identity, granted, now=now)
        _log_success(login, user)
        return AppAnswer(login.app, code)

    def _open_session(self, db: Connection, login: Login, identity: Identity, *, now: Millis) -> tuple[User, Session]:
        user, session = accounts.sign_in(
            db,
            identity,
            self._sessions,
            client_id=login.client_id or self._clients.first.id,
            label=None,
            begun_at=login.begun_at,
            now=now,
            login_id=login.id,
        )
        if not logins.use(db, login, user_id=user.id, session_id=session.id, now=now):
            raise _AlreadyUsed
        return user, session

    @staticmethod
    def _grant_code(db: Connection, login: Login, identity: Identity, code: AuthorizationCode, *, now: Millis) -> User:
        """Store a code for the app. The row of the login binds it to client, redirect, challenge and user."""
        user = accounts.let_in(db, identity, begun_at=login.begun_at, now=now)
        if not logins.use(db, login, user_id=user.id, code=code, now=now):
            raise _AlreadyUsed
        event = AuditEvent(now, "login_succeeded", login_id=login.id, request_id=request_id.get(), user_id=user.id)
        audit.record(db, event)
        return user

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
        error.told = True
        await record_refusal(self._database, error, self._clock(), login_id=login.id)


def _log_success(login: Login, user: User, **facts: str) -> None:
    log.info("login_succeeded", provider=login.provider, user_id=user.id, **facts)


def _provider_error(provider: IdentityProvider, answer: CallbackAnswer) -> ProblemError:
    """Our error for the error in a callback (RFC 6749, 4.1.2.1). The provider's own words go only to the log."""
    more = (answer.error_reason, answer.error_code)
    note = oauth_note(answer.error, answer.error_description, *more, known=provider.error_words)
    for word in (answer.error_reason, answer.error_code, answer.error):
        if word is not None and word in provider.meanings:
            return provider.meanings[word](note=note)
    match answer.error:
        case "access_denied":
            return AccessDenied(note=note)
        case "temporarily_unavailable" | "server_error":
            return ProviderUnavailable(note=note)
        case _:
            return ProviderFailed(note=note)
