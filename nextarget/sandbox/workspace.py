"""What the sandbox makes up for itself: the settings of the server, and what the stand-in providers know of it.

Secrets are made once and kept beside the sandbox's database, so that tokens and users outlive a restart.
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
"""Longer than the 10 s after which the server gives a provider up."""

APP_REDIRECT_URIS = (
    "nextarget://callback",
    "http://127.0.0.1/callback",
    "http://[::1]/callback",
    "https://app.example/callback",
)
"""One of each kind that an app may have: its own scheme, loopback (RFC 8252, 7.3), a claimed https link."""

TEAMS_OWN = frozenset({"APP_REDIRECT_URIS"})
"""What is made up only where a team has not set it: its app is to meet here what it will meet elsewhere."""
_UNUSED = (
    *("JWT_PREVIOUS_SECRET_KEYS", "HTTPS_PROXY", "NO_PROXY"),
    *("RATE_LIMIT_STORAGE_URL", "RATE_LIMIT_BEGIN", "RATE_LIMIT_FINISH", "RATE_LIMIT_REFRESH"),
)


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What the stand-in providers know: our client at each. `slow_seconds` is how long the fault `slow` takes."""

    public_url: str
    clients: Mapping[Provider, StandInClient]
    slow_seconds: float = SLOW_SECONDS


def unused() -> tuple[str, ...]:
    """Settings that have no use here: other secrets sign nothing, providers are on this machine, and there are no
    limits."""
    return _UNUSED + tuple(
        name_of(provider, field_name)
        for provider, entry in PROVIDERS.items()
        for field_name in entry.stand_in_client().unused
    )


def sandbox_config(directory: Path, host: str, port: int, *, slow_seconds: float = SLOW_SECONDS) -> SandboxConfig:
    """The stand-in providers' side of the sandbox that lives in `directory`.

    Raises ConfigurationError: the host is not this machine, or the file of secrets cannot be used.
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
    """Settings, by their names in the environment, that point the server's own provider code at the sandbox.

    Raises ConfigurationError: the host is not this machine, or the file of secrets cannot be used.
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
    """Anybody who reaches the sandbox can sign in as anybody: it listens on loopback alone."""
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
