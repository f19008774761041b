"""How octets become text, and how one-time values are stored."""

import hashlib
from base64 import urlsafe_b64decode
from binascii import b2a_base64

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def base64url(octets: bytes) -> str:
    """Base64url without padding (RFC 7515, 2)."""
    return b2a_base64(octets, newline=False).translate(_URL_SAFE, b"=").decode()


def from_base64url(text: str) -> bytes:
    """The octets of base64url without padding. Raises ValueError unless it is their one spelling: decoders also take
    another alphabet, padding, and stray bits at the end (RFC 4648, 3.5)."""
    octets = urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}")
    if base64url(octets) != text:
        raise ValueError("not base64url without padding")
    return octets


def digest(text: str) -> str:
    """SHA-256, hex: how one-time values, which are random and need no salt, and subjects are kept."""
    return hashlib.sha256(text.encode()).hexdigest()


def code_challenge(code_verifier: str) -> str:
    """The S256 challenge for a PKCE verifier (RFC 7636, 4.2)."""
    return base64url(hashlib.sha256(code_verifier.encode()).digest())
