"""Makes tokens of every shape, right and wrong, without the libraries that are under test."""

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256


def encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def decoded(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def segment(value: Any) -> str:
    """The value as JSON in base64url. Bytes are encoded as they are."""
    return encoded(value if isinstance(value, bytes) else json.dumps(value).encode())


def rs256(header: Any, claims: Any, key: RSAPrivateKey) -> str:
    signed = f"{segment(header)}.{segment(claims)}"
    return f"{signed}.{encoded(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def hs256(header: Any, claims: Any, secret: bytes) -> str:
    signed = f"{segment(header)}.{segment(claims)}"
    return f"{signed}.{encoded(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def unsigned(header: Any, claims: Any) -> str:
    return f"{segment(header)}.{segment(claims)}."


def flipped(token: str, which: int, bit: int) -> str:
    """The token with one bit of one decoded segment changed."""
    segments = token.split(".")
    octets = bytearray(decoded(segments[which]))
    bit %= len(octets) * 8
    octets[bit // 8] ^= 1 << bit % 8
    segments[which] = encoded(bytes(octets))
    return ".".join(segments)


def contains_part_of(text: str, token: str, *, length: int = 12) -> bool:
    """Whether the text contains a run of the token's characters that is at least `length` long."""
    return any(token[start : start + length] in text for start in range(len(token) - length + 1))
