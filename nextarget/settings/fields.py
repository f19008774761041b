"""Every setting, typed, with its default."""

from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator

from nextarget.model import Client, Provider
from nextarget.settings.validators import (
    AppClientId,
    AppLink,
    AppName,
    BrowserOrigin,
    ClientId,
    ClientSecret,
    Collector,
    DatabaseUrl,
    Endpoint,
    FacebookClientId,
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


class Settings(BaseModel):
    """Every setting, typed. Field names are the variables' names in lower case; descriptions are the README's."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, regex_engine="python-re")

    environment: Environment = Field(Environment.DEVELOPMENT, description="`production` demands https everywhere.")
    public_url: Origin = Field(
        "http://127.0.0.1:8000", description="How the world reaches the server, and the issuer of its tokens."
    )
    host: str = Field("127.0.0.1", pattern=r"^[A-Za-z0-9_.:-]+$", description="The address to listen on.")
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
        30, ge=1, le=600, description="How long repeated and parallel refreshes with one token agree."
    )
    app_client_id: AppClientId = Field("nextarget-app", description="The app's `client_id`.")
    app_redirect_uris: Annotated[tuple[RedirectUri, ...], Items] = Field(
        ("nextarget://callback",), description="Where the app may be answered, each byte for byte."
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

    google_client_id: ClientId | None = Field(None, description="OAuth client id of type *Web application*.")
    google_client_secret: ClientSecret | None = Field(None, description="Its client secret.")
    google_redirect_uri: Endpoint | None = Field(None, description="`PUBLIC_URL` + `/auth/google/callback`.")
    google_client_ids: Annotated[tuple[ClientId, ...], Items] = Field(
        (), description="Client ids of the apps themselves, accepted in native sign-in beside `GOOGLE_CLIENT_ID`."
    )
    google_issuer: Endpoint = Field("https://accounts.google.com", description="`iss` of Google's id_tokens.")
    google_authorization_endpoint: Endpoint = Field(
        "https://accounts.google.com/o/oauth2/v2/auth", description="Where Google asks the person."
    )
    google_token_endpoint: Endpoint = Field(
        "https://oauth2.googleapis.com/token", description="Where Google redeems codes."
    )
    google_jwks_uri: Endpoint = Field(
        "https://www.googleapis.com/oauth2/v3/certs", description="Where Google publishes its keys."
    )

    facebook_client_id: FacebookClientId | None = Field(None, description="The *App ID*.")
    facebook_client_secret: ClientSecret | None = Field(None, description="The *App secret*.")
    facebook_redirect_uri: Endpoint | None = Field(None, description="`PUBLIC_URL` + `/auth/facebook/callback`.")
    facebook_config_id: str | None = Field(
        None,
        pattern=r"^[0-9]{1,40}$",
        description="The *Configuration ID* of Facebook Login for Business, if it is used.",
    )
    facebook_pkce: bool = Field(
        False, description="Whether Facebook binds each code to its login, by `openid`, nonce and PKCE; recommended."
    )
    facebook_graph_version: str = Field(
        "v26.0", pattern=r"^v[0-9]{1,3}\.[0-9]$", description="Version of the Graph API."
    )
    facebook_graph_url: Endpoint = Field("https://graph.facebook.com", description="Where the Graph API is.")
    facebook_authorization_endpoint: Endpoint | None = Field(
        None,
        description="Where Facebook asks the person; the login dialog of `FACEBOOK_GRAPH_VERSION` unless set.",
    )

    facebook_jwks_uri: Endpoint = Field(
        "https://limited.facebook.com/.well-known/oauth/openid/jwks/",
        description="Where Facebook publishes the keys of Limited Login.",
    )

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
        description="How often a minute one session may refresh from one address, at the least; at most nearly twice.",
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
        """Every app, the first one first: the app of `APP_CLIENT_ID`, and those of `APPS_FILE`, with their logos."""
        return self._clients

    def with_clients(self, clients: tuple[Client, ...]) -> "Settings":
        """The same settings with these apps, which were read from files."""
        settings = self.model_copy()
        settings._clients = clients
        return settings

    @field_validator("*", mode="before")
    @classmethod
    def _in_any_case(cls, value: object, info: ValidationInfo) -> object:
        """One of a list of words is that word, however it is written."""
        if isinstance(value, str) and value.isascii():
            return next((word for word in words_of(info.field_name or "") if word.lower() == value.lower()), value)
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """None: any URL may hold a password. `check-config` shows what may be shown."""
        yield from ()

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Those that are configured: all of their credentials are set, or none is."""
        return tuple(provider for provider in Provider if getattr(self, f"{provider}_client_id"))


@cache
def words_of(field_name: str) -> tuple[str, ...]:
    """The words that a setting takes, when it takes no other text: those of its type."""
    words: list[str] = []
    kinds: list[object] = [Settings.model_fields[field_name].annotation]
    while kinds:
        kind = kinds.pop()
        if isinstance(kind, str):
            words.append(kind)
        elif isinstance(kind, type) and issubclass(kind, StrEnum):
            words += kind
        elif kind is bool:
            words += ("true", "false")
        elif kind is not type(None):
            if not (parts := get_args(kind)):
                return ()
            kinds += reversed(parts)
    return tuple(words)


CREDENTIALS = {
    provider: tuple(f"{provider.upper()}_{part}" for part in ("CLIENT_ID", "CLIENT_SECRET", "REDIRECT_URI"))
    for provider in Provider
}
"""A provider is on when all of these are set, off when none is."""

SECRET_SETTINGS = frozenset(
    {"JWT_SECRET_KEY", "JWT_PREVIOUS_SECRET_KEYS", "GOOGLE_CLIENT_SECRET", "FACEBOOK_CLIENT_SECRET"}
)
"""Shown masked."""

FILE_SETTINGS = SECRET_SETTINGS | {"DATABASE_URL", "RATE_LIMIT_STORAGE_URL", "HTTPS_PROXY"}
"""Readable from a file, since they may hold a password: `DATABASE_URL_FILE=/run/secrets/database`."""

LOWER_CASE_TOO = frozenset({"HTTPS_PROXY", "NO_PROXY"})
"""Known to other programs by these names in lower case as well, which win, as they do with curl."""

NAMES = {name.upper(): name for name in Settings.model_fields}
