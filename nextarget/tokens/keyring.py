"""The server's keys: its secrets, the keys that derive from them, and the private key that signs, if there is one."""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from nextarget.model import Secret
from nextarget.tokens.encoding import base64url, from_base64url

MIN_RSA_BITS = 2048
_AES_NONCE = bytes(12)
"""AES-GCM must not use a nonce twice with one key (NIST SP 800-38D, 8). Every name has its own key, which encrypts one
message, so the nonce can be constant."""


class SigningKey:
    """One secret, its public id, and the keys that derive from it. Every use has its own key, named by a label."""

    __slots__ = ("_derived", "_keyed", "_secret", "id")

    def __init__(self, secret: Secret) -> None:
        self._secret = secret.encode()
        self._derived: dict[str, bytes] = {}
        self._keyed: dict[str, HMAC] = {}
        self.id = self.derive("key id")[:8].hex()

    @property
    def secret(self) -> bytes:
        """The secret itself. It signs access tokens, so that other servers can verify them with the same setting."""
        return self._secret

    def derive(self, label: str) -> bytes:
        """A key of 32 bytes for one use (RFC 5869)."""
        if label not in self._derived:
            hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"nextarget {label}".encode())
            self._derived[label] = hkdf.derive(self._secret)
        return self._derived[label]

    def mac(self, label: str, message: str) -> bytes:
        """HMAC-SHA256 of a message under the key for one use."""
        if label not in self._keyed:
            self._keyed[label] = HMAC(self.derive(label), SHA256())
        return _mac(self._keyed[label], message.encode())

    def seal(self, label: str, name: str, plain: bytes) -> str:
        """Encrypt and authenticate the one message of this name, for one use. Call it only once for a name."""
        return base64url(AESGCM(self.mac(label, name)).encrypt(_AES_NONCE, plain, None))

    def unseal(self, label: str, name: str, sealed: str) -> bytes:
        """Decrypt a message. Raises ValueError if it was not sealed with this name, for this use."""
        try:
            return AESGCM(self.mac(label, name)).decrypt(_AES_NONCE, from_base64url(sealed), None)
        except InvalidTag:
            raise ValueError("not sealed with this name") from None


def _mac(keyed: HMAC, message: bytes) -> bytes:
    """The MAC of a message. To copy a keyed HMAC is cheaper: OpenSSL takes longer to set up a key than to use it."""
    mac = keyed.copy()
    mac.update(message)
    return mac.finalize()


class JwtKey:
    """A key for JWTs. It works with one algorithm only, so that nobody can use a public key as an HMAC secret.

    `jwk` is the public key (RFC 7517), or None for a secret.
    """

    def __init__(
        self,
        key_id: str,
        algorithm: str,
        sign: Callable[[bytes], bytes],
        verifying: Any,
        jwk: dict[str, str] | None = None,
    ) -> None:
        """`sign` returns the signature of a JWS signing input (RFC 7515, 5.1)."""
        self.id = key_id
        self.algorithm = algorithm
        self.sign = sign
        self.verifying = verifying
        self.jwk = jwk

    @classmethod
    def of_secret(cls, key_id: str, secret: bytes) -> Self:
        """A key for HS256 (RFC 7518, 3.2)."""
        return cls(key_id, "HS256", partial(_mac, HMAC(secret, SHA256())), secret)

    @property
    def is_secret(self) -> bool:
        """Whether this is a shared secret: a server that verifies with it could sign with it too."""
        return self.jwk is None


class Keyring:
    """The current secret, previous or coming secrets that also verify, and the private key that signs, if any."""

    def __init__(self, current: Secret, previous: Sequence[Secret] = (), private_key: JwtKey | None = None) -> None:
        self.secrets = [SigningKey(secret) for secret in (current, *previous)]
        self.current = self.secrets[0]
        self._jwt_keys = {key.id: JwtKey.of_secret(key.id, key.secret) for key in self.secrets}
        if private_key is not None:
            self._jwt_keys[private_key.id] = private_key
        self.jwt_key = private_key or self._jwt_keys[self.current.id]

    def verifying(self, key_id: object) -> JwtKey | None:
        """The key that a JWT with this `kid` must have been signed with, or None."""
        return self._jwt_keys.get(key_id) if isinstance(key_id, str) else None

    def public_jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys as a JWK Set (RFC 7517, 5); empty while a secret signs."""
        return {"keys": [self.jwt_key.jwk] if self.jwt_key.jwk else []}


def load_private_key(pem: bytes, algorithm: str | None) -> JwtKey:
    """The key in a PEM file: EdDSA (Ed25519), ES256 (P-256) or RS256 (RSA). With `algorithm`, it has to be that one.

    Raises ValueError with a sentence that says what is wrong and what to do.
    """
    # Imported here, because most servers sign with the secret, and these libraries take a while.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from jwt import get_algorithm_by_name
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise ValueError(
            "does not hold an unencrypted private key in PEM. Make one with: openssl genpkey -algorithm ed25519"
        ) from None
    except UnsupportedAlgorithm:
        raise ValueError(_UNFIT) from None
    match key:
        case Ed25519PrivateKey():
            found, jwk = "EdDSA", OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case EllipticCurvePrivateKey(curve=SECP256R1()):
            found, jwk = "ES256", ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case RSAPrivateKey() if key.key_size >= MIN_RSA_BITS:
            found, jwk = "RS256", RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case _:
            raise ValueError(_UNFIT)
    if algorithm not in {None, found}:
        raise ValueError(f"holds a key for {found}. Set JWT_ALGORITHM to that, or leave it out.")
    thumbprint = _thumbprint(jwk)
    public = {name: jwk[name] for name in ("kty", *_MEMBERS[found])} | {"kid": thumbprint, "use": "sig", "alg": found}
    implementation = get_algorithm_by_name(found)
    prepared = implementation.prepare_key(key)  # only once, as preparing takes longer than signing
    return JwtKey(thumbprint, found, lambda message: implementation.sign(message, prepared), key.public_key(), public)


_UNFIT = (
    f"holds a key that is not Ed25519, P-256, or RSA of {MIN_RSA_BITS} bits. "
    "Make one with: openssl genpkey -algorithm ed25519"
)
_MEMBERS = {"EdDSA": ("crv", "x"), "ES256": ("crv", "x", "y"), "RS256": ("e", "n")}


def _thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638, 3: SHA-256 of the required members, sorted."""
    members = {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64url(hashlib.sha256(canonical.encode()).digest())
