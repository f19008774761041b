"""The configuration of the sandbox: the settings of the server, and our clients at the stand-ins.

Secrets are generated once, and are kept beside the sandbox's database. So tokens and users stay valid after a restart.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.sandbox.made_up import StandInClient
from nextarget.sandbox.secrets_file import kept_name, kept_secrets
from nextarget.settings.catalogue import name_of

SECRETS_FILE = "nextarget-sandbox.json"
DATABASE_FILE = "nextarget-sandbox.db"
SLOW_SECONDS = 15.0
"""Longer than 10 s, the time that the server waits for a provider."""

APP_REDIRECT_URIS = (
    "nextarget://callback",
    "http://127.0.0.1/callback",
    "http://[::1]/callback",
    "https://app.example/callback",
)
"""Redirects of all kinds that an app may have: a custom scheme, loopback (RFC 8252, 7.3), a claimed https link."""

TEAMS_OWN = frozenset({"APP_REDIRECT_URIS"})
"""Settings that the sandbox sets only if the team has not set them. So the team's app uses the same redirects here as
in production."""
_UNUSED = (
    *("JWT_PREVIOUS_SECRET_KEYS", "HTTPS_PROXY", "NO_PROXY"),
    *("RATE_LIMIT_STORAGE_URL", "RATE_LIMIT_BEGIN", "RATE_LIMIT_FINISH", "RATE_LIMIT_REFRESH"),
)


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """The configuration of the stand-ins: our client at every one of them. `slow_seconds` is the delay of the fault
    `slow`."""

    public_url: str
    clients: Mapping[Provider, StandInClient]
    slow_seconds: float = SLOW_SECONDS


def unused() -> tuple[str, ...]:
    """Settings that the sandbox does not use: there are no previous secrets, the providers are on this machine, so that
    they need no proxy, and there are no rate limits."""
    return _UNUSED + tuple(
        name_of(provider, field_name)
        for provider, entry in PROVIDERS.items()
        for field_name in entry.stand_in_client().unused
    )


def sandbox_config(directory: Path, host: str, port: int, *, slow_seconds: float = SLOW_SECONDS) -> SandboxConfig:
    """The configuration of the stand-ins for the sandbox in `directory`.

    Raises ConfigurationError if the host is not this machine, or the file of secrets cannot be used.
    """
    url = _public_url(host, port)
    kept = kept_secrets(directory.absolute() / SECRETS_FILE)
    return SandboxConfig(url, _clients(url, kept), slow_seconds)


def _clients(url: str, kept: Mapping[str, str]) -> dict[Provider, StandInClient]:
    clients: dict[Provider, StandInClient] = {}
    for provider, entry in PROVIDERS.items():
        client: type[StandInClient] = entry.stand_in_client()
        clients[provider] = client.of(url, {name: kept[kept_name(provider, name)] for name in client.made_up})
    return clients


def sandbox_values(directory: Path, host: str, port: int) -> dict[str, str]:
    """The settings, by their names in the environment, with which the server uses the stand-ins in place of providers.

    Raises ConfigurationError if the host is not this machine, or the file of secrets cannot be used.
    """
    url = _public_url(host, port)
    kept = kept_secrets(directory.absolute() / SECRETS_FILE)
    return {
        "ENVIRONMENT": "development",
        "WORKERS": "1",
        "DRAIN_SECONDS": "0",
        "RATE_LIMIT_ENABLED": "false",
        "PUBLIC_URL": url,
        "DATABASE_URL": f"sqlite:///{directory.absolute() / DATABASE_FILE}",
        "JWT_SECRET_KEY": kept["jwt_secret_key"],
        **{
            name_of(provider, field_name): text
            for provider, client in _clients(url, kept).items()
            for field_name, text in client.settings().items()
        },
        "APP_REDIRECT_URIS": ",".join(APP_REDIRECT_URIS),
    }


def _public_url(host: str, port: int) -> str:
    """The URL of the server. The sandbox listens only on loopback, because anybody who reaches it can sign in as
    anybody."""
    if not 0 < port < 65536:
        _refuse("PORT", f"is {port}; the sandbox needs to know its port.", "Choose one from 1 to 65535.")
    if host.lower() == "localhost":
        return f"http://localhost:{port}"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback or "%" in host:
        _refuse(
            "HOST",
            "is not a loopback address; in the sandbox anybody can sign in as anybody.",
            "Use 127.0.0.1, ::1 or localhost.",
        )
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def _refuse(setting: str, problem: str, remedy: str) -> NoReturn:
    raise ConfigurationError([SettingProblem(setting, problem, remedy)]) from None
