"""What the sandbox makes up for itself: the settings of the server, and what the stand-in providers know of it.

Secrets are made once and kept beside the sandbox's database, so that tokens and users outlive a restart.
"""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.model import Secret
from nextarget.sandbox.secrets_file import kept_secrets, rsa_key

SECRETS_FILE = "nextarget-sandbox.json"
DATABASE_FILE = "nextarget-sandbox.db"
GRAPH_VERSION = "v26.0"
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
UNUSED = (
    *("JWT_PREVIOUS_SECRET_KEYS", "HTTPS_PROXY", "NO_PROXY", "FACEBOOK_CONFIG_ID"),
    *("RATE_LIMIT_STORAGE_URL", "RATE_LIMIT_BEGIN", "RATE_LIMIT_FINISH", "RATE_LIMIT_REFRESH"),
)
"""What has no use here: other secrets sign nothing, providers are on this machine, and there are no limits."""


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What the stand-in providers know: the one client of each, and the keys that they sign with.

    `google_client_ids` are the apps' own, of the same project as the server's: an SDK names them as `azp`, or as `aud`
    when the app asked for no token for its server. `slow_seconds` is how long the fault `slow` takes.
    """

    public_url: str
    google_issuer: str
    google_client_id: str
    google_client_ids: tuple[str, ...]
    google_client_secret: Secret
    google_redirect_uri: str
    google_private_key: RSAPrivateKey = field(repr=False)
    facebook_client_id: str
    facebook_client_secret: Secret
    facebook_redirect_uri: str
    facebook_private_key: RSAPrivateKey = field(repr=False)
    slow_seconds: float = SLOW_SECONDS


def sandbox_config(directory: Path, host: str, port: int, *, slow_seconds: float = SLOW_SECONDS) -> SandboxConfig:
    """The stand-in providers' side of the sandbox that lives in `directory`.

    Raises ConfigurationError: the host is not this machine, or the file of secrets cannot be used.
    """
    url = _public_url(host, port)
    kept = kept_secrets(directory.absolute() / SECRETS_FILE)
    return SandboxConfig(
        public_url=url,
        google_issuer=f"{url}/sandbox/google",
        google_client_id=kept["google_client_id"],
        google_client_ids=(kept["google_app_client_id"],),
        google_client_secret=Secret(kept["google_client_secret"]),
        google_redirect_uri=f"{url}/auth/google/callback",
        google_private_key=rsa_key(kept["google_private_key"]),
        facebook_client_id=kept["facebook_client_id"],
        facebook_client_secret=Secret(kept["facebook_client_secret"]),
        facebook_redirect_uri=f"{url}/auth/facebook/callback",
        facebook_private_key=rsa_key(kept["facebook_private_key"]),
        slow_seconds=slow_seconds,
    )


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
        "GOOGLE_CLIENT_ID": kept["google_client_id"],
        "GOOGLE_CLIENT_IDS": kept["google_app_client_id"],
        "GOOGLE_CLIENT_SECRET": kept["google_client_secret"],
        "GOOGLE_REDIRECT_URI": f"{url}/auth/google/callback",
        "GOOGLE_ISSUER": f"{url}/sandbox/google",
        "GOOGLE_AUTHORIZATION_ENDPOINT": f"{url}/sandbox/google/authorize",
        "GOOGLE_TOKEN_ENDPOINT": f"{url}/sandbox/google/token",
        "GOOGLE_JWKS_URI": f"{url}/sandbox/google/jwks",
        "FACEBOOK_CLIENT_ID": kept["facebook_client_id"],
        "FACEBOOK_CLIENT_SECRET": kept["facebook_client_secret"],
        "FACEBOOK_REDIRECT_URI": f"{url}/auth/facebook/callback",
        "FACEBOOK_GRAPH_URL": f"{url}/sandbox/facebook",
        "FACEBOOK_AUTHORIZATION_ENDPOINT": f"{url}/sandbox/facebook/dialog/oauth",
        "FACEBOOK_GRAPH_VERSION": GRAPH_VERSION,
        "FACEBOOK_JWKS_URI": f"{url}/sandbox/facebook/limited/jwks",
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
