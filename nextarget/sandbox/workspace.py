"""What the sandbox makes up for itself: settings, client secrets and the stand-in Google's signing key.

They are made once and kept beside the sandbox's database, so that tokens and users outlive a restart.
"""

import contextlib
import ipaddress
import json
import os
import re
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.model import Secret

SECRETS_FILE = "nextarget-sandbox.json"
DATABASE_FILE = "nextarget-sandbox.db"
GRAPH_VERSION = "v26.0"
SLOW_SECONDS = 15.0
"""Longer than the 10 s after which the server gives a provider up."""

_RSA_BITS = 2048
_SHAPES = {
    "jwt_secret_key": re.compile(r"[\w-]{64,128}"),
    "google_client_id": re.compile(r"[0-9a-z.-]{20,120}"),
    "google_client_secret": re.compile(r"[\w-]{20,120}"),
    "google_private_key": re.compile(r"-----BEGIN PRIVATE KEY-----\n.{1000,8000}", re.DOTALL),
    "facebook_client_id": re.compile(r"[0-9]{15,17}"),
    "facebook_client_secret": re.compile(r"[0-9a-f]{32}"),
}


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What the stand-in providers know: the one client of each, and the key that Google signs with.

    `slow_seconds` is how long the fault `slow` takes.
    """

    public_url: str
    google_issuer: str
    google_client_id: str
    google_client_secret: Secret
    google_redirect_uri: str
    google_private_key: RSAPrivateKey = field(repr=False)
    facebook_client_id: str
    facebook_client_secret: Secret
    facebook_redirect_uri: str
    slow_seconds: float = SLOW_SECONDS


def sandbox_config(directory: Path, host: str, port: int, *, slow_seconds: float = SLOW_SECONDS) -> SandboxConfig:
    """The stand-in providers' side of the sandbox that lives in `directory`.

    Raises ConfigurationError: the host is not this machine, or the file of secrets cannot be used.
    """
    url = _public_url(host, port)
    kept = _kept_secrets(directory.absolute() / SECRETS_FILE)
    return SandboxConfig(
        public_url=url,
        google_issuer=f"{url}/sandbox/google",
        google_client_id=kept["google_client_id"],
        google_client_secret=Secret(kept["google_client_secret"]),
        google_redirect_uri=f"{url}/auth/google/callback",
        google_private_key=_rsa_key(kept["google_private_key"]),
        facebook_client_id=kept["facebook_client_id"],
        facebook_client_secret=Secret(kept["facebook_client_secret"]),
        facebook_redirect_uri=f"{url}/auth/facebook/callback",
        slow_seconds=slow_seconds,
    )


def sandbox_values(directory: Path, host: str, port: int) -> dict[str, str]:
    """Settings, by their names in the environment, that point the server's own provider code at the sandbox.

    Raises ConfigurationError: the host is not this machine, or the file of secrets cannot be used.
    """
    url = _public_url(host, port)
    kept = _kept_secrets(directory.absolute() / SECRETS_FILE)
    return {
        "ENVIRONMENT": "development",
        "PUBLIC_URL": url,
        "DATABASE_URL": f"sqlite:///{directory.absolute() / DATABASE_FILE}",
        "JWT_SECRET_KEY": kept["jwt_secret_key"],
        "GOOGLE_CLIENT_ID": kept["google_client_id"],
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


def _kept_secrets(path: Path) -> dict[str, str]:
    try:
        text = _read(path)
        if text is None:
            _create(path, _made_up())
            text = _read(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        _refuse(
            "--sandbox",
            f"{path} cannot be read or created ({(reason or 'it is not text').lower()}).",
            "Delete it if it exists, or run in a folder that you can write to.",
        )
    try:
        return _checked(text or "")
    except (ValueError, TypeError, RecursionError):
        _refuse(
            "--sandbox",
            f"{path} is damaged.",
            f"Delete it; it is made anew. Delete {DATABASE_FILE} beside it too if you want to start afresh.",
        )


def _checked(text: str) -> dict[str, str]:
    """The secrets in the file's text. Raises ValueError, TypeError or RecursionError."""
    kept = json.loads(text)
    if not isinstance(kept, dict):
        raise TypeError("not an object")
    for name, shape in _SHAPES.items():
        if not isinstance(kept.get(name), str) or not shape.fullmatch(kept[name]):
            raise ValueError("missing or odd value")
    _rsa_key(kept["google_private_key"])
    return {name: kept[name] for name in _SHAPES}


def _read(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                os.fchmod(file.fileno(), 0o600)
            return file.read(64 * 1024)
    except FileNotFoundError:
        return None


def _create(path: Path, made_up: dict[str, str]) -> None:
    """Puts a complete file in place at once. If another process was quicker, its file stays."""
    descriptor, name = tempfile.mkstemp(prefix=".nextarget-sandbox-", dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(made_up, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()


def _made_up() -> dict[str, str]:
    key = generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        "jwt_secret_key": secrets.token_urlsafe(64),
        "google_client_id": f"{_digits(12)}-sandbox{secrets.token_hex(8)}.apps.googleusercontent.com",
        "google_client_secret": f"GOCSPX-{secrets.token_urlsafe(24)}",
        "google_private_key": pem.decode("ascii"),
        "facebook_client_id": _digits(16),
        "facebook_client_secret": secrets.token_hex(16),
    }


def _digits(count: int) -> str:
    return str(10 ** (count - 1) + secrets.randbelow(9 * 10 ** (count - 1)))


def _rsa_key(pem: str) -> RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, RSAPrivateKey) or key.key_size < _RSA_BITS:
        raise ValueError("not an RSA key of 2048 bits")
    return key


def _refuse(setting: str, problem: str, remedy: str) -> NoReturn:
    raise ConfigurationError([SettingProblem(setting, problem, remedy)]) from None
