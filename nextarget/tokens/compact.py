"""Reads the compact form of a signed token (RFC 7515, 7.1) strictly, before a library verifies the token.

Libraries accept white space in base64, take the last of two members with the same name, and ignore members that they do
not know, `crit` among them. Two libraries could then read two different things from one token. This module verifies
nothing: `access` and `provider_tokens` do.
"""

import json
import re
from typing import Any

from nextarget.tokens.encoding import from_base64url

Members = dict[str, Any]

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")


def read_compact(token: str) -> tuple[Members, Members]:
    """Header and claims of a token, not verified. The signature may be empty. Raises ValueError or RecursionError."""
    found = _FORM.fullmatch(token)
    if found is None:
        raise ValueError("not three segments of base64url")
    header, claims, _signature = map(from_base64url, found.groups())
    return _members(header), _members(claims)


def _members(octets: bytes) -> Members:
    """A JSON object in UTF-8. Refuses duplicate names (RFC 7515, 4; RFC 7519, 4), NaN and infinite numbers."""
    value = _STRICT_JSON.decode(octets.decode())
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - callers catch ValueError alone
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Members:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate name")
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON (RFC 8259, 6)")


_STRICT_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
