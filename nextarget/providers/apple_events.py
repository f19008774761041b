"""Apple's server-to-server notifications: what they look like, and what they mean here.

https://developer.apple.com/documentation/signinwithapple/processing-changes-for-sign-in-with-apple-accounts
"""

from collections.abc import Mapping
from typing import Any

import orjson

from nextarget.errors import EventRefused
from nextarget.model import Millis
from nextarget.providers.base import EventEffect, SecurityEvent
from nextarget.providers.error_words import showable
from nextarget.providers.jwks import JwksCache
from nextarget.tokens.event_tokens import read_event_token, verify_event_token
from nextarget.tokens.provider_tokens import usable_subject

EFFECTS = {
    "consent-revoked": EventEffect.END_SESSIONS,
    "account-delete": EventEffect.DELETE,
    "account-deleted": EventEffect.DELETE,
    "email-disabled": EventEffect.NONE,
    "email-enabled": EventEffect.NONE,
}
"""Apple sends `account-delete`; it has been announced as `account-deleted` too."""
_LEAST_MILLIS = 10**11
"""Apple writes `event_time` in milliseconds, and in seconds in its example. As seconds, this is the year 5138."""
_UNKNOWN = "unknown"


async def read_notification(
    body: str, keys: JwksCache, *, client_ids: tuple[str, ...], issuers: tuple[str, ...]
) -> SecurityEvent:
    """The event in the body of Apple's request. Raises EventRefused or ProviderUnavailable."""
    token = read_event_token(_payload(body))
    claims = verify_event_token(token, await keys.keys_after(token.key_id), audiences=client_ids, issuers=issuers)
    event = _object(claims.events)
    if event is None:
        raise EventRefused("invalid_request", "events is not one event")
    event_type, subject = event.get("type"), usable_subject(event)
    if isinstance(event_type, str) and event_type in EFFECTS:
        kind, effect, detail = event_type, EFFECTS[event_type], None
        if subject is None:
            raise EventRefused("invalid_request", "the event names no person that can be recognised")
    else:
        kind, effect, detail = _UNKNOWN, EventEffect.NONE, showable(event_type)
    return SecurityEvent(claims.id, kind, effect, subject, _happened_at(event), detail)


def _payload(body: str) -> str:
    members = _object(body)
    payload = members.get("payload") if members is not None else None
    if not isinstance(payload, str):
        raise EventRefused("invalid_request", "the body is not JSON with a payload")
    return payload


def _object(value: object) -> Mapping[str, Any] | None:
    """An object that may be written as JSON in a text."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    return value if isinstance(value, dict) else None


def _happened_at(event: Mapping[str, Any]) -> Millis:
    """When the person did it. Apple may issue the notification later."""
    at = event.get("event_time")
    if type(at) is not int:
        raise EventRefused("invalid_request", "event_time is missing or not a whole number")
    return Millis(at if at >= _LEAST_MILLIS else at * 1000)
