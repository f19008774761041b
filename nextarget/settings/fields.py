"""The settings of the server, with types and defaults. The settings of a provider are in `providers/settings`."""

from collections.abc import Mapping
from dataclasses import field, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal, get_args

from nextarget.model import Client, Provider, Secret
from nextarget.settings.declaring import declares_settings, setting
from nextarget.settings.kinds import (
    ANDROID_APP_LINK,
    ANY_TEXT,
    APP_CLIENT_ID,
    APP_LINK,
    APP_NAME,
    APPLE_APP_ID,
    BROWSER_ORIGIN,
    COLLECTOR,
    DATABASE_URL,
    FILE,
    HOSTS,
    NETWORK,
    ORIGIN,
    PLAIN_TEXT,
    PROXY_URL,
    REDIRECT_URI,
    SIGNING_SECRET,
    STORAGE_URL,
    TRUTH,
    Network,
    list_of,
    matching,
    number,
    one_of,
)
from nextarget.settings.provider_settings import ProviderSettings

ProxyHeader = Literal["X-Forwarded-For", "Forwarded"]


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


@declares_settings
class Settings:
    """All settings, with types. A field has the name of its environment variable in lower case. The descriptions are
    published in docs/reference/settings.md."""

    environment: Environment = setting(
        one_of(Environment), default=Environment.DEVELOPMENT, description="`production` demands https everywhere."
    )
    public_url: str = setting(
        ORIGIN,
        default="http://127.0.0.1:8000",
        description="How the world reaches the server, and the issuer of its tokens.",
    )
    host: str = setting(matching(r"[A-Za-z0-9_.:-]+"), default="127.0.0.1", description="The address to listen on.")
    port: int = setting(number(0, 65535), default=8000, description="The port to listen on; 0 takes a free one.")
    workers: int = setting(
        number(1, 64), default=1, description="How many processes serve; one for each core that they may use."
    )
    drain_seconds: int = setting(
        number(0, 600),
        default=0,
        description="How long a server that is stopped goes on serving while it says it is not ready.",
    )
    max_connections: int | None = setting(
        number(16, 1_000_000),
        default=None,
        description="Clients' connections to one worker, at most; 10 000, or what its limit of open files allows.",
    )
    database_url: str = setting(
        DATABASE_URL,
        default="sqlite:///nextarget.db",
        description="The SQLite file, or `postgresql://user:password@host/database`.",
    )
    database_pool_size: int = setting(
        number(1, 100), default=8, description="Connections of one worker to PostgreSQL, at most."
    )
    jwt_secret_key: Secret = setting(SIGNING_SECRET, description="Signs access tokens; at least 32 bytes, required.")
    jwt_previous_secret_keys: tuple[Secret, ...] = setting(
        list_of(SIGNING_SECRET),
        default=(),
        description="Other secrets that verify, past or coming, so that changing the secret signs nobody out.",
    )
    jwt_private_key_file: Path | None = setting(
        FILE,
        default=None,
        description="PEM file: signs access tokens with EdDSA, ES256 or RS256; the secret is needed all the same.",
    )
    jwt_algorithm: Literal["HS256", "EdDSA", "ES256", "RS256"] | None = setting(
        one_of(("HS256", "EdDSA", "ES256", "RS256")),
        default=None,
        description="What signs access tokens; follows from the private key, and is HS256 without one.",
    )
    jwt_audience: str | None = setting(
        PLAIN_TEXT, default=None, description="`aud` of access tokens; `PUBLIC_URL` unless set."
    )
    access_token_exp_minutes: int = setting(number(1, 1440), default=60, description="How long an access token lives.")
    refresh_token_exp_days: int = setting(number(1, 180), default=30, description="How long an unused session lives.")
    refresh_reuse_window_seconds: int = setting(
        number(1, 600),
        default=30,
        description="For how long parallel and repeated refreshes with one token get the same answer.",
    )
    app_client_id: str = setting(APP_CLIENT_ID, default="nextarget-app", description="The app's `client_id`.")
    app_redirect_uris: tuple[str, ...] = setting(
        list_of(REDIRECT_URI),
        default=("nextarget://callback",),
        description="The app's redirect URIs; a request must name one, byte for byte.",
    )
    app_name: str | None = setting(
        APP_NAME,
        default=None,
        description="What pages call the app: *NexTarget wants to sign you in*; *An app* unless set.",
    )
    app_logo: str | None = setting(
        ANY_TEXT,
        default=None,
        description="Its logo on pages: a PNG, SVG or WebP file of at most 256 KiB, or an https URL.",
    )
    app_privacy_url: str | None = setting(
        APP_LINK, default=None, description="Its privacy policy, to which pages link."
    )
    app_terms_url: str | None = setting(
        APP_LINK, default=None, description="Its terms of service, to which pages link."
    )
    android_app_links: tuple[str, ...] = setting(
        list_of(ANDROID_APP_LINK),
        default=(),
        description="The app on Android, `package=SHA256 fingerprint`, for `/.well-known/assetlinks.json`.",
    )
    apple_app_ids: tuple[str, ...] = setting(
        list_of(APPLE_APP_ID),
        default=(),
        description="The app on iOS, `TEAMID.bundle.id`, for `/.well-known/apple-app-site-association`.",
    )
    app_bounce_page: bool = setting(
        TRUTH, default=False, description="Whether a page with a button is shown before every redirect into the app."
    )
    apps_file: Path | None = setting(FILE, default=None, description="TOML file: any number of further apps.")
    json_flow: bool = setting(
        TRUTH, default=True, description="Whether tools may sign in without an app; `false` refuses `mode=json`."
    )

    providers: Mapping[Provider, ProviderSettings] = field(default_factory=dict)
    """The providers that are on, in the order in which people see them. Not a setting: `catalogue.py` lists the
    settings of all providers at this place."""

    https_proxy: str | None = setting(
        PROXY_URL,
        default=None,
        description="The proxy through which providers are asked, `http://user:password@host:port`; none unless set.",
    )
    no_proxy: tuple[str, ...] = setting(
        HOSTS,
        default=(),
        description="Hosts, domains, addresses and networks that are asked without the proxy, as curl reads them.",
    )

    audit_retention_days: int = setting(
        number(1, 3650), default=365, description="How long the record of what happened is kept."
    )
    trusted_proxies: tuple[Network, ...] = setting(
        list_of(NETWORK),
        default=(),
        description="Addresses or networks of proxies that are believed when they name the client.",
    )
    trusted_proxy_header: ProxyHeader = setting(
        one_of(get_args(ProxyHeader)),
        default="X-Forwarded-For",
        description="The one header that they name it in: `X-Forwarded-For` or `Forwarded`. The other is ignored.",
    )
    rate_limit_enabled: bool = setting(
        TRUTH, default=True, description="Whether clients are held to limits; `false` turns all off."
    )
    rate_limit_storage_url: str = setting(
        STORAGE_URL,
        default="memory://",
        description="Where requests are counted: `memory://`, or `redis://…`, shared between servers.",
    )
    rate_limit_begin: int = setting(
        number(1, 100_000),
        default=30,
        description="How often a minute one client may begin a login (`start`, `authorize`), and ask for a nonce.",
    )
    rate_limit_finish: int = setting(
        number(1, 100_000),
        default=60,
        description="How often a minute one client may finish a login (`callback`), and ask `token`.",
    )
    rate_limit_refresh: int = setting(
        number(1, 100_000),
        default=120,
        description="How often a minute one session may refresh from one address; at random, up to nearly twice.",
    )

    cors_allow_origins: tuple[str, ...] = setting(
        list_of(BROWSER_ORIGIN),
        default=(),
        description="Origins whose pages may call the API from a browser; `*` for all, except in production.",
    )
    metrics_allow: tuple[Network, ...] = setting(
        list_of(NETWORK),
        default=(),
        description="Addresses or networks, beside this machine, that may read `/metrics`.",
    )
    otel_exporter_otlp_endpoint: str | None = setting(
        COLLECTOR, default=None, description="Where traces are sent, as OTLP over HTTP; nothing is traced unless set."
    )

    log_level: Literal["debug", "info", "warning", "error"] = setting(
        one_of(("debug", "info", "warning", "error")), default="info", description="What is worth a log line."
    )
    log_format: Literal["console", "json"] | None = setting(
        one_of(("console", "json")), default=None, description="`console` on a terminal, else `json`, unless set."
    )

    clients: tuple[Client, ...] = ()
    """Not a setting. All apps with their logos: first the app of `APP_CLIENT_ID`, then the apps of `APPS_FILE`."""

    def with_clients(self, clients: tuple[Client, ...]) -> "Settings":
        """A copy of the settings with these apps, which `sources` has read."""
        return replace(self, clients=clients)
