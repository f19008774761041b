"""Signing in: begin a login, and finish it when the person comes back from the provider.

Beginning writes nothing, and neither does failing, but for a line on record: only success uses a state up.
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

_OVERTAKING_SECONDS = (0.1, 0.3, 0.6)
CODE_SECONDS = 60
"""How long an authorization code of ours lives; RFC 6749, 4.1.2, allows ten minutes at most."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class BegunLogin:
    """A login that has begun. `cookie` is the value that its browser must bring back, when it is bound to one."""

    auth_url: str = field(repr=False)
    state: str = field(repr=False)
    expires_in: int
    cookie: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppAnswer:
    """The end of a login that an app began: what goes to its redirect, a code or the error."""

    app: AppRequest
    outcome: str | ProblemError = field(repr=False)


@dataclass(frozen=True, slots=True)
class FinishedAlready:
    """A callback that came again after its login had succeeded, in the browser that began it.

    `app` is what the app asked for, None where none did; `reason` is for the log.
    """

    app: AppRequest | None
    reason: str


@dataclass(frozen=True, slots=True)
class CallbackAnswer:
    """What the provider sent the browser back with (RFC 6749, 4.1.2; RFC 9207): a code, or an error."""

    state: str = field(repr=False)
    code: str | None = field(repr=False)
    error: str | None
    error_description: str | None = field(repr=False)
    issuer: str | None
    error_reason: str | None = None
    error_code: str | None = None
    """Further words about `error`, of a provider that has them."""


class _AlreadyUsed(Exception):
    """A login with this state has succeeded already: at `used_at`, or, where that is None, at this very moment."""

    def __init__(self, used_at: Millis | None = None) -> None:
        super().__init__()
        self.reason = f"state used already, {f'at {iso_time(used_at)}' if used_at else 'at the same moment'}"


class SignIn:
    """Logins of every configured provider and app. `clock` gives UTC milliseconds; `json_flow` is whether a login may
    do without a browser that is bound to it."""

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
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def configured(self) -> tuple[Provider, ...]:
        """The providers that people can choose from."""
        return tuple(self._providers)

    def answering(self, name: Provider) -> bool:
        """Whether a provider is configured, and not being spared because it kept failing."""
        return name in self._providers and self._providers[name].http.answering

    def asks_person(self, name: Provider) -> bool:
        """Whether the provider can be told to ask the person even when it knows them. Raises ProviderNotConfigured."""
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
        """Begin a login, for an app if it asks. With `ask_person`, a provider that can always asks the person, whatever
        the app `wishes`. `client` is whose login it is when no app asks; the first app's without.

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
        """Finish a login with what the provider sent back: recognise it, learn who it is, let them in.

        Only success uses the login up, and what comes after it changes nothing. Where an app began, it is also told the
        error. Raises InvalidState, without a word to the app, when the login is not this browser's, or is bound to
        none and has succeeded already; `absence` is why there is no cookie, for the log. Raises RedirectRefused when
        the app, or its redirect, was taken out of the settings since the login began.
        """
        provider = self._provider(name)
        opened = self._recognise(name, answer.state, cookie, absence)
        async with self._turn_of(opened.login):
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
        """The login that a state names, in the browser that began it.

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
        return open_state(self._keyring, state, name, self._clients.ids - {self._clients.first.id})

    def client_of(self, name: Provider, state: str, cookie: str | None) -> Client | None:
        """The app that began the login of a callback, as far as state and cookie tell."""
        opened = self._opened(state, name)
        if opened is None or cookie is None or opened.login.mode is LoginMode.JSON:
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

    def _turn_of(self, login: Login) -> asyncio.Lock:
        """Callbacks of one login have their turns: the later ones see what became of the first."""
        return self._turns.setdefault(login.id, asyncio.Lock())

    async def _finish(
        self, provider: IdentityProvider, opened: OpenedState, answer: CallbackAnswer
    ) -> TokenPair | AppAnswer:
        login = opened.login
        try:
            await self._check_unused(login)
            identity = await self._identify(provider, opened, answer)
            finished = await self._let_in(login, identity)
        except ProblemError as error:
            await self._check_not_overtaken(login, error)
            metrics.count_login(login.provider, error)
            await self._record_failure(login, error)
            if login.app is not None:
                return AppAnswer(login.app, error)
            raise
        metrics.count_login(login.provider)
        return finished

    async def _check_unused(self, login: Login) -> None:
        """Raises _AlreadyUsed or, only then, LoginExpired."""
        used_at = await self._database.read(logins.used_at, login.state_digest)
        if used_at is not None:
            raise _AlreadyUsed(used_at)
        if login.expires_at <= self._clock():
            raise LoginExpired(note=f"state expired at {iso_time(login.expires_at)}")

    async def _check_not_overtaken(self, login: Login, error: ProblemError) -> None:
        """Raises _AlreadyUsed when the login has failed here since another node finished it.

        A provider takes a code once. Where it refused, the other node may be about to commit: it is looked for a while.
        """
        if isinstance(error, DatabaseUnavailable):
            return  # to ask again would keep the person waiting as long again
        for pause in (0.0, *(_OVERTAKING_SECONDS if isinstance(error, ProviderRefused) else ())):
            await asyncio.sleep(pause)
            try:
                used_at = await self._database.read(logins.used_at, login.state_digest)
            except NexTargetError:
                return  # nobody knows: the failure is told as it is
            if used_at is not None:
                raise _AlreadyUsed(used_at)

    async def _identify(self, provider: IdentityProvider, opened: OpenedState, answer: CallbackAnswer) -> Identity:
        if answer.issuer is not None and answer.issuer not in provider.issuers:
            raise InvalidState(note="the callback names another issuer (RFC 9207, 2.4)")
        if answer.code is None or answer.error is not None:
            raise _provider_error(provider, answer)
        return await provider.identify(answer.code, login_secrets(opened.key, opened.state), self._clock())

    async def _let_in(self, login: Login, identity: Identity) -> TokenPair | AppAnswer:
        """One transaction, one commit: the state is used up with what it leads to."""
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
        """A code for the app: bound, in the login's row, to client, redirect, challenge and user."""
        user = accounts.let_in(db, identity, begun_at=login.begun_at, now=now)
        if not logins.use(db, login, user_id=user.id, code=code, now=now):
            raise _AlreadyUsed
        event = AuditEvent(now, "login_succeeded", login_id=login.id, request_id=request_id.get(), user_id=user.id)
        audit.record(db, event)
        return user

    async def _record_failure(self, login: Login, error: ProblemError) -> None:
        """In the log with all that is known; on record with words of ours alone, since strangers can cause it."""
        if isinstance(error, DatabaseUnavailable):
            return  # the database tells by itself, once for all who meet it
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
    """The error that a provider sent back with the person (RFC 6749, 4.1.2.1). Its own words are for the log."""
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
