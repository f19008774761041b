"""Tokens that others signed: OpenID Connect id_tokens. What they say is believed only once every rule here holds."""

import hmac
from collections.abc import Mapping
from typing import Any

import jwt as pyjwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from nextarget.errors import IdentityRejected
from nextarget.model import MAX_EMAIL_LENGTH, Identity, Millis, Provider
from nextarget.tokens.compact import read_compact
from nextarget.tokens.encoding import digest

MAX_TOKEN_LENGTH = 16_384
MAX_SUBJECT_LENGTH = 255
"""OpenID Connect Core, 2: `sub` is at most 255 ASCII characters."""
SKEW_SECONDS = 10
_RSA_BITS = range(2048, 8192 + 1)
"""RFC 7518, 3.3 sets the lower bound; above the upper one, checking a signature takes too long."""
_ALGORITHM = "RS256"
_UNLIMITED_SKEW = 1 << 62

Keys = Mapping[str, bytes]
"""Public keys by `kid`, PEM."""


def keys_of(jwks: object) -> Keys:
    """The usable RSA signing keys of a JWK Set (RFC 7517, 5); keys of other kinds are passed over, as 5 asks."""
    keys: dict[str, bytes] = {}
    entries = jwks.get("keys") if isinstance(jwks, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig":
            continue
        try:
            key = pyjwt.PyJWK(entry, algorithm=_ALGORITHM).key
        except (pyjwt.PyJWTError, ValueError, TypeError):
            continue
        kid = entry.get("kid")
        if isinstance(kid, str) and isinstance(key, RSAPublicKey) and key.key_size in _RSA_BITS:
            keys[kid] = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return keys


def key_id_of(token: str) -> str:
    """The `kid` of an RS256 token, unverified: it only chooses a key. Raises IdentityRejected."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise IdentityRejected("id_token too long")
    try:
        header, _claims = read_compact(token)
    except (ValueError, RecursionError):
        raise IdentityRejected("id_token malformed") from None
    kid = header.get("kid")
    if header.get("alg") != _ALGORITHM or not isinstance(kid, str):
        raise IdentityRejected("id_token without kid, or not RS256")
    _check_meaning(header)
    return kid


def _check_meaning(header: Mapping[str, Any]) -> None:
    """Nothing in a header may change what the token is. Keys that it brings along (`jwk`, `jku`, `x5u`) are ignored."""
    if "crit" in header or "b64" in header:  # RFC 7515, 4.1.11, and RFC 7797, 7; google-auth reads neither
        raise IdentityRejected("id_token demands an extension (crit)")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") != "jwt":
        raise IdentityRejected("a token of another kind is no id_token (typ)")


def verify_id_token(
    token: str, keys: Keys, *, audiences: tuple[str, ...], issuers: tuple[str, ...], now: Millis
) -> Mapping[str, Any]:
    """The claims of an id_token, after the checks of OpenID Connect Core, 3.1.3.7, but for the nonce.

    Who calls checks the nonce next: `check_nonce` where a login derived it, `issued_nonce` where an app presents
    the token. Raises IdentityRejected; its reason names the rule that failed and quotes nothing of the token.
    """
    kid = key_id_of(token)
    if kid not in keys:
        raise IdentityRejected("id_token not signed by this provider")
    try:
        # The clock is checked below, against `now`; google-auth reads one of its own.
        claims: Mapping[str, Any] = jwt.decode(  # type: ignore[no-untyped-call]
            token, certs={kid: keys[kid]}, clock_skew_in_seconds=_UNLIMITED_SKEW
        )
    except (GoogleAuthError, ValueError, TypeError, OverflowError, RecursionError):
        raise IdentityRejected("id_token signature not valid") from None
    _check_times(claims, now // 1000)
    if claims.get("iss") not in issuers:
        raise IdentityRejected("id_token of another issuer")
    if claims.get("aud") not in audiences:
        raise IdentityRejected("id_token made for another client (aud)")
    if "azp" in claims and claims["azp"] not in audiences:
        raise IdentityRejected("id_token issued to another client (azp)")
    if "events" in claims:
        raise IdentityRejected("a security event token is no id_token (RFC 8417, 4)")
    return claims


def _check_times(claims: Mapping[str, Any], seconds: int) -> None:
    issued_at, expires_at = claims.get("iat"), claims.get("exp")
    if type(issued_at) is not int or type(expires_at) is not int:
        raise IdentityRejected("id_token times are not whole seconds")
    if issued_at > seconds + SKEW_SECONDS:
        raise IdentityRejected("id_token issued in the future: check this machine's clock")
    if expires_at + SKEW_SECONDS < seconds:
        raise IdentityRejected("id_token expired")


def check_nonce(claims: Mapping[str, Any], nonce: str) -> None:
    """The id_token answers the login that derived this nonce (OpenID Connect Core, 3.1.3.7, 11)."""
    if not hmac.compare_digest(_nonce(claims).encode(), nonce.encode()):
        raise IdentityRejected("id_token nonce wrong or missing")


def issued_nonce(claims: Mapping[str, Any], raw: str | None) -> str:
    """The nonce that an app got from us, as a native id_token carries it: plainly, or as the SHA-256, hex, of `raw`.

    Whether we issued it, and nobody used it yet, is the database's to say.
    """
    presented = _nonce(claims)
    if raw is None:
        return presented
    if not any(hmac.compare_digest(presented.encode(), form.encode()) for form in (raw, digest(raw))):
        raise IdentityRejected("id_token nonce is not the one sent beside it")
    return raw


def _nonce(claims: Mapping[str, Any]) -> str:
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not nonce or not nonce.isascii():
        raise IdentityRejected("id_token nonce wrong or missing")
    return nonce


def identity_of(provider: Provider, claims: Mapping[str, Any], *, trusts_email: bool = True) -> Identity:
    """Who the claims speak of. Raises IdentityRejected when `sub` is missing or odd."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_LENGTH or not subject.isascii():
        raise IdentityRejected("id_token without a usable sub")
    email = usable_email(claims.get("email"))
    said = claims.get("email_verified")
    verified = trusts_email and email is not None and (said is True or said == "true")
    return Identity(provider, subject, email, verified)


def usable_email(value: object) -> str | None:
    """An email address as a provider gave it, or None when there is none that could be one."""
    if not isinstance(value, str) or not 3 <= len(value) <= MAX_EMAIL_LENGTH or not value.isprintable():
        return None
    local, at, domain = value.rpartition("@")
    return value if at and local and domain and " " not in value else None
