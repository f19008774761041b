"""The value of the account page's cookie, and the token in the forms of that page. Neither is stored.

A visit is the ten minutes after a sign-in at the account page, in one browser.
"""

import hmac
import re
from dataclasses import dataclass, field

from nextarget.model import Millis, User
from nextarget.tokens.encoding import base64url
from nextarget.tokens.keyring import Keyring, SigningKey

VISIT_SECONDS = 600
"""How long a visit lasts after its sign-in: who deletes an account must have signed in a moment ago."""
_USE, _FORM_USE = "account visit", "account form"
_BODY = r"([A-Za-z0-9_-]{1,64})\.(0|[1-9][0-9]{0,15})\.([1-9][0-9]{12})"
_FORM = re.compile(rf"(?P<body>{_BODY})\.(?P<mac>[A-Za-z0-9_-]{{43}})")


@dataclass(frozen=True, slots=True)
class VisitToken:
    """A cookie with a valid MAC. It may be expired.

    `sessions_ended_at` is that of the user when the visit began: after all sessions were ended, the user has another
    one. They are compared for equality, so that clocks of several nodes do not matter.
    """

    user_id: str
    sessions_ended_at: Millis
    expires_at: Millis
    form_token: str = field(repr=False)
    """What every form of the visit contains. A page of another site cannot know it (RFC 6749, 10.12)."""

    def is_of(self, user: User, now: Millis) -> bool:
        """Whether the visit still stands: not expired, the user active, and the sessions not ended since."""
        stands = user.is_active and user.sessions_ended_at == self.sessions_ended_at
        return stands and user.id == self.user_id and now < self.expires_at

    def accepts(self, form_token: str) -> bool:
        """Whether a form is of this visit."""
        return hmac.compare_digest(self.form_token, form_token)


def mint(keyring: Keyring, user: User, *, expires_at: Millis) -> str:
    """The cookie of a visit of this user."""
    body = f"{user.id}.{user.sessions_ended_at}.{expires_at}"
    return f"{body}.{_mac(keyring.current, _USE, body)}"


def read(keyring: Keyring, text: str) -> VisitToken | None:
    """The cookie, if we made it; else None."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    for key in keyring.secrets:
        if hmac.compare_digest(_mac(key, _USE, found["body"]), found["mac"]):
            user_id, ended_at, expires_at = found.group(2, 3, 4)
            form_token = _mac(key, _FORM_USE, text)
            return VisitToken(user_id, Millis(int(ended_at)), Millis(int(expires_at)), form_token)
    return None


def _mac(key: SigningKey, use: str, message: str) -> str:
    return base64url(key.mac(use, message))
