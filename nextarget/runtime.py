"""Settings become wired objects, once, for the web and the terminal alike."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nextarget.checking import private_key_of
from nextarget.model import Millis, Provider, iso_time
from nextarget.services.authorization import CodeRedemption
from nextarget.services.clients import Clients
from nextarget.services.sessions import SessionRules, Sessions
from nextarget.services.signing import first_use_of_any
from nextarget.settings import Settings
from nextarget.storage.engines.addresses import database_at
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
class Online:
    """The services that ask providers over the network."""

    sign_in: "SignIn"
    native: "NativeSignIn"


class Runtime:
    """Everything but the network: enough for the terminal. `online()` adds what sign-in needs."""

    def __init__(self, settings: Settings, *, migrates: bool = True) -> None:
        """`migrates` is false where another process has brought the database to this schema already."""
        self.settings = settings
        self._migrates = migrates
        self.clock = utc_now
        self.database = database_at(settings.database_url, pool_size=settings.database_pool_size)
        private_key = private_key_of(settings.jwt_private_key_file, settings.jwt_algorithm)
        self.keyring = Keyring(settings.jwt_secret_key, settings.jwt_previous_secret_keys, private_key)
        self.clients = Clients(settings.clients)
        self.access_tokens = AccessTokens(
            self.keyring,
            issuer=settings.public_url,
            audience=settings.jwt_audience or settings.public_url,
            client_ids=self.clients.ids,
        )
        rules = SessionRules(
            client_ids=self.clients.ids,
            access_lifetime=settings.access_token_exp_minutes * 60,
            idle_days=settings.refresh_token_exp_days,
            reuse_window=settings.refresh_reuse_window_seconds,
        )
        self.sessions = Sessions(self.database, self.keyring, self.access_tokens, rules, self.clock)
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
                        clients=self.clients,
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
        """The providers that are configured: all three of their credentials, or none, as `settings` has checked."""
        from nextarget.providers.facebook import Facebook, FacebookConfig
        from nextarget.providers.google import Google, GoogleConfig

        settings = self.settings
        providers: dict[Provider, IdentityProvider] = {}
        if settings.google_client_id and settings.google_client_secret and settings.google_redirect_uri:
            google = GoogleConfig(
                client_id=settings.google_client_id,
                client_secret=settings.google_client_secret,
                redirect_uri=settings.google_redirect_uri,
                issuer=settings.google_issuer,
                authorization_endpoint=settings.google_authorization_endpoint,
                token_endpoint=settings.google_token_endpoint,
                jwks_uri=settings.google_jwks_uri,
                other_client_ids=settings.google_client_ids,
            )
            providers[Provider.GOOGLE] = Google(google, asking[Provider.GOOGLE])
        if settings.facebook_client_id and settings.facebook_client_secret and settings.facebook_redirect_uri:
            facebook = FacebookConfig(
                client_id=settings.facebook_client_id,
                client_secret=settings.facebook_client_secret,
                redirect_uri=settings.facebook_redirect_uri,
                graph_url=settings.facebook_graph_url,
                graph_version=settings.facebook_graph_version,
                authorization_endpoint=settings.facebook_authorization_endpoint
                or f"https://www.facebook.com/{settings.facebook_graph_version}/dialog/oauth",
                jwks_uri=settings.facebook_jwks_uri,
                pkce=settings.facebook_pkce,
                config_id=settings.facebook_config_id,
            )
            providers[Provider.FACEBOOK] = Facebook(facebook, asking[Provider.FACEBOOK])
        return providers
