"""Verifies tokens that a provider signed: OpenID Connect id_tokens. A claim is used only after every check passed."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nextarget.errors import IdentityRejected
from nextarget.model import Identity, Millis, Provider, usable_email
from nextarget.tokens.compact import Members, read_compact
from nextarget.tokens.encoding import digest, from_base64url

if TYPE_CHECKING:
    from nextarget.tokens.libraries import RSAPublicKey

MAX_TOKEN_LENGTH = 16_384
MAX_SUBJECT_LENGTH = 255
"""OpenID Connect Core, 2: `sub` is at most 255 ASCII characters."""
SKEW_SECONDS = 10
_RSA_BITS = range(2048, 8192 + 1)
"""Accepted key sizes. RFC 7518, 3.3 sets the minimum. Above the maximum, checking a signature takes too long."""
_ALGORITHM = "RS256"

Keys = Mapping[str, "RSAPublicKey"]
"""Public keys by their `kid`, parsed: a key verifies many tokens."""


def keys_of(jwks: object) -> Keys:
    """The usable RSA signing keys of a JWK Set. Other keys are ignored, as RFC 7517, 5 asks."""
    from nextarget.tokens.libraries import PyJWK, PyJWTError, RSAPublicKey

    keys: dict[str, RSAPublicKey] = {}
    entries = jwks.get("keys") if isinstance(jwks, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig":
            continue
        try:
            key = PyJWK(entry, algorithm=_ALGORITHM).key
        except (PyJWTError, ValueError, TypeError):
            continue
        kid = entry.get("kid")
        if isinstance(kid, str) and isinstance(key, RSAPublicKey) and key.key_size in _RSA_BITS:
            keys[kid] = key
    return keys


@dataclass(frozen=True, slots=True)
class IdToken:
    """An id_token that was read but not verified. `key_id` only says which key to check; `verify_id_token` gives the
    claims."""

    text: str = field(repr=False)
    key_id: str
    unverified: Members = field(repr=False)


def read_id_token(text: str) -> IdToken:
    """Read an RS256 token. Raises IdentityRejected."""
    if len(text) > MAX_TOKEN_LENGTH:
        raise IdentityRejected("id_token too long")
    try:
        header, claims = read_compact(text)
    except (ValueError, RecursionError):
        raise IdentityRejected("id_token malformed") from None
    kid = header.get("kid")
    if header.get("alg") != _ALGORITHM or not isinstance(kid, str):
        raise IdentityRejected("id_token without kid, or not RS256")
    _check_meaning(header)
    return IdToken(text, kid, claims)


def _check_meaning(header: Mapping[str, Any]) -> None:
    """Refuse headers that give the token another meaning. Keys in the header (`jwk`, `jku`, `x5u`) are ignored."""
    if "crit" in header or "b64" in header:  # RFC 7515, 4.1.11, and RFC 7797, 7
        raise IdentityRejected("id_token demands an extension (crit)")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") != "jwt":
        raise IdentityRejected("a token of another kind is no id_token (typ)")


def verify_id_token(
    token: IdToken, keys: Keys, *, audiences: tuple[str, ...], issuers: tuple[str, ...], now: Millis
) -> Mapping[str, Any]:
    """The claims of an id_token, after every check of OpenID Connect Core, 3.1.3.7 except that of the nonce.

    The caller checks the nonce next: with `check_nonce` when a login of ours derived it, with `issued_nonce` when an
    app presents the token. Raises IdentityRejected. Its reason names the failed check and quotes nothing of the token.

    google-auth verifies the signature. Its `jwt.decode` does more, but compares the times with the clock of the
    machine; here they are compared with `now`.
    """
    if token.key_id not in keys:
        raise IdentityRejected("id_token not signed by this provider")
    _check_signature(token.text, keys[token.key_id])
    claims = token.unverified
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


def _check_signature(token: str, public_key: "RSAPublicKey") -> None:
    from nextarget.tokens.libraries import RSAVerifier

    signed, _, signature = token.rpartition(".")
    verifier = RSAVerifier(public_key)  # type: ignore[no-untyped-call]
    if not verifier.verify(signed, from_base64url(signature)):
        raise IdentityRejected("id_token signature not valid")


def _check_times(claims: Mapping[str, Any], seconds: int) -> None:
    issued_at, expires_at = claims.get("iat"), claims.get("exp")
    if type(issued_at) is not int or type(expires_at) is not int:
        raise IdentityRejected("id_token times are not whole seconds")
    if issued_at > seconds + SKEW_SECONDS:
        raise IdentityRejected("id_token issued in the future: check this machine's clock")
    if expires_at + SKEW_SECONDS < seconds:
        raise IdentityRejected("id_token expired")


def check_nonce(claims: Mapping[str, Any], nonce: str) -> None:
    """Check that the id_token belongs to the login of this nonce (OpenID Connect Core, 3.1.3.7, 11)."""
    if not hmac.compare_digest(_nonce(claims).encode(), nonce.encode()):
        raise IdentityRejected("id_token nonce wrong or missing")


def issued_nonce(claims: Mapping[str, Any], raw: str | None) -> str:
    """The nonce that the app got from `/auth/nonce`.

    The id_token contains the nonce itself, or its SHA-256 in hex; then the app sends the nonce beside it as `raw`. The
    caller still has to check in the database that the nonce is ours and was not used before.
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
    """The identity that the claims describe. Raises IdentityRejected when `sub` is missing or not usable."""
    subject = usable_subject(claims)
    if subject is None:
        raise IdentityRejected("id_token without a usable sub")
    email = usable_email(claims.get("email"))
    said = claims.get("email_verified")
    verified = trusts_email and email is not None and (said is True or said == "true")
    return Identity(provider, subject, email, verified)


def usable_subject(claims: Mapping[str, Any]) -> str | None:
    """The claim `sub`, if it is a usable one."""
    subject = claims.get("sub")
    usable = isinstance(subject, str) and 0 < len(subject) <= MAX_SUBJECT_LENGTH and subject.isascii()
    return subject if usable else None
