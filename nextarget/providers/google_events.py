"""The security events of Google's Cross-Account Protection (RISC): what they look like, and what Google asks us to do.

https://developers.google.com/identity/protocols/risc
"""

from typing import Any
from urllib.parse import urlsplit

from nextarget.errors import EventRefused, ProviderFailed
from nextarget.providers.base import EventEffect, SecurityEvent
from nextarget.providers.error_words import showable
from nextarget.providers.http.client import Answer, ProviderHttp
from nextarget.providers.jwks import JwksCache
from nextarget.settings.validators import endpoint
from nextarget.tokens.event_tokens import read_event_token, verify_event_token
from nextarget.tokens.provider_tokens import usable_subject

_RISC = "https://schemas.openid.net/secevent/risc/event-type/"
_OAUTH = "https://schemas.openid.net/secevent/oauth/event-type/"
EVENT_TYPES = {
    f"{_RISC}sessions-revoked": EventEffect.END_SESSIONS,
    f"{_OAUTH}tokens-revoked": EventEffect.END_SESSIONS,
    f"{_OAUTH}token-revoked": EventEffect.NONE,
    f"{_RISC}account-disabled": EventEffect.NONE,
    f"{_RISC}account-enabled": EventEffect.NONE,
    f"{_RISC}account-credential-change-required": EventEffect.NONE,
    f"{_RISC}verification": EventEffect.NONE,
}
"""The event types that Google documents. `token-revoked` concerns a refresh token of Google's, and we keep none. An
account is disabled for a reason, of which `hijacking` ends the sessions."""
_OF_NO_PERSON = frozenset({"token-revoked", "verification"})
_SUBJECT_TYPES = frozenset({"iss-sub", "id-token-claims"})
_UNKNOWN = "unknown"


class GoogleEvents:
    """Reads the event tokens of Google that are meant for one of our clients."""

    def __init__(self, http: ProviderHttp, configuration_uri: str, client_ids: tuple[str, ...]) -> None:
        self._keys = RiscKeys(http, configuration_uri)
        self._client_ids = client_ids

    async def read(self, text: str) -> SecurityEvent:
        """Raises EventRefused or ProviderUnavailable."""
        token = read_event_token(text)
        keys = await self._keys.keys_after(token.key_id)
        issuers = self._keys.issuers
        claims = verify_event_token(token, keys, audiences=self._client_ids, issuers=issuers)
        event_type, told = _only_event(claims.events)
        kind = event_type.rpartition("/")[2] if event_type in EVENT_TYPES else _UNKNOWN
        subject = _subject(told, issuers)
        if subject is None and kind not in _OF_NO_PERSON | {_UNKNOWN}:
            raise EventRefused("invalid_request", "the event names no person that can be recognised")
        effect = EVENT_TYPES.get(event_type, EventEffect.NONE)
        if kind == "account-disabled" and told.get("reason") == "hijacking":
            effect = EventEffect.END_SESSIONS
        detail = event_type if kind == _UNKNOWN else told.get("state" if kind == "verification" else "reason")
        return SecurityEvent(claims.id, kind, effect, subject, claims.issued_at, showable(detail))


class RiscKeys(JwksCache):
    """The keys that sign the events. Google's RISC configuration says where they are, and what the issuer is called."""

    issuers: tuple[str, ...] = ()
    """The issuer without and with a slash at its end: Google writes both. Set when the keys are."""

    async def _ask(self) -> Answer:
        configuration = await self._http.get_keys(self._uri)
        issuer, jwks_uri = configuration.text("issuer"), configuration.text("jwks_uri")
        if not configuration.ok or issuer is None or jwks_uri is None:
            raise ProviderFailed(note=f"google RISC configuration: status {configuration.status}, or not complete")
        try:
            scheme = urlsplit(endpoint(jwks_uri)).scheme
        except ValueError:
            scheme = ""
        if scheme not in {"https", urlsplit(self._uri).scheme}:  # only a stand-in on this machine may lead to it
            raise ProviderFailed(note="google RISC configuration: jwks_uri is no https URL")
        answer = await self._http.get_keys(jwks_uri)
        if answer.ok:
            self.issuers = (issuer.removesuffix("/"), f"{issuer.removesuffix('/')}/")
        return answer


def _only_event(events: object) -> tuple[str, dict[str, Any]]:
    """The type of the event, and what it says. Google's guide promises one event in a token."""
    if not isinstance(events, dict) or len(events) != 1:
        raise EventRefused("invalid_request", "the token does not tell exactly one event")
    ((event_type, told),) = events.items()
    if not isinstance(told, dict):
        raise EventRefused("invalid_request", "the event is not an object")
    return event_type, told


def _subject(told: dict[str, Any], issuers: tuple[str, ...]) -> str | None:
    """Google's id of the person, as in id_tokens."""
    subject = told.get("subject")
    if not isinstance(subject, dict) or str(subject.get("subject_type")).replace("_", "-") not in _SUBJECT_TYPES:
        return None
    return usable_subject(subject) if subject.get("iss", issuers[0]) in issuers else None
