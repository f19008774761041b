"""Values that can be used once: `random . expiry . MAC`.

Making a value writes nothing: the MAC shows that we made it, and until when it is valid. When a value is used, the
caller stores its digest, and refuses the same value later.
"""

import hmac
import re
import secrets
from dataclasses import dataclass

from nextarget.model import Millis
from nextarget.tokens.encoding import base64url
from nextarget.tokens.keyring import Keyring, SigningKey

_FORM = re.compile(r"([A-Za-z0-9_-]{43})\.([1-9][0-9]{12})\.([A-Za-z0-9_-]{43})")
LENGTH = 43 + 1 + 13 + 1 + 43
"""Characters of a value: 256 random bits, UTC milliseconds and 256 bits of HMAC, with two full stops between them."""


@dataclass(frozen=True, slots=True)
class OneTimeValue:
    """A value with a valid MAC, and the key that it was made with. It may be expired."""

    key: SigningKey
    expires_at: Millis


def issue(key: SigningKey, use: str, *, bound_to: str = "", expires_at: Millis) -> str:
    """A new value. It is valid only for the same `use` and `bound_to`."""
    random = secrets.token_urlsafe(32)
    return f"{random}.{expires_at}.{_mac(key, use, random, str(expires_at), bound_to)}"


def read(keyring: Keyring, use: str, text: str, *, bound_to: str = "") -> OneTimeValue | None:
    """The value, if we made it for this `use` and `bound_to`; else None."""
    found = _FORM.fullmatch(text) if len(text) == LENGTH else None
    if found is None:
        return None
    random, expires_at, presented = found.groups()
    for key in keyring.secrets:
        if hmac.compare_digest(_mac(key, use, random, expires_at, bound_to), presented):
            return OneTimeValue(key, Millis(int(expires_at)))
    return None


def _mac(key: SigningKey, use: str, random: str, expires_at: str, bound_to: str) -> str:
    return base64url(key.mac(use, f"{random}.{expires_at}.{bound_to}"))
