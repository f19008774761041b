"""Access tokens: JWTs as in RFC 9068. This module checks signature and times. It does not check whether session and
user are still active: the database knows that."""

from dataclasses import dataclass

import orjson

from nextarget.errors import InvalidToken
from nextarget.ids import new_id
from nextarget.model import AccessToken, Millis
from nextarget.tokens.compact import read_compact
from nextarget.tokens.encoding import base64url
from nextarget.tokens.keyring import JwtKey, Keyring

TYPE = "at+jwt"
LEEWAY_SECONDS = 10
MAX_TOKEN_LENGTH = 4096
SECRET_BELIEVED_MS = 24 * 3600 * 1000
"""How long tokens signed with the secret stay valid after a private key replaced it: the longest life of a token."""
_HEADER = {"alg", "typ", "kid"}
_CLAIMS = ("iss", "aud", "sub", "sid", "client_id", "iat", "exp", "jti")
_CACHE_SIZE = 4096


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """The claims of a verified access token. `issued_at` and `expires_at` are seconds since 1970, as in the JWT."""

    user_id: str
    session_id: str
    client_id: str
    issued_at: int
    expires_at: int


class AccessTokens:
    """Makes and verifies access tokens. Verified signatures are in a bounded cache; times are checked on every call."""

    def __init__(self, keyring: Keyring, *, issuer: str, audience: str, client_ids: frozenset[str]) -> None:
        """`client_ids` are the apps that there are: tokens of other apps are refused."""
        self._keyring = keyring
        self._issuer = issuer
        self._audience = audience
        self._client_ids = client_ids
        key = keyring.jwt_key
        self._header = base64url(orjson.dumps({"alg": key.algorithm, "typ": TYPE, "kid": key.id}))
        self._verified: dict[str, tuple[AccessClaims, JwtKey]] = {}
        self._secret_ends_at: Millis | None = None

    def private_key_since(self, first_use: Millis) -> Millis:
        """Refuse tokens signed with the secret one day after the first use of a private key. Returns that time.

        Other servers know the secret, because they verified tokens with it: without an end, anyone who learned it there
        could make access tokens for ever.
        """
        self._secret_ends_at = Millis(first_use + SECRET_BELIEVED_MS)
        return self._secret_ends_at

    def mint(self, *, user_id: str, session_id: str, client_id: str, now: Millis, lifetime: int) -> AccessToken:
        """A token for one session that lives `lifetime` seconds from `now`."""
        issued_at = now // 1000
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": user_id,
            "sid": session_id,
            "client_id": client_id,
            "iat": issued_at,
            "exp": issued_at + lifetime,
            "jti": new_id(),
        }
        message = f"{self._header}.{base64url(orjson.dumps(claims))}"
        signature = base64url(self._keyring.jwt_key.sign(message.encode()))
        return AccessToken(f"{message}.{signature}", lifetime)

    def verify(self, token: str, now: Millis) -> AccessClaims:
        """The claims of the token. Raises InvalidToken, which does not tell the caller what is wrong (RFC 9068, 4)."""
        claims, key = self._known(token)
        seconds = now // 1000
        if claims.expires_at <= seconds or claims.issued_at > seconds + LEEWAY_SECONDS:
            self._verified.pop(token, None)
            raise InvalidToken(note="expired, or issued in the future")
        if claims.client_id not in self._client_ids:
            raise InvalidToken(note="of an app that is no longer configured")
        if self._secret_ends_at is not None and key.is_secret and now >= self._secret_ends_at:
            raise InvalidToken(note="signed with the secret, which a private key has replaced")
        return claims

    def read(self, token: str) -> AccessClaims:
        """The claims of a token that any of our keys signed, even if it has expired: enough to end its session. Raises
        InvalidToken."""
        return self._known(token)[0]

    def _known(self, token: str) -> tuple[AccessClaims, JwtKey]:
        known = self._verified.get(token)
        if known is None:
            known = self._verify_signature(token)
            if len(self._verified) >= _CACHE_SIZE:
                self._verified.pop(next(iter(self._verified)))
            self._verified[token] = known
        return known

    def _verify_signature(self, token: str) -> tuple[AccessClaims, JwtKey]:
        if len(token) > MAX_TOKEN_LENGTH:
            raise InvalidToken(note="too long")
        from nextarget.tokens import libraries

        try:
            header, _claims = read_compact(token)
            key = self._key_for(header)
            claims = libraries.decode(
                token,
                key.verifying,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options={
                    "require": list(_CLAIMS),
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (libraries.PyJWTError, ValueError, RecursionError):
            raise InvalidToken(note="malformed or not signed by us") from None
        user_id, session_id, client_id = claims["sub"], claims["sid"], claims["client_id"]
        issued_at, expires_at = claims["iat"], claims["exp"]
        if not all(isinstance(text, str) for text in (user_id, session_id, client_id)):
            raise InvalidToken(note="claims of the wrong type")
        if type(issued_at) is not int or type(expires_at) is not int:
            raise InvalidToken(note="claims of the wrong type")
        return AccessClaims(user_id, session_id, client_id, issued_at, expires_at), key

    def _key_for(self, header: dict[str, object]) -> JwtKey:
        key = self._keyring.verifying(header.get("kid"))
        if key is None or header.get("typ") != TYPE:
            raise InvalidToken(note="unknown kid or wrong typ")
        if header.keys() != _HEADER:  # we do not write others, such as `crit`, `b64` or `jwk`
            raise InvalidToken(note="a header that we do not write")
        return key
