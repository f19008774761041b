"""The secrets and ids that the sandbox generates once and keeps: for itself, and for our client at every stand-in."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class MadeUp:
    """One generated text: the pattern that it must match, and the function that generates it.

    `first` is whether the first release had this text. A file without such a text is damaged; another missing text is
    generated and added. `check` raises ValueError for a text that matches the pattern but is not valid.
    """

    shape: re.Pattern[str]
    make: Callable[[], str]
    first: bool = False
    check: Callable[[str], object] | None = None


class StandInClient(Protocol):
    """Our client at a stand-in: the stand-in has it registered, and the settings of the server name it."""

    made_up: ClassVar[Mapping[str, MadeUp]]
    """The generated texts of this client, by name."""
    unused: ClassVar[tuple[str, ...]]
    """Fields of the provider's settings that the sandbox does not use."""

    @classmethod
    def of(cls, public_url: str, kept: Mapping[str, str]) -> Self:
        """The client, for a server with this `public_url`. `kept` has a text for every name in `made_up`. OpenSSL
        checks the keys."""

    def settings(self) -> Mapping[str, str]:
        """The values of the provider's settings, by field, with which the server uses the stand-in."""


@lru_cache(maxsize=8)  # OpenSSL takes 50 ms to check a key, and every key is loaded three times
def rsa_key(pem: str) -> RSAPrivateKey:
    """The key in a PEM text. Raises ValueError if it is not an RSA key, or is too short."""
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, RSAPrivateKey) or key.key_size < _RSA_BITS:
        raise ValueError("not an RSA key of 2048 bits")
    return key


def rsa_private_key(*, first: bool = False) -> MadeUp:
    """A generated key that signs id_tokens, as PEM."""
    return MadeUp(
        re.compile(r"-----BEGIN PRIVATE KEY-----\n.{1000,8000}", re.DOTALL), _new_rsa_key, first=first, check=rsa_key
    )


def digits(count: int) -> str:
    """A random number with `count` digits."""
    return str(10 ** (count - 1) + secrets.randbelow(9 * 10 ** (count - 1)))


def _new_rsa_key() -> str:
    key = generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")
