"""The id_tokens of the stand-ins, with and without faults, and their published keys."""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from nextarget.sandbox.people import Fault

LIFETIME_SECONDS = 3600
OTHER_ISSUER = "https://accounts.mixed-up.invalid"
SKEW_SECONDS = 5
HUGE_BYTES = 70 * 1024
_ROTATED_KEYS_KEPT = 4
_SECURITY_EVENT = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"
_EXTENSION = "https://extension.invalid/"

Claims = dict[str, object]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA key and the `kid` under which it is published (RFC 7517, 4.5)."""

    private: RSAPrivateKey = field(repr=False)
    kid: str

    @classmethod
    def of(cls, private: RSAPrivateKey) -> "SigningKey":
        public = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(private, hashlib.sha256(public).hexdigest()[:40])

    @classmethod
    async def brand_new(cls) -> "SigningKey":
        return cls.of(await asyncio.to_thread(generate_private_key, 65537, 2048))

    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def public_jwk(self) -> dict[str, object]:
        jwk = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.kid, "n": jwk["n"], "e": jwk["e"]}


class IdTokens:
    """Signs the id_tokens of one provider, with or without a fault, and publishes the keys.

    `other_audience` is the client id of another client, in the provider's format. Some faults need it.
    """

    def __init__(self, private_key: RSAPrivateKey, *, other_audience: str) -> None:
        self._key = SigningKey.of(private_key)
        self._rotated: deque[SigningKey] = deque(maxlen=_ROTATED_KEYS_KEPT)
        self._alterations = _alterations(other_audience)

    def jwks(self) -> dict[str, object]:
        """The published keys, as a JWK Set (RFC 7517, 5)."""
        return {"keys": [key.public_jwk() for key in (*self._rotated, self._key)]}

    async def issue(self, claims: Claims, fault: Fault | None, now: int) -> str:
        """An id_token with these claims and with the fault, if any. It is valid for an hour. `now` is in seconds since
        1970."""
        if fault is Fault.GARBAGE_TOKEN:
            return "certainly.not-a.token"
        claims = dict(claims)
        _dated(claims, now)
        if fault in self._alterations:
            self._alterations[fault](claims, now)
        return await self._signed(claims, fault)

    async def _signed(self, claims: Claims, fault: Fault | None) -> str:
        kid = self._key.kid
        match fault:
            case Fault.ALG_NONE:
                return jwt.encode(claims, "", algorithm="none", headers={"kid": kid})
            case Fault.HS256_PUBLIC_KEY:
                return _hs256(claims, kid, self._key.public_pem())
            case Fault.BAD_SIGNATURE:
                return _rs256(claims, kid, (await SigningKey.brand_new()).private)
            case Fault.UNKNOWN_KID:
                return _rs256(claims, secrets.token_hex(20), self._key.private)
            case Fault.ROTATED_KEYS:
                key = await SigningKey.brand_new()
                self._rotated.append(key)
                return _rs256(claims, key.kid, key.private)
            case _:
                extension = {"crit": [_EXTENSION], _EXTENSION: True} if fault is Fault.CRITICAL_HEADER else {}
                return _rs256(claims, kid, self._key.private, **extension)


def at_hash(access_token: str) -> str:
    """The left half of the access token's SHA-256, in base64url (OpenID Connect Core, 3.1.3.6)."""
    return _base64url(hashlib.sha256(access_token.encode("ascii")).digest()[:16])


def _dated(claims: Claims, issued_at: int) -> None:
    claims |= {"iat": issued_at, "exp": issued_at + LIFETIME_SECONDS}


def _without(name: str) -> Callable[[Claims, int], None]:
    def alter(claims: Claims, _now: int) -> None:
        claims.pop(name, None)

    return alter


def _with(name: str, value: object) -> Callable[[Claims, int], None]:
    def alter(claims: Claims, _now: int) -> None:
        claims[name] = value

    return alter


def _alterations(other_audience: str) -> dict[Fault, Callable[[Claims, int], None]]:
    return {
        Fault.WRONG_AUDIENCE: _with("aud", other_audience),
        Fault.OTHER_AZP: _with("azp", other_audience),
        Fault.WRONG_ISSUER: _with("iss", OTHER_ISSUER),
        Fault.EXPIRED: lambda claims, now: _dated(claims, now - 2 * LIFETIME_SECONDS),
        Fault.ISSUED_IN_FUTURE: lambda claims, now: _dated(claims, now + LIFETIME_SECONDS),
        Fault.CLOCK_SKEW: lambda claims, now: _dated(claims, now + SKEW_SECONDS),
        Fault.WRONG_NONCE: _with("nonce", "the-nonce-of-somebody-else"),
        Fault.MISSING_NONCE: _without("nonce"),
        Fault.MISSING_SUB: _without("sub"),
        Fault.EVENTS_CLAIM: _with("events", {_SECURITY_EVENT: {"reason": "hijacking"}}),
        Fault.HUGE_TOKEN: _with("padding", "x" * HUGE_BYTES),
    }


def _rs256(claims: Claims, kid: str, key: RSAPrivateKey, **headers: object) -> str:
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid, **headers})


def _hs256(claims: Claims, kid: str, secret: bytes) -> str:
    """A token signed with HS256. It is made without PyJWT, which rightly refuses a public key as an HMAC secret
    (RFC 8725, 2.1)."""
    parts = ({"alg": "HS256", "typ": "JWT", "kid": kid}, claims)
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{_base64url(hmac.digest(secret, signed.encode(), 'sha256'))}"


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
