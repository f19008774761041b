"""Verifies security event tokens that a provider signed (RFC 8417). A claim is used only after every check passed.

An event token is no id_token, although the same provider signs both for the same audience: it has no `exp`, because
what it tells stays true, and it has `events`, which an id_token must not have.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nextarget.errors import EventRefused
from nextarget.model import Millis
from nextarget.tokens.compact import read_compact
from nextarget.tokens.provider_tokens import MAX_TOKEN_LENGTH, Keys

if TYPE_CHECKING:
    from nextarget.tokens.libraries import RSAPublicKey

_ALGORITHM = "RS256"
_TYPES = frozenset({"jwt", "secevent+jwt"})
"""RFC 8417, 2.3 recommends `secevent+jwt`, and does not demand it."""
_MAX_ID_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class EventToken:
    """An event token that was read but not verified. `key_id` only says which key to check."""

    text: str = field(repr=False)
    key_id: str


@dataclass(frozen=True, slots=True)
class EventClaims:
    """The claims of a verified event token. `id` is its `jti`, which is unique at its issuer; `issued_at` is the
    beginning of a second."""

    id: str
    issued_at: Millis
    events: object = field(repr=False)


def read_event_token(text: str) -> EventToken:
    """Read an RS256 token. Raises EventRefused."""
    if len(text) > MAX_TOKEN_LENGTH:
        raise EventRefused("invalid_request", "the token is too long")
    try:
        header, _claims = read_compact(text)
    except (ValueError, RecursionError):
        raise EventRefused("invalid_request", "the body is not a signed token") from None
    if "crit" in header or "b64" in header:  # RFC 7515, 4.1.11, and RFC 7797, 7
        raise EventRefused("invalid_request", "the token demands an extension (crit)")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES or "cty" in header:
        raise EventRefused("invalid_request", "the token is of another kind (typ, cty)")
    kid = header.get("kid")
    if header.get("alg") != _ALGORITHM or not isinstance(kid, str):
        raise EventRefused("invalid_key", f"the token is not signed with {_ALGORITHM} by a key with a kid")
    return EventToken(text, kid)


def verify_event_token(
    token: EventToken, keys: Keys, *, audiences: Collection[str], issuers: Collection[str]
) -> EventClaims:
    """The claims of an event token, after the checks of RFC 8417, 2.2. Raises EventRefused, which quotes nothing.

    `iat` may lie in the future, as a clock that is slow sees it: the event is not lost, and concerns what there is now.
    """
    if token.key_id not in keys:
        raise EventRefused("invalid_key", "the issuer has no such key")
    claims = _signed_claims(token.text, keys[token.key_id])
    if claims.get("iss") not in issuers:
        raise EventRefused("invalid_issuer", "the token is of another issuer")
    named = claims.get("aud")
    if not any(each in audiences for each in (named if isinstance(named, list) else [named])):
        raise EventRefused("invalid_audience", "the token is for another audience")
    issued_at, token_id = claims.get("iat"), claims.get("jti")
    if type(issued_at) is not int:
        raise EventRefused("invalid_request", "iat is missing or not in whole seconds")
    if not isinstance(token_id, str) or not 0 < len(token_id) <= _MAX_ID_LENGTH or not token_id.isascii():
        raise EventRefused("invalid_request", "jti is missing or no usable text")
    if "events" not in claims:
        raise EventRefused("invalid_request", "the token has no events")
    return EventClaims(token_id, Millis(issued_at * 1000), claims["events"])


def _signed_claims(text: str, key: "RSAPublicKey") -> Mapping[str, Any]:
    from nextarget.tokens import libraries

    try:
        claims: Mapping[str, Any] = libraries.decode(
            text,
            key,
            algorithms=[_ALGORITHM],
            options={
                "verify_aud": False,
                "verify_exp": False,
                "verify_iat": False,
                "verify_iss": False,
                "verify_jti": False,
                "verify_nbf": False,
                "verify_sub": False,
            },
        )
    except (libraries.PyJWTError, ValueError, RecursionError):
        raise EventRefused("authentication_failed", "the token was not signed by its issuer") from None
    return claims
