"""The settings of the server, with types and defaults. The settings of a provider are in `providers/settings`."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from nextarget.model import Client, Provider
from nextarget.settings.provider_settings import Fields, ProviderSettings
from nextarget.settings.validators import (
    AppClientId,
    AppLink,
    AppName,
    BrowserOrigin,
    Collector,
    DatabaseUrl,
    Hosts,
    Items,
    Network,
    Origin,
    ProxyHeader,
    ProxyUrl,
    RedirectUri,
    SigningSecret,
    StorageUrl,
    Text,
)


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Settings(Fields):
    """All settings, with types. A field has the name of its environment variable in lower case. The descriptions are
    published in docs/reference/settings.md."""

    environment: Environment = Field(Environment.DEVELOPMENT, description="`production` demands https everywhere.")
    public_url: Origin = Field(
        "http://127.0.0.1:8000", description="How the world reaches the server, and the issuer of its tokens."
    )
    host: str = Field("127.0.0.1", pattern=r"^[A-Za-z0-9_.:-]+\Z", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=64, description="How many processes serve; one for each core that they may use.")
    drain_seconds: int = Field(
        0, ge=0, le=600, description="How long a server that is stopped goes on serving while it says it is not ready."
    )
    max_connections: int | None = Field(
        None,
        ge=16,
        le=1_000_000,
        description="Clients' connections to one worker, at most; 10 000, or what its limit of open files allows.",
    )
    database_url: DatabaseUrl = Field(
        "sqlite:///nextarget.db",
        description="The SQLite file, or `postgresql://user:password@host/database`.",
    )
    database_pool_size: int = Field(8, ge=1, le=100, description="Connections of one worker to PostgreSQL, at most.")
    jwt_secret_key: SigningSecret = Field(description="Signs access tokens; at least 32 bytes, required.")
    jwt_previous_secret_keys: Annotated[tuple[SigningSecret, ...], Items] = Field(
        (), description="Other secrets that verify, past or coming, so that changing the secret signs nobody out."
    )
    jwt_private_key_file: Path | None = Field(
        None, description="PEM file: signs access tokens with EdDSA, ES256 or RS256; the secret is needed all the same."
    )
    jwt_algorithm: Literal["HS256", "EdDSA", "ES256", "RS256"] | None = Field(
        None, description="What signs access tokens; follows from the private key, and is HS256 without one."
    )
    jwt_audience: Text | None = Field(None, description="`aud` of access tokens; `PUBLIC_URL` unless set.")
    access_token_exp_minutes: int = Field(60, ge=1, le=1440, description="How long an access token lives.")
    refresh_token_exp_days: int = Field(30, ge=1, le=180, description="How long an unused session lives.")
    refresh_reuse_window_seconds: int = Field(
        30, ge=1, le=600, description="For how long parallel and repeated refreshes with one token get the same answer."
    )
    app_client_id: AppClientId = Field("nextarget-app", description="The app's `client_id`.")
    app_redirect_uris: Annotated[tuple[RedirectUri, ...], Items] = Field(
        ("nextarget://callback",),
        description="The app's redirect URIs; a request must name one, byte for byte.",
    )
    app_name: AppName | None = Field(
        None, description="What pages call the app: *NexTarget wants to sign you in*; *An app* unless set."
    )
    app_logo: str | None = Field(
        None,
        description="Its logo on pages: a PNG, SVG or WebP file of at most 256 KiB, or an https URL.",
    )
    app_privacy_url: AppLink | None = Field(None, description="Its privacy policy, to which pages link.")
    app_terms_url: AppLink | None = Field(None, description="Its terms of service, to which pages link.")
    apps_file: Path | None = Field(None, description="TOML file: any number of further apps.")
    json_flow: bool = Field(True, description="Whether tools may sign in without an app; `false` refuses `mode=json`.")

    providers: Mapping[Provider, ProviderSettings] = Field(
        {}, description="The providers that are on, in the order in which people see them."
    )
    """Not a setting. It contains the settings of all providers, which `catalogue.py` lists at this place."""

    https_proxy: ProxyUrl | None = Field(
        None,
        description="The proxy through which providers are asked, `http://user:password@host:port`; none unless set.",
    )
    no_proxy: Annotated[tuple[Text, ...], Hosts] = Field(
        (), description="Hosts, domains, addresses and networks that are asked without the proxy, as curl reads them."
    )

    audit_retention_days: int = Field(365, ge=1, le=3650, description="How long the record of what happened is kept.")
    trusted_proxies: Annotated[tuple[Network, ...], Items] = Field(
        (), description="Addresses or networks of proxies that are believed when they name the client."
    )
    trusted_proxy_header: ProxyHeader = Field(
        "X-Forwarded-For",
        description="The one header that they name it in: `X-Forwarded-For` or `Forwarded`. The other is ignored.",
    )
    rate_limit_enabled: bool = Field(True, description="Whether clients are held to limits; `false` turns all off.")
    rate_limit_storage_url: StorageUrl = Field(
        "memory://",
        description="Where requests are counted: `memory://`, or `redis://…`, shared between servers.",
    )
    rate_limit_begin: int = Field(
        30,
        ge=1,
        le=100_000,
        description="How often a minute one client may begin a login (`start`, `authorize`), and ask for a nonce.",
    )
    rate_limit_finish: int = Field(
        60,
        ge=1,
        le=100_000,
        description="How often a minute one client may finish a login (`callback`), and ask `token`.",
    )
    rate_limit_refresh: int = Field(
        120,
        ge=1,
        le=100_000,
        description="How often a minute one session may refresh from one address; at random, up to nearly twice.",
    )

    cors_allow_origins: Annotated[tuple[BrowserOrigin, ...], Items] = Field(
        (), description="Origins whose pages may call the API from a browser; `*` for all, except in production."
    )
    metrics_allow: Annotated[tuple[Network, ...], Items] = Field(
        (), description="Addresses or networks, beside this machine, that may read `/metrics`."
    )
    otel_exporter_otlp_endpoint: Collector | None = Field(
        None, description="Where traces are sent, as OTLP over HTTP; nothing is traced unless set."
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is worth a log line.")
    log_format: Literal["console", "json"] | None = Field(
        None, description="`console` on a terminal, else `json`, unless set."
    )

    _clients: tuple[Client, ...] = PrivateAttr(default=())

    @property
    def clients(self) -> tuple[Client, ...]:
        """All apps with their logos: first the app of `APP_CLIENT_ID`, then the apps of `APPS_FILE`."""
        return self._clients

    def with_clients(self, clients: tuple[Client, ...]) -> "Settings":
        """A copy of the settings with these apps, which `sources` has read."""
        settings = self.model_copy()
        settings._clients = clients
        return settings
