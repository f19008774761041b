"""Signing in: begin a login, and finish it when the person comes back from the provider."""

import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nextarget.errors import (
    AccessDenied,
    InvalidState,
    NexTargetError,
    ProblemError,
    ProviderFailed,
    ProviderNotConfigured,
    ProviderUnavailable,
    UserDeactivated,
)
from nextarget.model import (
    AppRequest,
    AuditEvent,
    Identity,
    Login,
    LoginMode,
    Millis,
    Provider,
    TokenPair,
    User,
)
from nextarget.providers.base import IdentityProvider, oauth_note
from nextarget.services import accounts
from nextarget.services.sessions import Sessions
from nextarget.storage import audit, logins
from nextarget.storage.database import Connection, Database
from nextarget.storage.logins import NewLogin
from nextarget.telemetry import get_logger, login_id, metrics, request_id
from nextarget.tokens.encoding import digest
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.login import login_secrets, new_state

LOGIN_SECONDS = 600
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
class CallbackAnswer:
    """What the provider sent the browser back with (RFC 6749, 4.1.2; RFC 9207): a code, or an error."""

    state: str = field(repr=False)
    code: str | None = field(repr=False)
    error: str | None
    error_description: str | None = field(repr=False)
    issuer: str | None


class SignIn:
    """Logins of every configured provider. `clock` gives UTC milliseconds."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[Provider, IdentityProvider],
        keyring: Keyring,
        sessions: Sessions,
        clock: Callable[[], Millis],
    ) -> None:
        self._database = database
        self._providers = providers
        self._keyring = keyring
        self._sessions = sessions
        self._clock = clock

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

    async def begin(
        self, name: Provider, mode: LoginMode, *, app: AppRequest | None = None, ask_person: bool = False
    ) -> BegunLogin:
        """Begin a login, for an app if it asks. With `ask_person`, a provider that can always asks the person.

        Raises ProviderNotConfigured.
        """
        provider = self._provider(name)
        now = self._clock()
        key = self._keyring.current
        state = new_state()
        cookie = secrets.token_urlsafe(32) if mode is not LoginMode.JSON else None
        login = Login(str(uuid.uuid4()), name, mode, key.id, now, Millis(now + LOGIN_SECONDS * 1000), app)
        login_id.set(login.id)
        new = NewLogin(login, digest(state), digest(cookie) if cookie else None)
        await self._database.write_together(logins.add, new)
        auth_url = provider.authorization_url(login_secrets(key, state), ask_person=ask_person)
        return BegunLogin(auth_url, state, LOGIN_SECONDS, cookie)

    async def finish(self, name: Provider, answer: CallbackAnswer, *, cookie: str | None) -> TokenPair | AppAnswer:
        """Finish a login with what the provider sent back: consume it, learn who it is, admit them.

        Whatever the answer is, error or code, it uses the login up. Where an app began, it is also told the error.
        """
        provider = self._provider(name)
        login = await self._consume(name, answer.state, cookie)
        login_id.set(login.id)
        try:
            identity = await self._identify(provider, login, answer)
            finished: TokenPair | AppAnswer
            if login.app is not None:
                finished = AppAnswer(login.app, await self._grant_code(login, identity))
            else:
                finished = await self._open_session(login, identity)
        except ProblemError as error:
            metrics.count_login(name, error)
            await self._record_failure(login, error)
            if login.app is not None:
                return AppAnswer(login.app, error)
            raise
        metrics.count_login(name)
        return finished

    def _provider(self, name: Provider) -> IdentityProvider:
        if name not in self._providers:
            raise ProviderNotConfigured
        return self._providers[name]

    async def _consume(self, name: Provider, state: str, cookie: str | None) -> Login:
        login = await self._database.write(
            logins.consume,
            state_digest=digest(state),
            provider=name,
            cookie_digest=digest(cookie) if cookie else None,
            now=self._clock(),
        )
        if login is None:
            raise InvalidState
        return login

    async def _identify(self, provider: IdentityProvider, login: Login, answer: CallbackAnswer) -> Identity:
        if answer.issuer is not None and answer.issuer not in provider.issuers:
            raise InvalidState(note="the callback names another issuer (RFC 9207, 2.4)")
        if answer.code is None or answer.error is not None:
            raise _provider_error(answer)
        key = self._keyring.get(login.key_id)
        if key is None:
            raise InvalidState(note="the secret that began this login is no longer listed")
        return await provider.identify(answer.code, login_secrets(key, answer.state), self._clock())

    async def _open_session(self, login: Login, identity: Identity) -> TokenPair:
        now = self._clock()
        user, session = await self._database.write(
            accounts.sign_in, identity, self._sessions, label=None, now=now, login_id=login.id
        )
        if session is None:
            raise UserDeactivated
        log.info("login_succeeded", provider=login.provider.value, user_id=user.id, session_id=session.id)
        return self._sessions.pair(user, session, now)

    async def _grant_code(self, login: Login, identity: Identity) -> str:
        """An authorization code for the app: bound, in the login's row, to client, redirect, challenge and user."""
        code = secrets.token_urlsafe(32)
        user = await self._database.write(self._admit_and_grant, login, identity, digest(code), now=self._clock())
        if not user.is_active:
            raise UserDeactivated
        log.info("login_succeeded", provider=login.provider.value, user_id=user.id)
        return code

    @staticmethod
    def _admit_and_grant(db: Connection, login: Login, identity: Identity, code_digest: str, *, now: Millis) -> User:
        user = accounts.admit(db, identity, now=now)
        if user.is_active:
            expires_at = Millis(now + CODE_SECONDS * 1000)
            logins.grant_code(db, login.id, user_id=user.id, code_digest=code_digest, expires_at=expires_at)
            audit.record(
                db, AuditEvent(now, "login_succeeded", login_id=login.id, request_id=request_id.get(), user_id=user.id)
            )
        return user

    async def _record_failure(self, login: Login, error: ProblemError) -> None:
        reason = error.note or error.title
        log.warning("login_failed", provider=login.provider.value, code=error.code, reason=reason)
        event = AuditEvent(
            self._clock(),
            "login_failed",
            login_id=login.id,
            request_id=request_id.get(),
            detail=f"{error.code}: {reason}",
        )
        try:
            await self._database.write(audit.record, event)
        except NexTargetError as failure:
            log.warning("audit_failed", reason=failure.note)


def _provider_error(answer: CallbackAnswer) -> ProblemError:
    """The error that a provider sent back with the person (RFC 6749, 4.1.2.1). Its own words are for the log."""
    note = oauth_note(answer.error, answer.error_description)
    match answer.error:
        case "access_denied":
            return AccessDenied(note=note)
        case "temporarily_unavailable" | "server_error":
            return ProviderUnavailable(note=note)
        case _:
            return ProviderFailed(note=note)
