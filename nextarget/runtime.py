"""Makes the services and what they need from the settings. Both the web server and the terminal use it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nextarget.checking import private_key_of
from nextarget.model import Millis, Provider, iso_time
from nextarget.registry import PROVIDERS, offered
from nextarget.services.authorization import CodeRedemption
from nextarget.services.clients import Clients
from nextarget.services.sessions import SessionRules, Sessions
from nextarget.services.signing import first_use_of_any
from nextarget.settings import Settings, TokenSettings
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Database
from nextarget.storage.upkeep.schema import migrate
from nextarget.telemetry import get_logger
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.keyring import Keyring

if TYPE_CHECKING:  # network code is imported only where it is used: so the terminal starts in two thirds of the time
    from nextarget.providers.base import IdentityProvider
    from nextarget.providers.http.client import ProviderHttp
    from nextarget.services.native import NativeSignIn
    from nextarget.services.platforms.account_page import AccountPage
    from nextarget.services.platforms.events import Events
    from nextarget.services.platforms.removals import Removals
    from nextarget.services.platforms.revocations import AccountDeletion
    from nextarget.services.signin import SignIn
    from nextarget.telemetry.tracing import Tracing


def utc_now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


@dataclass(frozen=True, slots=True)
class Signing:
    """The keys, the access tokens and the service for sessions: all that `issue-token` needs."""

    keyring: Keyring
    access_tokens: AccessTokens
    sessions: Sessions


def signing(
    settings: Settings | TokenSettings, database: Database, clock: Callable[[], Millis], *, client_ids: frozenset[str]
) -> Signing:
    """`client_ids` are the apps whose tokens are valid. Raises ConfigurationError if the private key cannot be read."""
    private_key = private_key_of(settings.jwt_private_key_file, settings.jwt_algorithm)
    keyring = Keyring(settings.jwt_secret_key, settings.jwt_previous_secret_keys, private_key)
    access_tokens = AccessTokens(
        keyring,
        issuer=settings.public_url,
        audience=settings.jwt_audience or settings.public_url,
        client_ids=client_ids,
    )
    rules = SessionRules(
        client_ids=client_ids,
        access_lifetime=settings.access_token_exp_minutes * 60,
        idle_days=settings.refresh_token_exp_days,
        reuse_window=settings.refresh_reuse_window_seconds,
    )
    return Signing(keyring, access_tokens, Sessions(database, keyring, access_tokens, rules, clock))


@dataclass(frozen=True, slots=True)
class Online:
    """The services that only the server needs. Most of them send requests to providers."""

    sign_in: "SignIn"
    native: "NativeSignIn"
    removals: "Removals"
    deletion: "AccountDeletion"
    account_page: "AccountPage"
    events: "Events"


class Runtime:
    """Everything that the server needs except the network. `online()` adds what sign-in needs."""

    def __init__(self, settings: Settings, *, migrates: bool = True) -> None:
        """`migrates` is false if another process has already migrated the database to this schema."""
        self.settings = settings
        self._migrates = migrates
        self.clock = utc_now
        self.database = database_at(settings.database_url, pool_size=settings.database_pool_size)
        self.clients = Clients(settings.clients)
        self.offered = offered(settings.providers)
        signs = signing(settings, self.database, self.clock, client_ids=self.clients.ids)
        self.keyring, self.access_tokens, self.sessions = signs.keyring, signs.access_tokens, signs.sessions
        self.codes = CodeRedemption(self.database, self.sessions, self.clock)

    @cached_property
    def tracing(self) -> "Tracing | None":
        """The exporter of traces, or None if no endpoint is set. `online()` closes it."""
        endpoint = self.settings.otel_exporter_otlp_endpoint
        if endpoint is None:
            return None
        from nextarget.telemetry.tracing import Tracing

        return Tracing(endpoint)

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers reach this server over https, so that cookies can be `Secure`."""
        return self.settings.public_url.startswith("https://")

    @asynccontextmanager
    async def online(self) -> AsyncIterator[Online]:
        """Migrate the database if this process has to, open it, and open one HTTP session for every provider.

        Raises SchemaError or DatabaseUnavailable.
        """
        from nextarget.services.native import NativeSignIn
        from nextarget.services.platforms.account_page import AccountPage
        from nextarget.services.platforms.events import Events
        from nextarget.services.platforms.removals import Removals
        from nextarget.services.platforms.revocations import AccountDeletion
        from nextarget.services.signin import SignIn

        if self._migrates:
            migrate(self.database)
        self.database.open()
        try:
            await self._retire_secret()
            async with self._pools() as asking, AsyncExitStack() as stack:
                providers = self._providers(asking)
                deletion = AccountDeletion(self.database, providers, self.clock)
                stack.push_async_callback(deletion.close)
                yield Online(
                    SignIn(
                        self.database,
                        providers,
                        self.keyring,
                        self.sessions,
                        self.clock,
                        clients=self.clients,
                        json_flow=self.settings.json_flow,
                    ),
                    NativeSignIn(self.database, providers, self.keyring, self.sessions, self.clock),
                    Removals(self.database, providers, self.keyring, self.clock),
                    deletion,
                    AccountPage(self.database, self.keyring, self.sessions, deletion, self.clock),
                    Events(self.database, providers, self.clock),
                )
        finally:
            self.database.close()
            if self.tracing is not None:
                await asyncio.to_thread(self.tracing.close)

    async def _retire_secret(self) -> None:
        """If a private key signs: from one day after the first use of a private key, refuse tokens that the secret
        signed."""
        key = self.keyring.jwt_key
        if key.is_secret:
            return
        first_use = await first_use_of_any(self.database, key.id, now=self.clock())
        get_logger().info("secret_tokens_end", at=iso_time(self.access_tokens.private_key_since(first_use)))

    @asynccontextmanager
    async def _pools(self) -> "AsyncIterator[dict[Provider, ProviderHttp]]":
        """One HTTP session for every provider, so that a provider that hangs does not delay the others. All of them use
        the same proxy, if one is set."""
        from nextarget.providers.http.client import ProviderHttp, open_session
        from nextarget.providers.http.proxy import Proxy

        settings = self.settings
        proxy = Proxy(settings.https_proxy, settings.no_proxy) if settings.https_proxy else None
        async with AsyncExitStack() as stack:
            pools = {}
            for provider in self.settings.providers:
                traces = [self.tracing.trace_config()] if self.tracing else []
                session = await stack.enter_async_context(open_session(*traces))
                pools[provider] = ProviderHttp(session, provider, proxy=proxy)
            yield pools

    def _providers(self, asking: "Mapping[Provider, ProviderHttp]") -> "dict[Provider, IdentityProvider]":
        """The configured providers."""
        from nextarget.telemetry import metrics

        metrics.begin(self.settings.providers)
        return {name: PROVIDERS[name].adapter()(own, asking[name]) for name, own in self.settings.providers.items()}
