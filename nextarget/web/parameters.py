"""Reads query parameters: each at most once, in its form, or a clear 400 that quotes nothing."""

import re

from multidict import MultiMapping

from nextarget.errors import InvalidRequest

STATE = re.compile(r"[A-Za-z0-9_-]{43}")
CODE = re.compile(r"[\x20-\x7e]{1,2048}")
"""RFC 6749, appendix A.11: VSCHAR."""
ERROR = re.compile(r"[\x20-\x7e]{1,200}")
DESCRIPTION = re.compile(r".{0,2048}", re.S)
ISSUER = re.compile(r"[\x21-\x7e]{1,255}")


def optional(query: MultiMapping[str], name: str, form: re.Pattern[str]) -> str | None:
    """The value of a parameter, None when it is absent. Raises InvalidRequest when it is repeated or malformed."""
    values = query.getall(name, [])
    if not values:
        return None
    if len(values) > 1:
        raise InvalidRequest(f"The parameter '{name}' is given more than once. Send it once.")
    if not form.fullmatch(values[0]):
        raise InvalidRequest(f"The parameter '{name}' does not have its form. /openapi.json says which it is.")
    return values[0]


def required(query: MultiMapping[str], name: str, form: re.Pattern[str]) -> str:
    """As `optional`, but absence is an error too."""
    value = optional(query, name, form)
    if value is None:
        raise InvalidRequest(f"The parameter '{name}' is missing. Add it.")
    return value
