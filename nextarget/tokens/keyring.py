"""The server's secrets and the keys derived from them. Each use has a key of its own, by HKDF with its own label."""

import hashlib
import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from nextarget.model import Secret


class SigningKey:
    """One secret: its id (`kid`, public) and the keys derived from it."""

    __slots__ = ("_derived", "_secret", "id")

    def __init__(self, secret: Secret) -> None:
        self._secret = secret.encode()
        self._derived: dict[str, bytes] = {}
        self.id = self.derive("key id")[:8].hex()

    @property
    def secret(self) -> bytes:
        """The secret itself, which signs access tokens: other servers may verify them with what the operator set."""
        return self._secret

    def derive(self, label: str) -> bytes:
        """A key of 32 bytes for one use (RFC 5869)."""
        if label not in self._derived:
            hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"nextarget {label}".encode())
            self._derived[label] = hkdf.derive(self._secret)
        return self._derived[label]

    def mac(self, label: str, message: str) -> bytes:
        """HMAC-SHA256 of a message under the key for one use."""
        return hmac.new(self.derive(label), message.encode(), hashlib.sha256).digest()


class Keyring:
    """The secret that signs, and earlier ones that still verify."""

    def __init__(self, current: Secret, previous: Sequence[Secret] = ()) -> None:
        keys = [SigningKey(secret) for secret in (current, *previous)]
        self.current = keys[0]
        self._by_id = {key.id: key for key in reversed(keys)}

    def get(self, key_id: object) -> SigningKey | None:
        """The key with this id, or None if it is not, or no longer, one of ours."""
        return self._by_id.get(key_id) if isinstance(key_id, str) else None
