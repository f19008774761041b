"""Settings become wired objects, once, for the web and the terminal alike."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from nextarget.model import Millis, Provider
from nextarget.providers.base import IdentityProvider, ProviderHttp, open_session
from nextarget.providers.facebook import Facebook, FacebookConfig
from nextarget.providers.google import Google, GoogleConfig
from nextarget.services.sessions import Sessions
from nextarget.services.signin import SignIn
from nextarget.settings import Settings
from nextarget.storage.database import Database
from nextarget.storage.schema import migrate
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.keyring import Keyring


def utc_now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


class Runtime:
    """Everything but the network: enough for the terminal. `online()` adds what sign-in needs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = utc_now
        self.database = Database(settings.database_path)
        self.keyring = Keyring(settings.jwt_secret_key, settings.jwt_previous_secret_keys)
        self.access_tokens = AccessTokens(
            self.keyring,
            issuer=settings.public_url,
            audience=settings.jwt_audience or settings.public_url,
            client_id=settings.app_client_id,
        )
        self.sessions = Sessions(
            self.database,
            self.access_tokens,
            client_id=settings.app_client_id,
            access_lifetime=settings.access_token_exp_minutes * 60,
            session_days=settings.refresh_token_exp_days,
            clock=self.clock,
        )

    @asynccontextmanager
    async def online(self) -> AsyncIterator[SignIn]:
        """Migrate and open the database, and give sign-in with an HTTP session to ask providers with.

        Raises SchemaError or DatabaseUnavailable.
        """
        migrate(self.database)
        self.database.open()
        try:
            async with open_session() as http:
                providers = self._providers(http)
                yield SignIn(self.database, providers, self.keyring, self.sessions, self.clock)
        finally:
            self.database.close()

    def _providers(self, http: aiohttp.ClientSession) -> dict[Provider, IdentityProvider]:
        """The providers that are configured: all three of their credentials, or none, as `settings` has checked."""
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
            )
            providers[Provider.GOOGLE] = Google(google, ProviderHttp(http, Provider.GOOGLE))
        if settings.facebook_client_id and settings.facebook_client_secret and settings.facebook_redirect_uri:
            facebook = FacebookConfig(
                client_id=settings.facebook_client_id,
                client_secret=settings.facebook_client_secret,
                redirect_uri=settings.facebook_redirect_uri,
                graph_url=settings.facebook_graph_url,
                graph_version=settings.facebook_graph_version,
                authorization_endpoint=settings.facebook_authorization_endpoint
                or f"https://www.facebook.com/{settings.facebook_graph_version}/dialog/oauth",
            )
            providers[Provider.FACEBOOK] = Facebook(facebook, ProviderHttp(http, Provider.FACEBOOK))
        return providers
