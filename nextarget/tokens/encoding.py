"""How bytes are written as text, and how one-time values are stored."""

import hashlib
from base64 import urlsafe_b64decode
from binascii import b2a_base64

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def base64url(octets: bytes) -> str:
    """Base64url without padding (RFC 7515, 2)."""
    return b2a_base64(octets, newline=False).translate(_URL_SAFE, b"=").decode()


def from_base64url(text: str) -> bytes:
    """The bytes of base64url without padding.

    Raises ValueError unless the text is exactly what `base64url` writes for these bytes. Decoders also accept another
    alphabet, padding, and unused bits at the end that are not zero (RFC 4648, 3.5).
    """
    octets = urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}")
    if base64url(octets) != text:
        raise ValueError("not base64url without padding")
    return octets


def digest(text: str) -> str:
    """SHA-256 in hex. One-time values and subjects are stored in this form; one-time values are random, so that they
    need no salt."""
    return hashlib.sha256(text.encode()).hexdigest()


def uuid_text(digits: str, version: int) -> str:
    """The text of a UUID (RFC 9562, 4) of 32 hex digits, of which two give way to the version and the variant.

    It is here because Python's UUID takes four times as long for the same text.
    """
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def code_challenge(code_verifier: str) -> str:
    """The S256 challenge for a PKCE verifier (RFC 7636, 4.2)."""
    return base64url(hashlib.sha256(code_verifier.encode()).digest())
