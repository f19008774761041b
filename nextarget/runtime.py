"""Settings become wired objects, once, for the web and the terminal alike."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nextarget.checking import private_key_of
from nextarget.model import Millis, Provider, iso_time
from nextarget.registry import PROVIDERS
from nextarget.services.authorization import CodeRedemption, Redirects
from nextarget.services.sessions import SessionRules, Sessions
from nextarget.services.signing import first_use_of_any
from nextarget.settings import Settings, TokenSettings
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Database
from nextarget.storage.upkeep.schema import migrate
from nextarget.telemetry import get_logger
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.keyring import Keyring

if TYPE_CHECKING:  # what needs the network is imported when it is: the terminal starts in two thirds of the time
    from nextarget.providers.base import IdentityProvider, ProviderHttp
    from nextarget.services.native import NativeSignIn
    from nextarget.services.signin import SignIn
    from nextarget.telemetry.tracing import Tracing


def utc_now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


@dataclass(frozen=True, slots=True)
class Signing:
    """What signs tokens, and the sessions that tokens belong to: enough for `issue-token`."""

    keyring: Keyring
    access_tokens: AccessTokens
    sessions: Sessions


def signing(settings: Settings | TokenSettings, database: Database, clock: Callable[[], Millis]) -> Signing:
    """Raises ConfigurationError when the private key cannot be read."""
    private_key = private_key_of(settings.jwt_private_key_file, settings.jwt_algorithm)
    keyring = Keyring(settings.jwt_secret_key, settings.jwt_previous_secret_keys, private_key)
    access_tokens = AccessTokens(
        keyring,
        issuer=settings.public_url,
        audience=settings.jwt_audience or settings.public_url,
        client_id=settings.app_client_id,
    )
    rules = SessionRules(
        client_id=settings.app_client_id,
        access_lifetime=settings.access_token_exp_minutes * 60,
        idle_days=settings.refresh_token_exp_days,
        reuse_window=settings.refresh_reuse_window_seconds,
    )
    return Signing(keyring, access_tokens, Sessions(database, keyring, access_tokens, rules, clock))


@dataclass(frozen=True, slots=True)
class Online:
    """The services that ask providers over the network."""

    sign_in: "SignIn"
    native: "NativeSignIn"


class Runtime:
    """Everything that the server needs except the network. `online()` adds what sign-in needs."""

    def __init__(self, settings: Settings, *, migrates: bool = True) -> None:
        """`migrates` is false where another process has brought the database to this schema already."""
        self.settings = settings
        self._migrates = migrates
        self.clock = utc_now
        self.database = database_at(settings.database_url, pool_size=settings.database_pool_size)
        signs = signing(settings, self.database, self.clock)
        self.keyring, self.access_tokens, self.sessions = signs.keyring, signs.access_tokens, signs.sessions
        self.redirects = Redirects(settings.app_client_id, settings.app_redirect_uris)
        self.codes = CodeRedemption(self.database, self.sessions, self.clock)

    @cached_property
    def tracing(self) -> "Tracing | None":
        """Where requests are followed to, while an endpoint is set. `online()` ends it."""
        endpoint = self.settings.otel_exporter_otlp_endpoint
        if endpoint is None:
            return None
        from nextarget.telemetry.tracing import Tracing

        return Tracing(endpoint)

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers reach us over https, and so cookies can insist on it."""
        return self.settings.public_url.startswith("https://")

    @asynccontextmanager
    async def online(self) -> AsyncIterator[Online]:
        """Migrate, unless that was done, open the database, and give each provider an HTTP session of its own.

        Raises SchemaError or DatabaseUnavailable.
        """
        from nextarget.services.native import NativeSignIn
        from nextarget.services.signin import SignIn

        if self._migrates:
            migrate(self.database)
        self.database.open()
        try:
            await self._retire_secret()
            async with self._pools() as asking:
                providers = self._providers(asking)
                yield Online(
                    SignIn(
                        self.database,
                        providers,
                        self.keyring,
                        self.sessions,
                        self.clock,
                        json_flow=self.settings.json_flow,
                    ),
                    NativeSignIn(self.database, providers, self.keyring, self.sessions, self.clock),
                )
        finally:
            self.database.close()
            if self.tracing is not None:
                await asyncio.to_thread(self.tracing.close)

    async def _retire_secret(self) -> None:
        """Where a private key signs, have tokens of the secret refused once they have had a day."""
        key = self.keyring.jwt_key
        if key.is_secret:
            return
        first_use = await first_use_of_any(self.database, key.id, now=self.clock())
        get_logger().info("secret_tokens_end", at=iso_time(self.access_tokens.private_key_since(first_use)))

    @asynccontextmanager
    async def _pools(self) -> "AsyncIterator[dict[Provider, ProviderHttp]]":
        """For each provider a session of its own, so that one that hangs delays no other; the way out is the same."""
        from nextarget.providers.base import ProviderHttp, open_session
        from nextarget.providers.proxy import Proxy

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
        """The providers that are on."""
        return {name: PROVIDERS[name].adapter()(own, asking[name]) for name, own in self.settings.providers.items()}
