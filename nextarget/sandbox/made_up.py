"""What the sandbox makes up once and keeps: for itself, and for our client at each stand-in provider."""

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
    """One text that is kept: what it has to look like, and how it is made.

    `first` is whether the first release had it already. A file that lacks such a text is damaged; anything else is
    added. `check` raises ValueError for what has the shape and is still no good.
    """

    shape: re.Pattern[str]
    make: Callable[[], str]
    first: bool = False
    check: Callable[[str], object] | None = None


class StandInClient(Protocol):
    """Our client at a stand-in provider: the one that is registered there, and that the server's settings name."""

    made_up: ClassVar[Mapping[str, MadeUp]]
    """What is kept for it, by a name of its own."""
    unused: ClassVar[tuple[str, ...]]
    """Fields of the provider's settings that have no use in the sandbox."""

    @classmethod
    def of(cls, public_url: str, kept: Mapping[str, str]) -> Self:
        """The client at a server. `kept` has a text for every name of `made_up`. OpenSSL checks the keys."""

    def settings(self) -> Mapping[str, str]:
        """The provider's settings, by field, that point the server's own code at the stand-in."""


@lru_cache(maxsize=8)  # OpenSSL checks a key for a twentieth of a second, and each key is asked for three times
def rsa_key(pem: str) -> RSAPrivateKey:
    """The key in the text. Raises ValueError: it is no RSA key, or a short one."""
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, RSAPrivateKey) or key.key_size < _RSA_BITS:
        raise ValueError("not an RSA key of 2048 bits")
    return key


def rsa_private_key(*, first: bool = False) -> MadeUp:
    """A key that signs id_tokens, as PEM."""
    return MadeUp(
        re.compile(r"-----BEGIN PRIVATE KEY-----\n.{1000,8000}", re.DOTALL), _new_rsa_key, first=first, check=rsa_key
    )


def digits(count: int) -> str:
    """A number of so many digits."""
    return str(10 ** (count - 1) + secrets.randbelow(9 * 10 ** (count - 1)))


def _new_rsa_key() -> str:
    key = generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")
