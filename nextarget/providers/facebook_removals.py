"""The signed requests that Meta sends when a person removes the app, or wants their data deleted.

A `signed_request` is a signature and a payload, both base64url: https://developers.facebook.com/docs/reference/login/signed-request
The deletion: https://developers.facebook.com/docs/development/create-an-app/app-dashboard/data-deletion-callback
"""

import hmac
import re

import orjson

from nextarget.errors import InvalidRequest
from nextarget.model import Millis, Secret
from nextarget.providers.base import RemovalRequest
from nextarget.providers.facebook_graph import id_text, whole_number
from nextarget.tokens.encoding import base64url, from_base64url

_SIGNED = re.compile(r"([A-Za-z0-9_-]{43})=?\.([A-Za-z0-9_-]{1,4096})={0,2}")
"""A signature of 32 bytes, and a payload. Some of Meta's signatures have been seen with padding."""
_ALGORITHM = "HMAC-SHA256"
_OF_A_SIGN_IN = frozenset({"code", "oauth_token"})
"""Members of the signed requests that Facebook's JavaScript SDK and canvas pages hand to browsers. They are signed with
the same secret. https://developers.facebook.com/docs/reference/login/signed-request"""


def read_signed_request(text: str, app_secret: Secret) -> RemovalRequest:
    """The person, by the id that they have in this app, and when Meta issued the request, in whole seconds.

    Raises InvalidRequest unless the request was signed with the app secret, by HMAC-SHA256, and is not of a sign-in.
    """
    found = _SIGNED.fullmatch(text)
    if found is None:
        raise _refused("it is not a signature and a payload in base64url")
    expected = base64url(hmac.digest(app_secret.encode(), found[2].encode(), "sha256"))
    if not hmac.compare_digest(found[1], expected):
        raise _refused("its signature is not of this app's secret")
    try:
        payload = orjson.loads(from_base64url(found[2]))
    except ValueError:  # orjson's error is a ValueError
        raise _refused("its payload is not JSON in base64url") from None
    if not isinstance(payload, dict):
        raise _refused("its payload is not an object")
    if str(payload.get("algorithm")).upper() != _ALGORITHM:
        raise _refused(f"its algorithm is not {_ALGORITHM}")
    if not _OF_A_SIGN_IN.isdisjoint(payload):
        raise _refused("it is of a sign-in, and not of a removal")
    subject, issued_at = id_text(payload.get("user_id")), whole_number(payload.get("issued_at"))
    if subject is None or issued_at is None:
        raise _refused("user_id or issued_at is missing")
    return RemovalRequest(subject, Millis(issued_at * 1000))


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The signed_request was refused: {reason}.", note=f"facebook signed_request: {reason}")
