"""The file of made-up secrets: made once, completed when a newer release needs more, readable by its owner alone."""

import contextlib
import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from nextarget.errors import ConfigurationError, SettingProblem, UnsafeFile
from nextarget.storage.engines.files import open_private, place_of, written_beside

_RSA_BITS = 2048
_PEM = re.compile(r"-----BEGIN PRIVATE KEY-----\n.{1000,8000}", re.DOTALL)
_SHAPES = {
    "jwt_secret_key": re.compile(r"[\w-]{64,128}"),
    "google_client_id": re.compile(r"[0-9a-z.-]{20,120}"),
    "google_client_secret": re.compile(r"[\w-]{20,120}"),
    "google_private_key": _PEM,
    "google_app_client_id": re.compile(r"[0-9a-z.-]{20,120}"),
    "facebook_client_id": re.compile(r"[0-9]{15,17}"),
    "facebook_client_secret": re.compile(r"[0-9a-f]{32}"),
    "facebook_private_key": _PEM,
}
_ADDED_LATER = frozenset({"google_app_client_id", "facebook_private_key"})
"""What the first files lacked. Only these are added to a file; one that lacks anything else is damaged."""


def kept_secrets(path: Path) -> dict[str, str]:
    """The secrets in the file, which is created or completed first when need be.

    Raises ConfigurationError: the file cannot be read or written, is damaged, or somebody else may have put it there.
    It is never overwritten then.
    """
    try:
        return _read_whole(place_of(path))
    except UnsafeFile as error:
        _refuse(error.problem, error.remedy)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        _refuse(
            f"{path} cannot be read or written ({(reason or 'it is not text').lower()}).",
            "Delete it if it exists, or run in a folder that you can write to.",
        )
    except (ValueError, TypeError, RecursionError):
        _refuse(
            f"{path} is damaged.",
            "Delete it; it is made anew. Delete the sandbox's database beside it too if you want to start afresh.",
        )


@lru_cache(maxsize=8)  # OpenSSL checks a key for a twentieth of a second, and each key is asked for three times
def rsa_key(pem: str) -> RSAPrivateKey:
    """The key in the text. Raises ValueError: it is no RSA key, or a short one."""
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, RSAPrivateKey) or key.key_size < _RSA_BITS:
        raise ValueError("not an RSA key of 2048 bits")
    return key


def _read_whole(path: Path) -> dict[str, str]:
    text = _read(path)
    if text is None:
        _create(path, _made_up())
        text = _read(path)
    kept = _checked(text or "")
    return kept if kept.keys() >= _SHAPES.keys() else _completed(path)


def _checked(text: str) -> dict[str, str]:
    """The secrets in the file's text, those added later only if they are there.

    Raises ValueError, TypeError or RecursionError.
    """
    kept = json.loads(text)
    if not isinstance(kept, dict):
        raise TypeError("not an object")
    for name, shape in _SHAPES.items():
        if name not in kept and name in _ADDED_LATER:
            continue
        if not isinstance(kept.get(name), str) or not shape.fullmatch(kept[name]):
            raise ValueError("missing or odd value")
        if shape is _PEM:
            rsa_key(kept[name])
    return {name: kept[name] for name in _SHAPES if name in kept}


def _read(path: Path) -> str | None:
    try:
        with os.fdopen(open_private(path), encoding="utf-8") as file:
            return file.read(64 * 1024)
    except FileNotFoundError:
        return None


def _create(path: Path, made_up: dict[str, str]) -> None:
    """Puts a complete file in place at once. If another process was quicker, its file stays."""
    with written_beside(path, _text(made_up)) as part, contextlib.suppress(FileExistsError):
        path.hardlink_to(part)


def _completed(path: Path) -> dict[str, str]:
    """Adds what is missing and keeps the rest. One process at a time, so that all end up with the same secrets."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        kept = _checked(_read(path) or "")
        missing = {name: _MAKERS[name]() for name in _SHAPES if name not in kept}
        if missing:
            with written_beside(path, _text(kept | missing)) as part:
                part.replace(path)
        return kept | missing
    finally:
        os.close(folder)


def _text(values: dict[str, str]) -> str:
    return json.dumps(values, indent=2)


def _private_key() -> str:
    key = generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def _google_client_id() -> str:
    return f"{_digits(12)}-sandbox{secrets.token_hex(8)}.apps.googleusercontent.com"


def _digits(count: int) -> str:
    return str(10 ** (count - 1) + secrets.randbelow(9 * 10 ** (count - 1)))


_MAKERS: dict[str, Callable[[], str]] = {
    "jwt_secret_key": lambda: secrets.token_urlsafe(64),
    "google_client_id": _google_client_id,
    "google_client_secret": lambda: f"GOCSPX-{secrets.token_urlsafe(24)}",
    "google_private_key": _private_key,
    "google_app_client_id": _google_client_id,
    "facebook_client_id": lambda: _digits(16),
    "facebook_client_secret": lambda: secrets.token_hex(16),
    "facebook_private_key": _private_key,
}


def _made_up() -> dict[str, str]:
    return {name: make() for name, make in _MAKERS.items()}


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise ConfigurationError([SettingProblem("--sandbox", problem, remedy)]) from None
