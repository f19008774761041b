"""The outer form of a signed token (RFC 7515, 7.1), read strictly before a library that is kinder verifies it.

Libraries pass over white space in base64, take the last of two members with one name, and ignore what they do not know,
`crit` included. Then two readers of one token may read two things. Nothing here is verified: see `access`, `foreign`.
"""

import json
import re
from typing import Any

from nextarget.tokens.encoding import from_base64url

Members = dict[str, Any]

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")


def read_compact(token: str) -> tuple[Members, Members]:
    """Header and claims of a token, unverified; it may lack its signature. Raises ValueError or RecursionError."""
    found = _FORM.fullmatch(token)
    if found is None:
        raise ValueError("not three segments of base64url")
    header, claims, _signature = map(from_base64url, found.groups())
    return _members(header), _members(claims)


def _members(octets: bytes) -> Members:
    """A JSON object in UTF-8, in which no name comes twice (RFC 7515, 4; RFC 7519, 4), and no number is infinite."""
    value = json.loads(octets.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - of no interest to a caller
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Members:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name comes twice")
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON (RFC 8259, 6)")
