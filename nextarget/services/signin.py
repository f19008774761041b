"""Signing in: begin a login, and finish it when the person comes back from the provider.

To begin a login writes nothing to the database. What its end writes is in `login_outcomes`.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

from nextarget.errors import (
    AccessDenied,
    InvalidState,
    JsonFlowOff,
    ProblemError,
    ProviderFailed,
    ProviderNotConfigured,
    ProviderUnavailable,
)
from nextarget.model import (
    NO_WISHES,
    AppRequest,
    Client,
    Identity,
    Login,
    LoginMode,
    Millis,
    Provider,
    RevocableGrant,
    TokenPair,
    Wishes,
)
from nextarget.providers.base import IdentityProvider, Revokes
from nextarget.providers.error_words import oauth_note
from nextarget.registry import PROVIDERS
from nextarget.services.clients import Clients
from nextarget.services.login_outcomes import AccountAnswer, AlreadyUsed, AppAnswer, FinishedAlready, LoginOutcomes
from nextarget.services.sessions import Sessions
from nextarget.storage.engines.database import Database
from nextarget.telemetry import login_id
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


@dataclass(frozen=True, slots=True)
class BegunLogin:
    """A login that has begun. `cookie` is the value that the browser must send with the callback; None if the login is
    not bound to a browser. `expires_in` is in seconds."""

    auth_url: str = field(repr=False)
    state: str = field(repr=False)
    expires_in: int
    cookie: str | None = field(repr=False)


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
        self._providers = providers
        self._keyring = keyring
        self._outcomes = LoginOutcomes(database, sessions, clock, first_client_id=clients.first.id)
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
    ) -> TokenPair | AppAnswer | AccountAnswer | FinishedAlready:
        """Finish a login: open the state, ask the provider who signed in, and begin a session or make a code.

        Only success uses the state up; a later callback with the same state changes nothing. If an app began the login,
        its errors go to the app too, as an AppAnswer; those of the account page are an AccountAnswer. Two errors are
        not:

        - InvalidState: another browser began the login; or the login is not bound to a browser, and has succeeded
          already. `absence` says for the log why there is no cookie.
        - RedirectRefused: the app or its redirect was removed from the settings after the login began.
        """
        provider = self._provider(name)
        opened = self._recognise(name, answer.state, cookie, absence)
        async with self._lock_of(opened.login):
            try:
                return await self._finish(provider, opened, answer)
            except AlreadyUsed as used:
                if opened.login.mode is LoginMode.JSON:
                    raise InvalidState(note=used.reason) from None
                return FinishedAlready(opened.login.app, opened.login.mode, used.reason)

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

    def login_of(self, name: Provider, state: str, cookie: str | None) -> Login | None:
        """The login of a callback, if state and cookie prove that this browser began it."""
        if cookie is None:
            return None
        opened = self._opened(state, name)
        if opened is None or opened.login.mode is LoginMode.JSON:
            return None
        try:
            app = unseal(opened, cookie)
        except ValueError:
            return None
        return replace(opened.login, app=app)

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
    ) -> TokenPair | AppAnswer | AccountAnswer:
        login = opened.login
        try:
            await self._outcomes.check_unused(login)
            identity, grant = await self._identify(provider, opened, answer)
            return await self._outcomes.let_in(login, identity, grant)
        except ProblemError as error:
            await self._outcomes.fail(login, error)
            if login.app is not None:
                return AppAnswer(login.app, error)
            if login.mode is LoginMode.ACCOUNT:
                return AccountAnswer(error)
            raise

    async def _identify(
        self, provider: IdentityProvider, opened: OpenedState, answer: CallbackAnswer
    ) -> tuple[Identity, RevocableGrant | None]:
        """Who signed in. At the account page also what revokes the grant, for a person who then deletes the account."""
        if answer.issuer is not None and answer.issuer not in provider.issuers:
            raise InvalidState(note="the callback names another issuer (RFC 9207, 2.4)")
        if answer.code is None or answer.error is not None:
            raise _provider_error(provider, answer)
        secrets = login_secrets(opened.key, opened.state)
        if opened.login.mode is LoginMode.ACCOUNT and isinstance(provider, Revokes):
            return await provider.identify_to_revoke(answer.code, secrets, self._clock())
        return await provider.identify(answer.code, secrets, self._clock()), None


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
