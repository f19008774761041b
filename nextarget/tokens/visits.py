"""The value of the account page's cookie, and the token in the forms of that page. Neither is stored.

A visit is the ten minutes after a sign-in at the account page, in one browser. If the sign-in gave a grant that can be
revoked, the cookie holds that too, encrypted with a key of this visit: it opens in no other one.
"""

import hmac
import re
import secrets
from dataclasses import astuple, dataclass, field

import orjson

from nextarget.model import Millis, RevocableGrant, User
from nextarget.tokens.encoding import base64url
from nextarget.tokens.keyring import Keyring, SigningKey

VISIT_SECONDS = 600
"""How long a visit lasts after its sign-in: who deletes an account must have signed in a moment ago."""
MAX_LENGTH = 1024
"""Characters of a cookie. The request header has room for it beside the cookies of logins. With a refresh token of
Apple's it has about 400."""
_USE, _FORM_USE, _GRANT_USE = "account visit", "account form", "account grant"
_BODY = r"([A-Za-z0-9_-]{1,64})\.(0|[1-9][0-9]{0,15})\.([1-9][0-9]{12})"
_FORM = re.compile(rf"(?P<visit>(?P<body>{_BODY})\.(?P<mac>[A-Za-z0-9_-]{{43}}))(?:\.(?P<sealed>[A-Za-z0-9_.-]+))?")


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
    grant: RevocableGrant | None = field(default=None, repr=False)
    """What the sign-in gave to revoke at the provider. None also if the cookie holds that of another visit."""

    def is_of(self, user: User, now: Millis) -> bool:
        """Whether the visit still stands: not expired, the user active, and the sessions not ended since."""
        stands = user.is_active and user.sessions_ended_at == self.sessions_ended_at
        return stands and user.id == self.user_id and now < self.expires_at

    def accepts(self, form_token: str) -> bool:
        """Whether a form is of this visit."""
        return hmac.compare_digest(self.form_token, form_token)


def mint(keyring: Keyring, user: User, *, expires_at: Millis, grant: RevocableGrant | None = None) -> str:
    """The cookie of a visit of this user. A grant that makes it longer than MAX_LENGTH is left out."""
    key, body = keyring.current, f"{user.id}.{user.sessions_ended_at}.{expires_at}"
    visit = f"{body}.{_mac(key, _USE, body)}"
    if grant is None:
        return visit
    salt = secrets.token_urlsafe(16)  # two visits of a user may begin in the same millisecond
    cookie = f"{visit}.{salt}.{key.seal(_GRANT_USE, f'{body}.{salt}', orjson.dumps(astuple(grant)))}"
    return cookie if len(cookie) <= MAX_LENGTH else visit


def read(keyring: Keyring, text: str) -> VisitToken | None:
    """The cookie, if we made it; else None."""
    found = _FORM.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if found is None:
        return None
    for key in keyring.secrets:
        if hmac.compare_digest(_mac(key, _USE, found["body"]), found["mac"]):
            user_id, ended_at, expires_at = found.group(3, 4, 5)
            form_token = _mac(key, _FORM_USE, found["visit"])
            grant = _opened(key, found["body"], found["sealed"]) if found["sealed"] is not None else None
            return VisitToken(user_id, Millis(int(ended_at)), Millis(int(expires_at)), form_token, grant)
    return None


def _opened(key: SigningKey, body: str, salted: str) -> RevocableGrant | None:
    salt, _, sealed = salted.partition(".")
    try:
        return RevocableGrant(*orjson.loads(key.unseal(_GRANT_USE, f"{body}.{salt}", sealed)))
    except ValueError:
        return None


def _mac(key: SigningKey, use: str, message: str) -> str:
    return base64url(key.mac(use, message))
